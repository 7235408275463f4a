//! Who holds which lock on which thing: a hash table of a fixed number of records in the region.
//!
//! A thing is named by a 128-bit hash; two things that share one merely share their locks. A record is (thing, owner,
//! mode). Nobody takes records out when an owner ends: a record whose owner has ended counts for nothing and is the first to
//! be used again by whoever adds a lock to the same chain, so a chain stays as long as its live owners are many.
//!
//! Rules:
//! 1. Everything about one bucket happens under the latch of that bucket, which the caller holds: see
//!    [`LockTable::bucket`].
//! 2. A record is in at most one chain. The list of free records is changed by compare-and-swap with a tag; a process that
//!    dies half way loses at most the record at hand.

use crate::base::ids::TxnId;
use crate::mem::region::{Layout, Part, Region};
use crate::mem::slice::SharedSlice;
use crate::mem::sync::{AtomicU32, AtomicU64, Ordering};
use crate::shared_struct;

/// The name of a thing that can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockHash(pub u128);

shared_struct! {
    struct Pool {
        /// Tag in the upper half, index plus one of the first free record in the lower.
        free: AtomicU64,
        /// Records from here on were never used.
        fresh: AtomicU64,
    }
}

shared_struct! {
    struct Record {
        high: AtomicU64,
        low: AtomicU64,
        owner: AtomicU64,
        mode: AtomicU32,
        /// Index plus one of the next record of the chain, or of the next free one.
        next: AtomicU32,
    }
}

/// Places of the table in the region.
#[derive(Clone, Copy)]
pub struct LockTableParts {
    pool: Part<Pool>,
    buckets: Part<AtomicU32>,
    records: Part<Record>,
}

/// The table.
pub struct LockTable {
    pool: SharedSlice<Pool>,
    buckets: SharedSlice<AtomicU32>,
    records: SharedSlice<Record>,
}

/// No record is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl LockTable {
    /// Lays out a table of `records` records.
    #[must_use]
    pub fn reserve(layout: &mut Layout, records: usize) -> LockTableParts {
        LockTableParts {
            pool: layout.part("lock pool", 1),
            buckets: layout.part("lock buckets", records.next_power_of_two()),
            records: layout.part("lock records", records),
        }
    }

    /// The table at `parts`.
    #[must_use]
    pub fn new(region: &Region, parts: LockTableParts) -> Self {
        Self {
            pool: SharedSlice::new(region, parts.pool),
            buckets: SharedSlice::new(region, parts.buckets),
            records: SharedSlice::new(region, parts.records),
        }
    }

    /// The bucket of `hash`: a number whose low bits choose the latch, as long as there are fewer latches than buckets and
    /// a power of two of both.
    #[must_use]
    pub fn bucket(&self, hash: LockHash) -> usize {
        (hash.0 as usize) & (self.buckets.len() - 1)
    }

    /// Number of buckets, a power of two.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    fn record(&self, link: u32) -> Option<&Record> {
        self.records.get(link.checked_sub(1)? as usize)
    }

    fn chain(&self, bucket: usize) -> impl Iterator<Item = &Record> {
        let first = self.record(self.buckets[bucket].load(Ordering::Acquire));
        std::iter::successors(first, |record| self.record(record.next.load(Ordering::Acquire)))
    }

    /// Owner and mode of every record of `hash`, ended owners among them.
    pub fn holders(&self, hash: LockHash) -> impl Iterator<Item = (TxnId, u32)> {
        self.chain(self.bucket(hash))
            .filter(move |record| record.is_of(hash))
            .map(|record| (TxnId(record.owner.load(Ordering::Relaxed)), record.mode.load(Ordering::Relaxed)))
    }

    /// Row, owner and mode of every record of a bucket, ended owners among them.
    pub fn records(&self, bucket: usize) -> impl Iterator<Item = (LockHash, TxnId, u32)> {
        self.chain(bucket).map(|record| {
            (record.hash(), TxnId(record.owner.load(Ordering::Relaxed)), record.mode.load(Ordering::Relaxed))
        })
    }

    /// Notes that `owner` holds `hash` in `mode`, or in the larger of that and the mode it had. `ended` tells whose records
    /// count for nothing.
    ///
    /// # Errors
    /// When every record is taken; `E` from `ended`.
    pub fn add<E>(
        &self,
        hash: LockHash,
        (owner, mode): (TxnId, u32),
        mut ended: impl FnMut(TxnId) -> Result<bool, E>,
    ) -> Result<Result<(), Full>, E> {
        let bucket = self.bucket(hash);
        let mut reusable = None;
        for record in self.chain(bucket) {
            let holder = TxnId(record.owner.load(Ordering::Relaxed));
            if holder == owner && record.is_of(hash) {
                record.mode.fetch_max(mode, Ordering::Relaxed);
                return Ok(Ok(()));
            }
            if reusable.is_none() && ended(holder)? {
                reusable = Some(record);
            }
        }
        if let Some(record) = reusable {
            record.set(hash, owner, mode);
            return Ok(Ok(()));
        }
        let Some(link) = self.take_free() else { return Ok(Err(Full)) };
        let record = &self.records[link as usize - 1];
        record.set(hash, owner, mode);
        record.next.store(self.buckets[bucket].load(Ordering::Relaxed), Ordering::Relaxed);
        self.buckets[bucket].store(link, Ordering::Release);
        Ok(Ok(()))
    }

    /// Frees the records of a bucket whose owners have ended; how many.
    ///
    /// # Errors
    /// From `ended`.
    pub fn sweep<E>(&self, bucket: usize, mut ended: impl FnMut(TxnId) -> Result<bool, E>) -> Result<usize, E> {
        let mut freed = 0;
        let mut link_to_here = &self.buckets[bucket];
        loop {
            let link = link_to_here.load(Ordering::Relaxed);
            let Some(record) = self.record(link) else { return Ok(freed) };
            if ended(TxnId(record.owner.load(Ordering::Relaxed)))? {
                link_to_here.store(record.next.load(Ordering::Relaxed), Ordering::Release);
                self.give_free(link);
                freed += 1;
            } else {
                link_to_here = &record.next;
            }
        }
    }

    fn take_free(&self) -> Option<u32> {
        let pool = &self.pool[0];
        let mut head = pool.free.load(Ordering::Acquire);
        while let Some(record) = self.record(head as u32) {
            let next = record.next.load(Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(next);
            match pool.free.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(head as u32),
                Err(seen) => head = seen,
            }
        }
        let fresh = pool.fresh.fetch_add(1, Ordering::Relaxed);
        if (fresh as usize) < self.records.len() {
            return Some(fresh as u32 + 1);
        }
        pool.fresh.store(self.records.len() as u64, Ordering::Relaxed);
        None
    }

    fn give_free(&self, link: u32) {
        let (pool, record) = (&self.pool[0], &self.records[link as usize - 1]);
        let mut head = pool.free.load(Ordering::Acquire);
        loop {
            record.next.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(link);
            match pool.free.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }
}

impl Record {
    fn is_of(&self, hash: LockHash) -> bool {
        self.low.load(Ordering::Relaxed) == hash.0 as u64 && self.high.load(Ordering::Relaxed) == (hash.0 >> 64) as u64
    }

    fn hash(&self) -> LockHash {
        let (low, high) = (self.low.load(Ordering::Relaxed), self.high.load(Ordering::Relaxed));
        LockHash(u128::from(high) << 64 | u128::from(low))
    }

    fn set(&self, hash: LockHash, owner: TxnId, mode: u32) {
        self.high.store((hash.0 >> 64) as u64, Ordering::Relaxed);
        self.low.store(hash.0 as u64, Ordering::Relaxed);
        self.owner.store(owner.0, Ordering::Relaxed);
        self.mode.store(mode, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn table(records: usize) -> LockTable {
        let mut layout = Layout::new();
        let parts = LockTable::reserve(&mut layout, records);
        LockTable::new(&Region::anonymous(&layout).unwrap(), parts)
    }

    fn never(_: TxnId) -> Result<bool, Infallible> {
        Ok(false)
    }

    #[test]
    fn records_of_ended_owners_are_used_again() {
        let table = table(4);
        let hash = LockHash(7);
        for owner in 1..1000 {
            table.add(hash, (TxnId(owner), 1), |other| Ok::<_, Infallible>(other.0 + 2 < owner)).unwrap().unwrap();
        }
        assert_eq!(table.holders(hash).count(), 3, "no more than were alive at once");
    }

    #[test]
    fn a_full_table_says_so_and_a_sweep_makes_room() {
        let table = table(4);
        for owner in 1..=4 {
            table.add(LockHash(owner.into()), (TxnId(owner), 1), never).unwrap().unwrap();
        }
        assert_eq!(table.add(LockHash(9), (TxnId(9), 1), never).unwrap(), Err(Full));
        let freed: usize =
            (0..table.buckets()).map(|b| table.sweep(b, |txn| Ok::<_, Infallible>(txn.0 != 2)).unwrap()).sum();
        assert_eq!(freed, 3);
        assert_eq!(table.holders(LockHash(2)).collect::<Vec<_>>(), [(TxnId(2), 1)]);
        for owner in 11..=13 {
            table.add(LockHash(owner.into()), (TxnId(owner), 1), never).unwrap().unwrap();
        }
        assert_eq!(table.add(LockHash(9), (TxnId(9), 1), never).unwrap(), Err(Full));
    }

    proptest! {
        #[test]
        fn the_table_is_a_map(steps in proptest::collection::vec((0u128..6, 1u64..8, 1u32..5, any::<bool>()), 1..80)) {
            let table = table(64);
            let mut model: BTreeMap<(u128, u64), u32> = BTreeMap::new();
            let mut ended: Vec<u64> = Vec::new();
            for (thing, owner, mode, ends) in steps {
                // Owners that have ended never come back.
                let owner = owner + 10 * ended.len() as u64;
                table.add(LockHash(thing), (TxnId(owner), mode), |txn| Ok::<_, Infallible>(ended.contains(&txn.0)))
                    .unwrap()
                    .unwrap();
                let held = model.entry((thing, owner)).or_default();
                *held = mode.max(*held);
                if ends {
                    ended.push(owner);
                    model.retain(|(_, other), _| *other != owner);
                }
                for thing in 0..6 {
                    let mut found: Vec<_> =
                        table.holders(LockHash(thing)).filter(|(txn, _)| !ended.contains(&txn.0)).collect();
                    found.sort_unstable();
                    let want: Vec<_> = model
                        .iter()
                        .filter(|((other, _), _)| *other == thing)
                        .map(|((_, owner), &mode)| (TxnId(*owner), mode))
                        .collect();
                    prop_assert_eq!(found, want);
                }
            }
        }
    }
}
