//! The clock: a hand goes round the frames, counts use counts down and takes the frame that has none left.
//!
//! After RocksDB's `HyperClockCache`. Uses raise the count for free, as the difference of pins and unpins is not touched by
//! them; the hand cuts it to a cap first, so that a block used a thousand times an hour ago does not outlive its use. Any
//! number of threads move the hand; each draws a few positions at once. Differences: the victim is handed to the caller
//! and not to a free list, caps and first counts depend on the kind of block, and a frame given back goes to its next user
//! directly.

use super::BlockKind;
use crate::mem::frames::{Frames, Owned, State, Visit};
use crate::mem::process::thread_hint;
use crate::mem::region::{Layout, Part, Region};
use crate::mem::slice::SharedSlice;
use crate::mem::sync::{AtomicU32, AtomicU64, Ordering};
use crate::shared_struct;

/// Positions that a thread draws from the hand at once. Caches smaller than [`STEP_FRAMES_MIN`] go one by one.
const STEP: u64 = 4;
const STEP_FRAMES_MIN: usize = 64;
/// Cells of drawn positions, shared by threads as the counters are.
const DRAWN: usize = 16;
/// More visits than a victim can take: each one lowers a count, and none exceeds the largest cap.
const LAPS_MAX: usize = 2 + CAP_META as usize;

/// Use counts that data blocks start with and keep at most, the load being the first use: a block that is not used again
/// before the hand comes by goes, which is what keeps scans from pushing out what is used.
const FIRST_DATA: u32 = 1;
const CAP_DATA: u32 = 4;
/// The same of index and filter blocks: one visit more. With more, and on skewed lookups of index and data, the data misses
/// grew by more than the index misses fell (docs/internals/cache.md has the rates).
const FIRST_META: u32 = 2;
const CAP_META: u32 = 5;

shared_struct! {
    /// The hand and the shelf, a cache line each.
    #[repr(align(64))]
    pub(super) struct Hand {
        position: AtomicU64,
        _apart: [AtomicU64; 7],
        /// A frame that was given back empty, plus one.
        given_back: AtomicU32,
    }
}

shared_struct! {
    /// Positions drawn and not used yet: the first one times eight, plus how many.
    #[repr(align(64))]
    pub(super) struct Drawn {
        rest: AtomicU64,
    }
}

/// Where the clock is in a region.
#[derive(Clone, Copy)]
pub(super) struct ClockParts {
    hand: Part<Hand>,
    drawn: Part<Drawn>,
}

/// This process's handle on the clock.
pub(super) struct Clock {
    hand: SharedSlice<Hand>,
    drawn: SharedSlice<Drawn>,
}

impl Clock {
    pub(super) fn reserve(layout: &mut Layout) -> ClockParts {
        ClockParts { hand: layout.part("cache hand", 1), drawn: layout.part("cache positions", DRAWN) }
    }

    pub(super) fn new(region: &Region, parts: ClockParts) -> Self {
        Self { hand: SharedSlice::new(region, parts.hand), drawn: SharedSlice::new(region, parts.drawn) }
    }

    /// The use count that a loaded block starts with.
    pub(super) fn first_uses(kind: BlockKind) -> u32 {
        if kind == BlockKind::Data { FIRST_DATA } else { FIRST_META }
    }

    /// Takes the frame whose content is missed least. `None` when all are pinned or loading.
    pub(super) fn claim<'f>(&self, frames: &'f Frames) -> Option<Owned<'f>> {
        if let Some(owned) = self.take_back(frames) {
            return Some(owned);
        }
        let count = frames.count();
        let mut busy = 0;
        for _ in 0..count * LAPS_MAX {
            let frame = (self.next_position(count) % count as u64) as u32;
            match frames.visit(frame, cap) {
                Visit::Claimed(owned) => return Some(owned),
                Visit::Aged => busy = 0,
                Visit::Busy => busy += 1,
            }
            if busy > count {
                break;
            }
        }
        // The positions of one thread need not cover all frames. Before giving up, look at each: it may be free by now,
        // or its loader may have died.
        (0..count as u32).find_map(|frame| frames.claim(frame).or_else(|| frames.claim_dead(frame)))
    }

    /// Remembers a frame that became empty, so that the next miss takes it instead of a used one.
    pub(super) fn give_back(&self, frame: u32) {
        self.hand[0].given_back.store(frame + 1, Ordering::Relaxed);
    }

    fn take_back<'f>(&self, frames: &'f Frames) -> Option<Owned<'f>> {
        let shelf = &self.hand[0].given_back;
        if shelf.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let frame = shelf.swap(0, Ordering::Relaxed).checked_sub(1)?;
        if frames.state(frame) == State::Empty { frames.claim(frame) } else { None }
    }

    fn next_position(&self, frames: usize) -> u64 {
        let hand = &self.hand[0].position;
        if frames < STEP_FRAMES_MIN {
            return hand.fetch_add(1, Ordering::Relaxed);
        }
        let rest = &self.drawn[thread_hint() as usize % DRAWN].rest;
        let drawn = rest.load(Ordering::Relaxed);
        let (position, left) = (drawn >> 3, drawn & 7);
        if left > 0 {
            let after = (position + 1) << 3 | (left - 1);
            if rest.compare_exchange(drawn, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return position;
            }
        }
        let position = hand.fetch_add(STEP, Ordering::Relaxed);
        // What another thread of this cell drew meanwhile is passed over until the next lap.
        rest.store((position + 1) << 3 | (STEP - 1), Ordering::Relaxed);
        position
    }
}

fn cap(note: u32) -> u32 {
    if note == BlockKind::Data as u32 { CAP_DATA } else { CAP_META }
}
