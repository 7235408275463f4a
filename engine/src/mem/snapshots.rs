//! The registered snapshots: sequence numbers at which somebody may still read, which garbage collection must spare.
//!
//! A cell is two words: the owner's process id (0: free) and the sequence number plus one (0: none yet).
//!
//! 1. The owner is claimed before the number is stored and released after it was cleared, so a cell with a number has an
//!    owner whose death can be noticed.
//! 2. A snapshot has the number `S` only after `visible` was read as `S` *after* the cell said `S`. Both accesses are
//!    sequentially consistent, and `list` starts with a sequentially consistent fence. So if a collector reads `visible`
//!    as `V` and then calls `list`, a snapshot that `list` misses has `S >= V`: missed means that the fence precedes the
//!    cell's publication, which precedes the read of `S`; had the collector read a larger `V` before the fence, the read
//!    of `S` would precede the fence. A collector that treats `V` as one more snapshot therefore never drops a version
//!    that a snapshot, listed or not, may read.
//! 3. A cell may show a number smaller than its snapshot's while it is being registered. That only spares more.

use super::process::{current_pid, process_alive};
use super::region::{Layout, Part, Region};
use super::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::base::ids::SeqNo;
use crate::shared_struct;

shared_struct! {
    /// One snapshot. Registered seldom and read together, so four share a cache line.
    #[repr(align(16))]
    struct SnapshotSlot {
        number: AtomicU64,
        owner: AtomicU32,
    }
}

const FREE: u32 = 0;
const NONE: u64 = 0;

/// Place of a snapshot table in the region.
#[derive(Clone, Copy)]
pub struct SnapshotParts {
    slots: Part<SnapshotSlot>,
}

/// A process-local view of the table. Clones are cheap and equal.
#[derive(Clone)]
pub struct Snapshots {
    region: Region,
    slots: Part<SnapshotSlot>,
}

/// A registered snapshot. It stays registered until it is given to [`Snapshots::release`], or its process is dead.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a snapshot that is not released holds garbage back for ever"]
pub struct SnapshotHandle {
    index: u32,
    seqno: SeqNo,
}

impl SnapshotHandle {
    /// What the snapshot sees: everything up to this number.
    #[must_use]
    pub const fn seqno(&self) -> SeqNo {
        self.seqno
    }
}

impl Snapshots {
    /// Lays out a table of `cells` snapshots.
    pub fn reserve(layout: &mut Layout, cells: usize) -> SnapshotParts {
        SnapshotParts { slots: layout.part("snapshots", cells.clamp(1, u32::MAX as usize)) }
    }

    /// The table at `parts`.
    #[must_use]
    pub fn new(region: &Region, parts: SnapshotParts) -> Self {
        Self { region: region.clone(), slots: parts.slots }
    }

    fn slots(&self) -> &[SnapshotSlot] {
        self.region.part(self.slots)
    }

    /// Registers a snapshot at the current value of `visible`, which must never decrease. `None` when the table is full.
    #[must_use]
    pub fn register(&self, visible: &AtomicU64) -> Option<SnapshotHandle> {
        let me = current_pid();
        let claim = |slot: &SnapshotSlot| {
            slot.owner.load(Ordering::Relaxed) == FREE
                && slot.owner.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let index = self.slots().iter().position(claim)?;
        let number = &self.slots()[index].number;
        let mut seqno = visible.load(Ordering::SeqCst);
        loop {
            number.swap(seqno + 1, Ordering::SeqCst);
            let now = visible.load(Ordering::SeqCst);
            if now == seqno {
                return Some(SnapshotHandle { index: index as u32, seqno: SeqNo(seqno) });
            }
            seqno = now;
        }
    }

    /// Ends a snapshot.
    pub fn release(&self, handle: SnapshotHandle) {
        Self::clear(&self.slots()[handle.index as usize]);
    }

    fn clear(slot: &SnapshotSlot) {
        slot.number.store(NONE, Ordering::Release);
        slot.owner.store(FREE, Ordering::Release);
    }

    /// Replaces `out` by the numbers of all registered snapshots, ascending, each once. Read `visible` before the call and
    /// count it as a snapshot, too (invariant 2).
    pub fn list(&self, out: &mut Vec<SeqNo>) {
        fence(Ordering::SeqCst);
        out.clear();
        let numbers = self.slots().iter().map(|slot| slot.number.load(Ordering::SeqCst));
        out.extend(numbers.filter(|&number| number != NONE).map(|number| SeqNo(number - 1)));
        out.sort_unstable();
        out.dedup();
    }

    /// Ends the snapshots of dead processes; returns how many.
    pub fn reap_dead(&self) -> usize {
        let me = current_pid();
        let mut known_alive = me;
        let mut reaped = 0;
        for slot in self.slots() {
            let owner = slot.owner.load(Ordering::Acquire);
            if owner == FREE || owner == known_alive {
                continue;
            }
            if process_alive(owner) {
                known_alive = owner;
            } else if slot.owner.compare_exchange(owner, me, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // The slot is ours now: no other reaper touches it, and if we die here we are reaped in turn.
                Self::clear(slot);
                reaped += 1;
            }
        }
        reaped
    }
}

#[cfg(test)]
mod tests;
