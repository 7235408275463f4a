//! What a scan has copied out of the engine: rows to serve, and the versions of a key that a backward scan puts aside.

use super::choose::Entry;

/// Bytes at which a batch is full.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// Rows copied out of the engine, packed into one buffer.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// End of the key and end of the value of each row.
    pub(super) ends: Vec<(u32, u32)>,
    /// The row that is served next.
    pub(super) at: usize,
    /// Rows at which it is full.
    pub(super) rows: usize,
    /// Rows that somebody else has the copies of, and their bytes.
    kept: (usize, usize),
}

impl Batch {
    /// An empty batch that is full at `rows` rows.
    pub(super) fn of(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.at = 0;
        self.kept = (0, 0);
    }

    /// Counts a row that somebody else has copied.
    #[inline]
    pub(super) const fn count(&mut self, row_len: usize) {
        self.kept = (self.kept.0 + 1, self.kept.1 + row_len);
    }

    /// Rows copied or counted.
    pub(super) const fn len(&self) -> usize {
        self.ends.len() + self.kept.0
    }

    #[inline]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        if self.ends.is_empty() {
            self.reserve(key.len() + value.len());
        }
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len() as u32));
    }

    /// Room for as many rows as there may be, when all are about as long as the first.
    #[cold]
    fn reserve(&mut self, row_len: usize) {
        self.bytes.reserve((self.rows * row_len).min(BATCH_BYTES_MAX + row_len));
        self.ends.reserve(self.rows);
    }

    #[inline]
    pub(super) const fn is_full(&self) -> bool {
        self.len() >= self.rows || self.bytes.len() + self.kept.1 >= BATCH_BYTES_MAX
    }

    #[inline]
    pub(super) fn row(&self, at: usize) -> (&[u8], &[u8]) {
        let start = if at == 0 { 0 } else { self.ends[at - 1].1 as usize };
        let (key_end, end) = self.ends[at];
        (&self.bytes[start..key_end as usize], &self.bytes[key_end as usize..end as usize])
    }

    /// Key of the row pushed last; empty when there is none.
    #[inline]
    pub(super) fn last_key(&self) -> &[u8] {
        self.ends.len().checked_sub(1).map_or(&[], |last| self.row(last).0)
    }
}

/// The versions of one key, oldest first, as a backward scan meets them.
#[derive(Default)]
pub(super) struct Versions {
    pub(super) key: Vec<u8>,
    bytes: Vec<u8>,
    /// What each is, and where its value ends.
    entries: Vec<(Entry, usize)>,
}

impl Versions {
    pub(super) fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.key.clear();
        self.forget();
    }

    pub(super) fn forget(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    pub(super) fn push(&mut self, entry: Entry, value: &[u8]) {
        if entry == Entry::Value {
            self.bytes.extend_from_slice(value);
        }
        self.entries.push((entry, self.bytes.len()));
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = (Entry, &[u8])> {
        (0..self.entries.len()).rev().map(|at| {
            let start = if at == 0 { 0 } else { self.entries[at - 1].1 };
            let (entry, end) = self.entries[at];
            (entry, &self.bytes[start..end])
        })
    }
}
