//! Builds the payload of a data block from entries that arrive in order.

use crate::base::key::{Trailer, common_prefix_len};

use super::{BUCKET_COLLISION, BUCKET_EMPTY, BUCKET_RESTARTS_MAX, COUNTS_LEN, RESTART_LEN, bucket_of, entry};

/// Collects entries; [`finish`](Self::finish) gives the payload. Reusable.
pub struct BlockBuilder {
    limit: usize,
    interval: usize,
    hash_index: bool,
    /// Key halves of the entries; the whole payload in the end.
    out: Vec<u8>,
    values: Vec<u8>,
    /// Offsets of key half and value of each restart.
    restarts: Vec<(u16, u16)>,
    /// Hash and restart interval of each key, once per interval it occurs in.
    hashes: Vec<(u64, usize)>,
    buckets: Vec<u8>,
    last_key: Vec<u8>,
    last_trailer: Trailer,
    count: u32,
}

impl BlockBuilder {
    /// A builder of blocks of at most `limit` bytes with a restart every `interval` entries.
    ///
    /// # Panics
    /// When `limit` exceeds `BLOCK_SIZE_MAX` or `interval` is 0.
    #[must_use]
    pub fn new(limit: usize, interval: usize, hash_index: bool) -> Self {
        assert!(limit <= crate::base::limits::BLOCK_SIZE_MAX && interval > 0, "block options out of range");
        Self {
            limit,
            interval,
            hash_index,
            out: Vec::with_capacity(limit + COUNTS_LEN),
            values: Vec::with_capacity(limit),
            restarts: Vec::new(),
            hashes: Vec::new(),
            buckets: Vec::new(),
            last_key: Vec::new(),
            last_trailer: Trailer::MAX,
            count: 0,
        }
    }

    /// Entries so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether the block has no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The key added last; empty when there is none.
    #[must_use]
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// The trailer added last.
    #[must_use]
    pub const fn last_trailer(&self) -> Trailer {
        self.last_trailer
    }

    /// Bytes of the payload if it ended here.
    #[must_use]
    pub fn size(&self) -> usize {
        Self::size_of(self.out.len() + self.values.len(), self.restarts.len(), self.hashes.len())
    }

    const fn size_of(entries: usize, restarts: usize, hashes: usize) -> usize {
        entries + RESTART_LEN * restarts + buckets_for(hashes) + COUNTS_LEN
    }

    /// Adds an entry, unless the block has entries and would grow beyond its limit: then returns false and is unchanged.
    /// `hash` is the key's hash; unused without a hash index.
    ///
    /// The caller makes sure that entries strictly rise.
    pub fn add(&mut self, key: &[u8], hash: u64, trailer: Trailer, value: &[u8]) -> bool {
        let restart = (self.count as usize).is_multiple_of(self.interval);
        let mut shared = if self.is_empty() { 0 } else { common_prefix_len(&self.last_key, key) };
        let new_key = self.is_empty() || shared != key.len() || shared != self.last_key.len();
        let new_hash = usize::from(self.hash_index && (new_key || restart));
        if restart {
            shared = 0;
        }
        let added = entry::len_bound(shared, key.len() - shared, value.len(), trailer);
        let entries = self.out.len() + self.values.len() + added;
        let restarts = self.restarts.len() + usize::from(restart);
        if !self.is_empty() && Self::size_of(entries, restarts, self.hashes.len() + new_hash) > self.limit {
            return false;
        }
        if restart {
            let offset = |len| u16::try_from(len).expect("entries of a block start below its limit");
            self.restarts.push((offset(self.out.len()), offset(self.values.len())));
        }
        if new_hash == 1 {
            self.hashes.push((hash, self.restarts.len() - 1));
        }
        entry::push(&mut self.out, shared, &key[shared..], trailer, value.len());
        self.values.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.last_trailer = trailer;
        self.count += 1;
        true
    }

    /// The payload. [`reset`](Self::reset) before the next block.
    pub fn finish(&mut self) -> &[u8] {
        let keys_len = self.out.len() as u32;
        self.out.extend_from_slice(&self.values);
        for (key, value) in &self.restarts {
            self.out.extend_from_slice(&key.to_le_bytes());
            self.out.extend_from_slice(&value.to_le_bytes());
        }
        self.fill_buckets();
        self.out.extend_from_slice(&self.buckets);
        self.out.extend_from_slice(&keys_len.to_le_bytes());
        self.out.extend_from_slice(&(self.restarts.len() as u16).to_le_bytes());
        self.out.extend_from_slice(&(self.buckets.len() as u16).to_le_bytes());
        self.out.extend_from_slice(&self.count.to_le_bytes());
        &self.out
    }

    fn fill_buckets(&mut self) {
        self.buckets.clear();
        if self.restarts.len() > BUCKET_RESTARTS_MAX {
            return;
        }
        self.buckets.resize(buckets_for(self.hashes.len()), BUCKET_EMPTY);
        for &(hash, restart) in &self.hashes {
            let bucket = &mut self.buckets[bucket_of(hash, buckets_for(self.hashes.len()))];
            *bucket = match *bucket {
                BUCKET_EMPTY => restart as u8,
                taken if usize::from(taken) == restart => taken,
                _ => BUCKET_COLLISION,
            };
        }
    }

    /// Empties the builder for the next block.
    pub fn reset(&mut self) {
        self.out.clear();
        self.values.clear();
        self.restarts.clear();
        self.hashes.clear();
        self.last_key.clear();
        self.last_trailer = Trailer::MAX;
        self.count = 0;
    }
}

/// Buckets for `keys` keys: three quarters full.
const fn buckets_for(keys: usize) -> usize {
    (keys * 4).div_ceil(3)
}
