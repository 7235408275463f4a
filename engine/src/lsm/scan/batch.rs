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
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.at = 0;
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len() as u32));
    }

    pub(super) fn is_full(&self, rows: usize) -> bool {
        self.ends.len() >= rows || self.bytes.len() >= BATCH_BYTES_MAX
    }

    pub(super) fn row(&self, at: usize) -> (&[u8], &[u8]) {
        let start = if at == 0 { 0 } else { self.ends[at - 1].1 as usize };
        let (key_end, end) = self.ends[at];
        (&self.bytes[start..key_end as usize], &self.bytes[key_end as usize..end as usize])
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
