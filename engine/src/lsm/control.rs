//! The control words of an engine in the shared region: what every thread and process must agree on.
//!
//! Invariants:
//! 1. `generation` moves after every change of `memtables` or of the version; a pin of generation `g` sees nothing that was
//!    dropped before `g`.
//! 2. `visible` is the largest sequence number such that every write up to it is in a memtable. It never goes back.
//! 3. `memtables` holds 4-bit indices (plus one; 0 ends the list), newest first: the lowest nibble is the active memtable.
//! 4. `version` and `manifest_bytes` move together, under the manifest claim; whoever holds an older version applies the
//!    manifest's tail.

use crate::mem::sync::{AtomicU32, AtomicU64, Ordering};

use crate::mem::lock::{Event, FutexLock};
use crate::shared_struct;

shared_struct! {
    /// See the module's invariants.
    pub struct Control {
        /// Moves with every change of what a reader can reach.
        pub generation: AtomicU64,
        /// Largest sequence number that readers may see.
        pub visible: AtomicU64,
        /// The memtables, newest first, four bits each.
        pub memtables: AtomicU64,
        /// Set while a rotation waits for the writers of the old memtable.
        pub writers_blocked: AtomicU32,
        /// 0 fresh, 1 recovery has finished and everyone may work, 2 shut after a failure, 3 closed. It only rises.
        pub state: AtomicU32,
        _pad: [AtomicU64; 4],
        /// Number of the newest version.
        pub version: AtomicU64,
        /// The manifest file that holds it.
        pub manifest_number: AtomicU64,
        /// Length of that file up to and including the newest edit.
        pub manifest_bytes: AtomicU64,
        /// Next file number to hand out.
        pub next_file: AtomicU64,
        /// Bytes per second that writers are slowed to; 0 is no limit.
        pub write_rate: AtomicU64,
        /// Free bytes of the disk at the last look; `u64::MAX` until then.
        pub disk_free: AtomicU64,
        /// When that was, in milliseconds of the environment's clock.
        pub disk_checked_ms: AtomicU64,
        /// Set while writes are refused because the disk is nearly full.
        pub disk_full: AtomicU32,
        /// Set once a row lock did not fit the table of the region.
        pub locks_spilled: AtomicU32,
        /// Held by whoever switches the active memtable.
        pub rotation: FutexLock,
        /// Held by whoever flushes the oldest memtable; may be held over I/O.
        pub flush: FutexLock,
        /// Held by whoever picks jobs or appends to the manifest; may be held over I/O.
        pub manifest: FutexLock,
        /// Signalled when background work may have become possible.
        pub work: Event,
        /// Signalled when a flush or compaction has finished, or writers were unblocked.
        pub progress: Event,
    }
}

/// Values of [`Control::state`].
pub mod state {
    /// Nobody has recovered the engine yet.
    pub const FRESH: u32 = 0;
    /// Open for work.
    pub const READY: u32 = 1;
    /// Shut for writing after a failure; the engine must be opened anew.
    pub const POISONED: u32 = 2;
    /// Closed by the process that opened it: nobody may read or write any more.
    pub const CLOSED: u32 = 3;
}

impl Control {
    /// Marks a change of what readers can reach; returns the new generation.
    pub fn advance_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The next unused file number.
    pub fn take_file_number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// Shuts the engine for writing and wakes everybody who waits.
    pub fn poison(&self) {
        self.raise_state(state::POISONED);
    }

    /// Ends the engine for every process and wakes everybody who waits.
    pub fn close(&self) {
        self.raise_state(state::CLOSED);
    }

    fn raise_state(&self, state: u32) {
        self.state.fetch_max(state, Ordering::SeqCst);
        self.progress.notify();
        self.work.notify();
    }

    /// Whether row locks may be in the tree that takes what the table has no room for.
    pub fn has_spilled_locks(&self) -> bool {
        self.locks_spilled.load(Ordering::SeqCst) != 0
    }

    /// Notes that a row lock goes to that tree.
    pub fn note_spilled_locks(&self) {
        self.locks_spilled.store(1, Ordering::SeqCst);
    }

    /// Whether the engine was shut for writing, or closed.
    pub fn is_poisoned(&self) -> bool {
        self.state.load(Ordering::Acquire) >= state::POISONED
    }

    /// Whether the engine was closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == state::CLOSED
    }
}

/// The memtables of one moment, newest first, as indices into the memtable array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemtableList(pub u64);

impl MemtableList {
    /// The indices, newest first.
    pub fn indices(self) -> impl DoubleEndedIterator<Item = usize> + Clone {
        let word = self.0;
        (0..self.len()).map(move |at| (((word >> (4 * at)) & 0xF) - 1) as usize)
    }

    /// Number of memtables.
    #[must_use]
    pub const fn len(self) -> usize {
        (64 - self.0.leading_zeros() as usize).div_ceil(4)
    }

    /// Whether there is no memtable (before recovery).
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The active memtable.
    ///
    /// # Panics
    /// Before the first memtable was made active.
    #[must_use]
    pub fn active(self) -> usize {
        assert!(self.0 != 0, "no active memtable");
        ((self.0 & 0xF) - 1) as usize
    }

    /// The oldest memtable, when it is not the active one.
    #[must_use]
    pub fn oldest_immutable(self) -> Option<usize> {
        if self.len() < 2 { None } else { self.indices().next_back() }
    }

    /// The list with `index` made active.
    #[must_use]
    pub fn with_active(self, index: usize) -> Self {
        assert!(self.len() < 16, "too many memtables");
        Self((self.0 << 4) | (index as u64 + 1))
    }

    /// The list without its oldest entry.
    #[must_use]
    pub fn without_oldest(self) -> Self {
        let keep = 4 * (self.len() - 1);
        Self(self.0 & ((1u64 << keep) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_in_front_and_shrink_behind() {
        let mut list = MemtableList(0);
        assert!(list.is_empty() && list.oldest_immutable().is_none());
        for index in [3, 0, 14] {
            list = list.with_active(index);
        }
        assert_eq!(list.indices().collect::<Vec<_>>(), [14, 0, 3]);
        assert_eq!((list.active(), list.oldest_immutable(), list.len()), (14, Some(3), 3));
        list = list.without_oldest();
        assert_eq!(list.indices().collect::<Vec<_>>(), [14, 0]);
        list = list.without_oldest();
        assert_eq!((list.active(), list.oldest_immutable()), (14, None));
    }
}
