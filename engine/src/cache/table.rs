//! Finds the frame of a block: buckets of slots that are read without a lock.
//!
//! A slot is one word: 32 bits of the key's hash and the frame's index plus one; zero is free. The key itself stands in the
//! frame, where the reader, once it has pinned the frame, compares it: there it cannot change any more.
//!
//! 1. A slot is filled only under its bucket's lock, after a look through the whole bucket. So two threads that miss the
//!    same block cannot both enter it.
//! 2. A slot is freed without the lock, by the owner of its frame, before the frame gets another name.
//! 3. Under the lock one store changes the bucket, so a process that dies there leaves it whole: its blocks are found
//!    and freed as ever. But the lock is dead, and no block enters the bucket any more.
//!
//! A bucket is two cache lines, which the processor fetches as a pair. A key has a home line, taken while it has room: a
//! hit reads one line, a miss both. Slots are four to a frame, so a bucket holds 3.75 blocks in the mean, and more than its
//! 15 with a probability of 2·10⁻⁶ (Poisson); a block that finds its bucket full is not cached.

use super::BlockKey;
use crate::mem::lock::FutexLock;
use crate::mem::region::{Layout, Part, Region};
use crate::mem::slice::{SharedSlice, prefetch};
use crate::mem::sync::{AtomicU32, AtomicU64, Ordering};
use crate::shared_struct;

const SLOTS: usize = 15;
/// Slots that share the first line with the lock.
const FIRST_LINE: usize = 7;
const SLOTS_PER_FRAME: usize = 4;

shared_struct! {
    /// Fifteen slots and their lock.
    #[repr(align(128))]
    pub(super) struct Bucket {
        lock: FutexLock,
        _spare: AtomicU32,
        slots: [AtomicU64; SLOTS],
    }
}
const _: () = assert!(size_of::<Bucket>() == 128);

/// The hash of a block's key: the table's alone, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHash(u64);

impl BlockHash {
    /// One wide multiplication, folded, as in wyhash.
    #[inline]
    pub(super) fn of(key: BlockKey) -> Self {
        let wide = u128::from(key.file.0 ^ 0x9E37_79B9_7F4A_7C15) * u128::from(key.offset ^ 0xD6E8_FEB8_6659_FD93);
        Self((wide >> 64) as u64 ^ wide as u64)
    }

    const fn tag(self) -> u32 {
        self.0 as u32
    }

    const fn slot(self, frame: u32) -> u64 {
        (self.tag() as u64) << 32 | (frame as u64 + 1)
    }
}

/// What became of an attempt to enter a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// The frame can be found now.
    Done,
    /// Another frame of that key is there already.
    Present,
    /// The bucket has no free slot, or its lock is dead.
    Full,
}

/// This process's handle on the table.
pub(super) struct Table {
    buckets: SharedSlice<Bucket>,
}

impl Table {
    /// Buckets for `frames` frames.
    pub(super) fn reserve(layout: &mut Layout, frames: usize) -> Part<Bucket> {
        layout.part("cache table", (frames * SLOTS_PER_FRAME).div_ceil(SLOTS))
    }

    pub(super) fn new(region: &Region, part: Part<Bucket>) -> Self {
        Self { buckets: SharedSlice::new(region, part) }
    }

    #[inline]
    fn bucket(&self, hash: BlockHash) -> Option<&Bucket> {
        let index = ((hash.0 >> 32) * self.buckets.len() as u64) >> 32;
        self.buckets.get(index as usize)
    }

    /// Calls `look` with each frame that may hold the key, until it returns something.
    #[inline]
    pub(super) fn find<R>(&self, hash: BlockHash, mut look: impl FnMut(u32) -> Option<R>) -> Option<R> {
        let (first, second) = self.bucket(hash)?.lines(hash);
        let tag = hash.tag();
        let mut scan = |slots: &[AtomicU64]| {
            slots.iter().find_map(|slot| {
                let seen = slot.load(Ordering::Acquire);
                ((seen >> 32) as u32 == tag && seen as u32 != 0).then(|| look(seen as u32 - 1))?
            })
        };
        scan(first).or_else(|| scan(second))
    }

    /// Has the processor fetch what a look for this hash reads first.
    #[inline]
    pub(super) fn prefetch(&self, hash: BlockHash) {
        if let Some(bucket) = self.bucket(hash) {
            prefetch(bucket.lines(hash).0.as_ptr());
        }
    }

    /// Enters `frame`, unless `is_same` says of a frame that it has the key already.
    pub(super) fn enter(&self, hash: BlockHash, frame: u32, is_same: impl Fn(u32) -> bool) -> Entered {
        let Some(bucket) = self.bucket(hash) else { return Entered::Full };
        let Ok(_guard) = bucket.lock.lock() else { return Entered::Full };
        if self.find(hash, |other| is_same(other).then_some(())).is_some() {
            return Entered::Present;
        }
        let (first, second) = bucket.lines(hash);
        let Some(free) = first.iter().chain(second).find(|slot| slot.load(Ordering::Relaxed) == 0) else {
            return Entered::Full;
        };
        free.store(hash.slot(frame), Ordering::Release);
        Entered::Done
    }

    /// Makes `frame` unknown under a key of this hash. For the frame's owner only.
    pub(super) fn remove(&self, hash: BlockHash, frame: u32) {
        let Some(bucket) = self.bucket(hash) else { return };
        let entry = hash.slot(frame);
        for slot in &bucket.slots {
            if slot.load(Ordering::Relaxed) == entry {
                // The owner is alone in knowing this frame; a failure means that the slot is free already.
                let _ = slot.compare_exchange(entry, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}

impl Bucket {
    /// The slots of the key's home line, then those of the other.
    #[inline]
    fn lines(&self, hash: BlockHash) -> (&[AtomicU64], &[AtomicU64]) {
        let (first, second) = self.slots.split_at(FIRST_LINE);
        if hash.0 & 1 == 0 { (first, second) } else { (second, first) }
    }
}

#[cfg(test)]
impl Table {
    /// How many slots are taken.
    pub(super) fn entries(&self) -> usize {
        let slots = self.buckets.iter().flat_map(|bucket| &bucket.slots);
        slots.filter(|slot| slot.load(Ordering::Relaxed) != 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::FileNumber;

    fn table(frames: usize) -> Table {
        let mut layout = Layout::new();
        let part = Table::reserve(&mut layout, frames);
        Table::new(&Region::anonymous(&layout).unwrap(), part)
    }

    fn key(file: u64, offset: u64) -> BlockKey {
        BlockKey { file: FileNumber(file), offset }
    }

    #[test]
    fn enters_once_finds_and_removes() {
        let table = table(8);
        let hash = BlockHash::of(key(1, 4096));
        let all = |hash| {
            let mut frames = Vec::new();
            let none: Option<()> = table.find(hash, |frame| {
                frames.push(frame);
                None
            });
            assert!(none.is_none());
            frames
        };
        assert_eq!(table.enter(hash, 3, |_| true), Entered::Done);
        assert_eq!(table.enter(hash, 4, |frame| frame == 3), Entered::Present);
        assert_eq!(table.enter(hash, 5, |_| false), Entered::Done, "another key of the same hash");
        assert_eq!(all(hash), [3, 5]);
        table.remove(hash, 3);
        table.remove(hash, 3);
        assert_eq!(all(hash), [5]);
        assert_eq!(all(BlockHash::of(key(1, 8192))), []);
    }

    #[test]
    fn a_full_bucket_refuses() {
        let table = table(1);
        let hash = BlockHash::of(key(1, 0));
        for frame in 0..SLOTS as u32 {
            assert_eq!(table.enter(hash, frame, |_| false), Entered::Done);
        }
        assert_eq!(table.enter(hash, 99, |_| false), Entered::Full);
        table.remove(hash, 7);
        assert_eq!(table.enter(hash, 99, |_| false), Entered::Done);
    }

    #[test]
    fn files_of_equal_blocks_spread_over_the_buckets() {
        let frames = 30_000;
        let table = table(frames);
        let mut refused = 0;
        for frame in 0..frames as u32 {
            let key = key(u64::from(frame / 1000), u64::from(frame % 1000) * 4096);
            refused += usize::from(table.enter(BlockHash::of(key), frame, |_| false) == Entered::Full);
        }
        assert!(refused <= 2, "{refused} refused");
    }

    #[test]
    fn without_buckets_nothing_is_found() {
        let table = table(0);
        let hash = BlockHash::of(key(1, 0));
        assert_eq!(table.enter(hash, 0, |_| false), Entered::Full);
        assert!(table.find(hash, Some).is_none());
        table.remove(hash, 0);
    }
}
