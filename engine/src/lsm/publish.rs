//! Makes finished commits visible in the order of their sequence numbers.
//!
//! The log hands out tickets in sequence order. A writer that has inserted its batch marks its ticket done; whoever finds
//! the lowest unpublished ticket done moves `visible` past it, for itself or for others. Nobody leads, nobody is woken to
//! do it.
//!
//! Invariants:
//! 1. `visible` covers exactly the commits whose tickets, and all lower ones, are done.
//! 2. A slot is reused only after its ticket was published: at most one writer per pin cell is between taking a ticket and
//!    publishing it, and there are more slots than pin cells.

use crate::mem::sync::{AtomicU64, Ordering};

use crate::base::ids::SeqNo;
use crate::shared_struct;

/// Slots of the ring; more than there are pin cells (see invariant 2).
pub const SLOTS: usize = 1024;

shared_struct! {
    struct Slot {
        /// Ticket plus one of the commit that is done.
        done: AtomicU64,
        /// One past its last sequence number.
        end: AtomicU64,
    }
}

shared_struct! {
    /// The ring of commits that are done but may not be visible yet.
    pub struct PublishQueue {
        next: AtomicU64,
        _pad: [AtomicU64; 7],
        slots: [Slot; SLOTS],
    }
}

impl PublishQueue {
    /// Marks `ticket` done, whose commit ends before sequence number `end`, and moves `visible` (the largest visible
    /// sequence number) as far as it goes.
    pub fn finish(&self, ticket: u64, end: SeqNo, visible: &AtomicU64) {
        let slot = &self.slots[ticket as usize % SLOTS];
        slot.end.store(end.0, Ordering::Relaxed);
        slot.done.store(ticket + 1, Ordering::SeqCst);
        self.advance(visible);
    }

    fn advance(&self, visible: &AtomicU64) {
        loop {
            let next = self.next.load(Ordering::SeqCst);
            let slot = &self.slots[next as usize % SLOTS];
            if slot.done.load(Ordering::SeqCst) != next + 1 {
                return;
            }
            let end = slot.end.load(Ordering::Relaxed);
            if self.next.compare_exchange(next, next + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                visible.fetch_max(end - 1, Ordering::SeqCst);
            }
        }
    }

    /// Starts at `ticket`; only before anybody writes.
    pub fn start_at(&self, ticket: u64) {
        self.next.store(ticket, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::region::{Layout, Region};

    #[test]
    fn commits_become_visible_in_order() {
        let mut layout = Layout::new();
        let part = layout.part::<PublishQueue>("publish", 1);
        let region = Region::anonymous(&layout).unwrap();
        let queue = &region.part(part)[0];
        let visible = AtomicU64::new(0);
        queue.finish(1, SeqNo(6), &visible);
        assert_eq!(visible.load(Ordering::Relaxed), 0, "ticket 0 is not done");
        queue.finish(0, SeqNo(3), &visible);
        assert_eq!(visible.load(Ordering::Relaxed), 5, "both");
        for ticket in 2..3 * SLOTS as u64 {
            queue.finish(ticket, SeqNo(ticket + 10), &visible);
            assert_eq!(visible.load(Ordering::Relaxed), ticket + 9);
        }
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::mem::region::{Layout, Region};
    use crate::mem::sync::model::check;

    /// Commits are done in any order; readers see only what is complete, nothing goes back, and nobody is left behind.
    ///
    /// Seen to fail with: `done` stored before `end` (a commit is published with the end of another); `visible` stored
    /// instead of `fetch_max` (it goes back); `advance` without its loop (the last commit is never published); `advance`
    /// without its look at `done` (a commit shows before it is complete).
    #[test]
    fn commits_show_complete_and_in_order() {
        const WRITERS: u64 = 3;
        check(4000, || {
            let mut layout = Layout::new();
            let part = layout.part::<PublishQueue>("publish", 1);
            let region = Region::anonymous(&layout).unwrap();
            let shared = Arc::new((AtomicU64::new(0), [const { AtomicU64::new(0) }; WRITERS as usize]));
            let writers: Vec<_> = (0..WRITERS)
                .map(|ticket| {
                    let (region, shared) = (region.clone(), shared.clone());
                    shuttle::thread::spawn(move || {
                        // Ticket t has the numbers 2t + 1 and 2t + 2.
                        shared.1[ticket as usize].store(1, Ordering::SeqCst);
                        region.part(part)[0].finish(ticket, SeqNo(2 * ticket + 3), &shared.0);
                    })
                })
                .collect();
            let mut before = 0;
            for _ in 0..4 {
                let visible = shared.0.load(Ordering::SeqCst);
                assert!(visible >= before && visible.is_multiple_of(2), "{visible} after {before}");
                let complete = |ticket: &u64| shared.1[*ticket as usize].load(Ordering::SeqCst) == 1;
                assert!((0..visible / 2).all(|ticket| complete(&ticket)), "{visible} is visible");
                before = visible;
            }
            writers.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(shared.0.load(Ordering::SeqCst), 2 * WRITERS, "all are published");
        });
    }
}
