//! The pin table: which generations somebody is still reading or writing under.
//!
//! A pin is a claimed cell that holds the generation its owner works under. Whatever was dropped by the change that made
//! generation `H` may be reused once every active pin is of `H` or later: `oldest().is_none_or(|g| g >= H)`.
//!
//! 1. A cell's word is 0 (free) or carries generation, writer flag and process id together, so a cell is never taken
//!    without its owner being known.
//! 2. A pin's cell never holds a generation larger than the one the pin has, and changes only through its owner (or, when
//!    the owner's process is dead, through [`PinTable::reap_dead`]).
//! 3. A pin has generation `G` only after `generation` was read as `G` *after* the cell said `G` or less. Both accesses are
//!    sequentially consistent, and `oldest` starts with a sequentially consistent fence. So if a reclaimer changed the
//!    generation to `H > G` before it called `oldest`, and `oldest` missed the cell, then in the single order S of those
//!    operations: the read of `G` precedes the fence (it missed `H`), the fence precedes the cell's publication (it was
//!    missed), and the publication precedes the read of `G`: a cycle. Hence `oldest` returns `G` or less.
//! 4. Whoever makes generation `H` publishes the new state first and then stores `H` with at least release order, so that
//!    a pin of `H` or later sees the new state.
//!
//! Pins belong to the process that took them: a child made by `fork` must not drop its copy of a parent's pin.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::process::{PID_BITS, current_pid, process_alive};
use super::region::{Layout, Part, Region};
use super::sync::{AtomicU64, Ordering, fence, yield_now};
use crate::shared_struct;

const PID: u64 = (1 << PID_BITS) - 1;
const WRITER: u64 = 1 << PID_BITS;
const GENERATION_SHIFT: u32 = PID_BITS + 1;

/// Largest generation that fits beside writer flag and process id: 2⁴¹, seventy years of a thousand changes a second.
pub const GENERATION_MAX: u64 = u64::MAX >> GENERATION_SHIFT;

/// Full turns around a table without a free cell before cells of dead readers are looked for.
const TURNS_BEFORE_REAPING: u32 = 64;

shared_struct! {
    /// One pin, on a cache line of its own, so that threads do not slow each other down.
    #[repr(align(64))]
    struct PinCell {
        word: AtomicU64,
    }
}

/// Place of a pin table in the region.
#[derive(Clone, Copy)]
pub struct PinParts {
    cells: Part<PinCell>,
}

/// A process-local view of the table. Clones are cheap and equal.
#[derive(Clone)]
pub struct PinTable {
    region: Region,
    cells: Part<PinCell>,
}

/// Cells that were cleared because their process is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Pins of readers: nothing else to do.
    pub readers: usize,
    /// Pins of writers: what they were writing is unfinished.
    pub writers: usize,
}

/// A generation held: nothing that is part of it is reused before this is dropped.
#[must_use]
pub struct Pin<'a> {
    cell: &'a PinCell,
    generation: u64,
    /// The word of the cell without its generation.
    owner: u64,
}

thread_local! {
    /// Where this thread found a free cell last; usually it is free again.
    static HINT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// A first guess that spreads the threads of all processes over the table.
#[cold]
fn first_hint() -> usize {
    let here = HINT.with(|hint| std::ptr::from_ref(hint).addr()) as u64;
    let mixed = (here ^ (u64::from(current_pid()) << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 33) as usize
}

fn word(generation: u64, owner: u64) -> u64 {
    debug_assert!(generation <= GENERATION_MAX, "generation does not fit");
    (generation << GENERATION_SHIFT) | owner
}

/// Stores the current generation into a cell we own that holds `published`, until it stays current (invariant 3).
#[inline]
fn settle(cell: &PinCell, owner: u64, mut published: u64, generation: &AtomicU64) -> u64 {
    loop {
        let now = generation.load(Ordering::SeqCst);
        if now == published {
            return now;
        }
        cell.word.swap(word(now, owner), Ordering::SeqCst);
        published = now;
    }
}

impl PinTable {
    /// Lays out a table of `cells` pins: at least one for each thread that may be inside the engine at once.
    pub fn reserve(layout: &mut Layout, cells: usize) -> PinParts {
        PinParts { cells: layout.part("pins", cells.max(1)) }
    }

    /// The table at `parts`.
    #[must_use]
    pub fn new(region: &Region, parts: PinParts) -> Self {
        Self { region: region.clone(), cells: parts.cells }
    }

    fn cells(&self) -> &[PinCell] {
        self.region.part(self.cells)
    }

    /// Holds the current `generation` until the pin is dropped. Waits (yielding) while all cells are taken.
    #[inline]
    pub fn pin(&self, generation: &AtomicU64, writer: bool) -> Pin<'_> {
        let owner = u64::from(current_pid()) | if writer { WRITER } else { 0 };
        let guess = generation.load(Ordering::Acquire);
        let cells = self.cells();
        let mut at = HINT.get();
        if at >= cells.len() {
            at = first_hint() % cells.len();
            HINT.set(at);
        }
        let cell = &cells[at];
        let claimed = cell.word.compare_exchange(0, word(guess, owner), Ordering::SeqCst, Ordering::Relaxed);
        let cell = if claimed.is_ok() { cell } else { self.claim_elsewhere(at, word(guess, owner)) };
        Pin { cell, generation: settle(cell, owner, guess, generation), owner }
    }

    #[cold]
    fn claim_elsewhere(&self, from: usize, word: u64) -> &PinCell {
        let cells = self.cells();
        for turn in 1u32.. {
            for step in 1..=cells.len() {
                let at = (from + step) % cells.len();
                let cell = &cells[at];
                let free = cell.word.load(Ordering::Relaxed) == 0;
                if free && cell.word.compare_exchange(0, word, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                    HINT.set(at);
                    return cell;
                }
            }
            if turn.is_multiple_of(TURNS_BEFORE_REAPING) {
                self.reap(false);
            }
            yield_now();
        }
        unreachable!("the loop above counts to four billion yields")
    }

    /// The smallest generation of all active pins. Anything dropped by a change of the generation up to this one, made
    /// before the call, has no reader left.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.smallest(|_| true)
    }

    /// The smallest generation of the active pins of writers.
    #[must_use]
    pub fn oldest_writer(&self) -> Option<u64> {
        self.smallest(|word| word & WRITER != 0)
    }

    /// Who has pins, and the smallest generation of each; for whoever wants to know what is waited for.
    #[must_use]
    pub fn owners(&self) -> Vec<(u32, u64)> {
        let mut owners = BTreeMap::new();
        for word in self.cells().iter().map(|cell| cell.word.load(Ordering::SeqCst)).filter(|&word| word != 0) {
            let oldest = owners.entry((word & PID) as u32).or_insert(u64::MAX);
            *oldest = (*oldest).min(word >> GENERATION_SHIFT);
        }
        owners.into_iter().collect()
    }

    fn smallest(&self, counts: impl Fn(u64) -> bool) -> Option<u64> {
        fence(Ordering::SeqCst);
        let words = self.cells().iter().map(|cell| cell.word.load(Ordering::SeqCst));
        words.filter(|&word| word != 0 && counts(word)).map(|word| word >> GENERATION_SHIFT).min()
    }

    /// Clears the pins of dead processes.
    pub fn reap_dead(&self) -> Reaped {
        self.reap(true)
    }

    /// Clears the pins of process `pid`, which is this one on its way out: nothing of it runs any more.
    pub fn release_process(&self, pid: u32) {
        for cell in self.cells() {
            let word = cell.word.load(Ordering::Acquire);
            if word != 0 && (word & PID) as u32 == pid {
                cell.word.store(0, Ordering::Release);
            }
        }
    }

    fn reap(&self, writers_too: bool) -> Reaped {
        let mut reaped = Reaped::default();
        let mut known_alive = current_pid();
        for cell in self.cells() {
            let word = cell.word.load(Ordering::Acquire);
            let (pid, writer) = ((word & PID) as u32, word & WRITER != 0);
            if word == 0 || pid == known_alive || (writer && !writers_too) {
                continue;
            }
            if process_alive(pid) {
                known_alive = pid;
            } else if cell.word.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                *(if writer { &mut reaped.writers } else { &mut reaped.readers }) += 1;
            }
        }
        reaped
    }
}

impl Pin<'_> {
    /// The generation held.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Moves on to the current `generation` (of the same word as before). Whatever was read before is no longer held.
    #[inline]
    pub fn refresh(&mut self, generation: &AtomicU64) {
        self.generation = settle(self.cell, self.owner, self.generation, generation);
    }
}

impl Drop for Pin<'_> {
    #[inline]
    fn drop(&mut self) {
        self.cell.word.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
