//! A hash index in the region over the keys of a list that grows: it tells where the newest entry of a key is, or that there is none,
//! for one cache line and a look at the entry, instead of a search. Keys are added by many threads and processes while others ask.
//!
//! A key's hash picks a bucket of sixteen slots, which is a cache line. A slot is one word: the place of an entry in units of eight
//! bytes below, and above, in the bits that places of this list do not need, a *tag*: bits of the key's hash. Zero is an empty slot.
//! Slots of a bucket fill from the first on. A key that finds its bucket full is not added: then the bucket cannot tell.
//!
//! Invariants:
//! 1. A slot is for one key, for good; its place only changes to that of a newer entry of the key.
//! 2. A key has one slot at most: who adds it passes only slots that are other keys', and takes the first empty one or looks at it
//!    again.
//! 3. So a bucket that has an empty slot has a slot for each key that was added and hashes to it.
//! 4. An entry is complete and linked into its list before it is added (release), and added before it is published: who may see it and
//!    finds its key (acquire) finds it, or a newer one.
//! 5. A process that dies before it adds an entry has not published it.

use super::region::{Layout, Part, Region};
use super::slice::{SharedSlice, prefetch};
use super::sync::{AtomicU32, Ordering};
use crate::shared_struct;

const SLOTS: usize = 16;
/// Places are multiples of this.
const UNIT: u32 = 8;

shared_struct! {
    #[repr(align(64))]
    struct Bucket {
        slots: [AtomicU32; SLOTS],
    }
}

/// Place of an index in the region.
#[derive(Clone, Copy)]
pub struct KeyIndexParts {
    buckets: Part<Bucket>,
    place_bits: u32,
}

/// A process-local handle of an index.
pub struct KeyIndex {
    buckets: SharedSlice<Bucket>,
    /// The bits of a slot that are its place.
    place_mask: u32,
}

/// What an index knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The newest of its entries that was added is here.
    At(u32),
    /// It has none that was added.
    Absent,
    /// Its bucket is full of others: nothing.
    Nothing,
}

/// What the entry that a slot names is for one that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Another key's.
    Other,
    /// An older one of the same key.
    Older,
    /// A newer one of the same key, or itself.
    AsNew,
}

impl KeyIndex {
    /// Adds an index of about `keys` slots to `layout`, for a list whose places are below `places` (at most 4 GiB).
    pub fn reserve(layout: &mut Layout, name: &str, keys: usize, places: usize) -> KeyIndexParts {
        let units = (places / UNIT as usize).max(2);
        KeyIndexParts {
            buckets: layout.part(&format!("{name}.index"), keys.div_ceil(SLOTS).max(1)),
            place_bits: (usize::BITS - (units - 1).leading_zeros()).min(u32::BITS - UNIT.trailing_zeros()),
        }
    }

    /// The index at `parts`; empty in a fresh region.
    #[must_use]
    pub fn new(region: &Region, parts: KeyIndexParts) -> Self {
        Self { buckets: SharedSlice::new(region, parts.buckets), place_mask: (1 << parts.place_bits) - 1 }
    }

    #[inline]
    fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[(((hash >> 32) * self.buckets.len() as u64) >> 32) as usize]
    }

    /// Has the processor fetch what a look at keys with this hash will read first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch(self.bucket(hash));
    }

    /// The place in `slot`, if its tag is that of `hash`.
    #[inline]
    const fn place(&self, slot: u32, hash: u64) -> Option<u32> {
        if (slot ^ hash as u32) & !self.place_mask == 0 { Some((slot & self.place_mask) * UNIT) } else { None }
    }

    /// Where the newest entry of a key with this hash is. `is_it` says whether the entry at a place is the key's.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Known {
        for slot in &self.bucket(hash).slots {
            let slot = slot.load(Ordering::Acquire);
            if slot == 0 {
                return Known::Absent;
            }
            if let Some(place) = self.place(slot, hash)
                && is_it(place)
            {
                return Known::At(place);
            }
        }
        Known::Nothing
    }

    /// Adds the entry at `place`, of a key with this hash. `relation` says what the entry at another place is for it.
    #[inline]
    pub fn add(&self, hash: u64, place: u32, relation: impl Fn(u32) -> Relation) {
        let new = (hash as u32 & !self.place_mask) | (place / UNIT);
        for slot in &self.bucket(hash).slots {
            let mut old = slot.load(Ordering::Acquire);
            loop {
                let relation = match self.place(old, hash) {
                    _ if old == 0 => Relation::Older,
                    Some(place) => relation(place),
                    None => Relation::Other,
                };
                match relation {
                    Relation::Other => break,
                    Relation::AsNew => return,
                    Relation::Older => match slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return,
                        Err(now) => old = now,
                    },
                }
            }
        }
    }

    /// Forgets all keys. Only when nobody else uses the index.
    pub fn reset(&self) {
        for bucket in self.buckets.iter() {
            for slot in &bucket.slots {
                slot.store(0, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::checksum::key_hash;

    /// Entries are numbers here: entry `n` of key `n % keys`, the larger the newer.
    struct Numbers {
        keys: u32,
        index: KeyIndex,
    }

    impl Numbers {
        fn new(keys: u32, slots: usize, places: usize) -> Self {
            let mut layout = Layout::new();
            let parts = KeyIndex::reserve(&mut layout, "test", slots, places);
            Self { keys, index: KeyIndex::new(&Region::anonymous(&layout).unwrap(), parts) }
        }

        fn hash(key: u32) -> u64 {
            key_hash(&key.to_le_bytes())
        }

        fn add(&self, number: u32) {
            self.index.add(Self::hash(number % self.keys), number * UNIT, |place| match place / UNIT {
                other if other % self.keys != number % self.keys => Relation::Other,
                other if other < number => Relation::Older,
                _ => Relation::AsNew,
            });
        }

        fn find(&self, key: u32) -> Known {
            self.index.find(Self::hash(key), |place| place / UNIT % self.keys == key)
        }
    }

    #[test]
    fn names_the_newest_of_each_key() {
        // A whole tag, next to none, and one that must be shared by many.
        for places in [8 << 10, 1 << 20, 1 << 32] {
            let numbers = Numbers::new(1000, 4000, places);
            assert_eq!(numbers.find(7), Known::Absent);
            // Number 0 would be no place.
            for number in [1000, 3007, 2007, 1007, 2007, 1008] {
                if (number as usize) * 8 < places {
                    numbers.add(number);
                }
            }
            let newest = [3007, 1007].into_iter().find(|&number| number as usize * 8 < places);
            assert_eq!(numbers.find(7), newest.map_or(Known::Absent, |number| Known::At(number * UNIT)));
            assert_eq!(numbers.find(9), Known::Absent);
            numbers.index.reset();
            assert_eq!(numbers.find(7), Known::Absent);
        }
    }

    #[test]
    fn a_full_bucket_knows_whom_it_has_and_nothing_of_others() {
        let numbers = Numbers::new(100, 1, 1 << 20);
        (100..200).for_each(|number| numbers.add(number));
        (200..300).for_each(|number| numbers.add(number));
        for key in 0..100 {
            let expected = if key < SLOTS as u32 { Known::At((200 + key) * UNIT) } else { Known::Nothing };
            assert_eq!(numbers.find(key), expected);
        }
    }

    #[test]
    fn threads_that_add_the_same_keys_leave_the_newest() {
        const KEYS: u32 = 500;
        let numbers = Numbers::new(KEYS, 4 * KEYS as usize, 1 << 24);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let numbers = &numbers;
                scope.spawn(move || {
                    (1..40).for_each(|round| {
                        (0..KEYS).for_each(|key| numbers.add((round * 4 + thread) * KEYS + key));
                    })
                });
            }
        });
        for key in 0..KEYS {
            assert_eq!(numbers.find(key), Known::At(((39 * 4 + 3) * KEYS + key) * UNIT));
        }
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::mem::sync::model::check;

    /// Threads add entries of keys that share a bucket, all but two of its slots being taken; who has added one finds it or a newer one,
    /// unless the bucket was full.
    #[test]
    fn a_key_has_one_slot_which_grows_newer() {
        const KEYS: u32 = 16;
        check(2000, || {
            let mut layout = Layout::new();
            let parts = KeyIndex::reserve(&mut layout, "test", 1, 1 << 20);
            let index = Arc::new(KeyIndex::new(&Region::anonymous(&layout).unwrap(), parts));
            // Entry `n` is of key `n % KEYS`; all have one hash, and so one bucket and one tag.
            let relation = |number: u32, other: u32| match other / UNIT {
                other if other % KEYS != number % KEYS => Relation::Other,
                other if other < number => Relation::Older,
                _ => Relation::AsNew,
            };
            for key in 2..KEYS {
                index.add(7, (KEYS + key) * UNIT, |other| relation(KEYS + key, other));
            }
            let adds: [&[u32]; 3] = [&[16, 48], &[32, 17], &[33, 64]];
            let running: Vec<_> = adds
                .into_iter()
                .map(|numbers| {
                    let index = Arc::clone(&index);
                    shuttle::thread::spawn(move || {
                        for &number in numbers {
                            index.add(7, number * UNIT, |other| relation(number, other));
                            let found = index.find(7, |place| place / UNIT % KEYS == number % KEYS);
                            assert!(matches!(found, Known::At(place) if place >= number * UNIT), "{found:?}");
                        }
                    })
                })
                .collect();
            running.into_iter().for_each(|thread| thread.join().unwrap());
            for (key, newest) in [(0, 64), (1, 33)] {
                assert_eq!(index.find(7, |place| place / UNIT % KEYS == key), Known::At(newest * UNIT));
            }
            let taken: Vec<_> = index.buckets[0].slots.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
            assert!(taken.iter().all(|&slot| slot != 0), "each of sixteen keys has one: {taken:?}");
        });
    }
}
