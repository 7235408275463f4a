//! A Bloom filter in the region that grows with what it describes: keys are added by many threads and processes while others
//! ask. It tells a reader that a memtable does not have a key, for one cache line instead of a search.
//!
//! The filter is an array of words. A key's hash picks one word and four of its bits, so adding is one atomic operation and
//! asking is one load.
//!
//! Invariants:
//! 1. Bits are set before the entry they stand for is published, and never cleared while readers may ask: who can see the
//!    entry sees its bits.
//! 2. A process that dies after setting bits leaves a filter that says "perhaps" once too often, nothing worse.

use super::region::{Layout, Part, Region};
use super::slice::SharedSlice;
use super::sync::{AtomicU64, Ordering};

/// Place of a filter in the region.
#[derive(Clone, Copy)]
pub struct KeyFilterParts {
    words: Part<AtomicU64>,
}

/// A process-local handle of a filter.
pub struct KeyFilter {
    words: SharedSlice<AtomicU64>,
}

/// The bits of `hash` in its word. The word is picked by the upper half of the hash, the bits by the lower.
#[inline]
const fn bits_of(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63)
}

impl KeyFilter {
    /// Adds a filter of about `bytes` bytes to `layout`. At twenty bits a key one key in three hundred that was not added
    /// is taken for one that was; at ten, one in forty.
    pub fn reserve(layout: &mut Layout, name: &str, bytes: usize) -> KeyFilterParts {
        KeyFilterParts { words: layout.part(&format!("{name}.filter"), (bytes / size_of::<AtomicU64>()).max(1)) }
    }

    /// The filter at `parts`; empty in a fresh region.
    #[must_use]
    pub fn new(region: &Region, parts: KeyFilterParts) -> Self {
        Self { words: SharedSlice::new(region, parts.words) }
    }

    #[inline]
    fn word(&self, hash: u64) -> &AtomicU64 {
        &self.words[(((hash >> 32) * self.words.len() as u64) >> 32) as usize]
    }

    /// Adds a key by its hash, before its entry is published.
    #[inline]
    pub fn add(&self, hash: u64) {
        let (word, bits) = (self.word(hash), bits_of(hash));
        if word.load(Ordering::Relaxed) & bits != bits {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// Whether a key with this hash may have been added; false is certain.
    #[inline]
    #[must_use]
    pub fn may_have(&self, hash: u64) -> bool {
        let bits = bits_of(hash);
        self.word(hash).load(Ordering::Relaxed) & bits == bits
    }

    /// Forgets all keys. Only when nobody else uses the filter.
    pub fn reset(&self) {
        for word in self.words.iter() {
            word.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::checksum::key_hash;

    fn hash(number: u64) -> u64 {
        key_hash(&number.to_le_bytes())
    }

    #[test]
    fn has_what_was_added_and_little_else() {
        let mut layout = Layout::new();
        let parts = KeyFilter::reserve(&mut layout, "test", 20 * 10_000 / 8);
        let filter = KeyFilter::new(&Region::anonymous(&layout).unwrap(), parts);
        assert!(!filter.may_have(hash(0)));
        for number in 0..10_000 {
            filter.add(hash(number));
        }
        assert!((0..10_000).all(|number| filter.may_have(hash(number))));
        let wrong = (10_000..110_000).filter(|&number| filter.may_have(hash(number))).count();
        assert!(wrong < 600, "{wrong} of 100 000");
        filter.reset();
        assert!(!(0..10_000).any(|number| filter.may_have(hash(number))));
    }

    #[test]
    fn a_filter_of_one_word_works() {
        let mut layout = Layout::new();
        let parts = KeyFilter::reserve(&mut layout, "test", 0);
        let filter = KeyFilter::new(&Region::anonymous(&layout).unwrap(), parts);
        filter.add(u64::MAX);
        assert!(filter.may_have(u64::MAX) && !filter.may_have(0));
    }
}
