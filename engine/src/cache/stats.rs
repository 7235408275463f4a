//! Counts of what the cache did, per kind of block, in cells that threads seldom share.
//!
//! Each thread adds to one of [`CELLS`] cells, chosen once in its life, so that a hit does not fetch a cache line which all
//! threads write. Reading sums the cells up: exact when nothing runs, otherwise a moment's blur.

use std::sync::atomic::{AtomicU64, Ordering};

use super::BlockKind;
use crate::mem::process::thread_hint;
use crate::mem::region::{Layout, Part, Region};
use crate::mem::slice::SharedSlice;
use crate::shared_struct;

/// Cells; a power of two, about the threads that run at once on a large machine. 64 cells are 8 KiB.
const CELLS: usize = 64;
const KINDS: usize = 3;
const EVENTS: usize = 5;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Event {
    Hit = 0,
    Miss = 1,
    Insert = 2,
    Eviction = 3,
    NoFrame = 4,
}

shared_struct! {
    /// The counts of some threads: two cache lines of their own.
    #[repr(align(128))]
    pub(super) struct Counts {
        counts: [[AtomicU64; EVENTS]; KINDS],
        _spare: AtomicU64,
    }
}
const _: () = assert!(size_of::<Counts>() == 128);

/// What happened to the blocks of one kind since the region was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// Lookups that found the block.
    pub hits: u64,
    /// Lookups that did not, or found it still loading.
    pub misses: u64,
    /// Blocks loaded into a frame.
    pub inserts: u64,
    /// Blocks dropped from their frame. Inserts less evictions are the blocks in the cache.
    pub evictions: u64,
    /// Misses that got no frame, because all were pinned or loading (or the wait for another's load took too long).
    pub no_frame: u64,
}

impl KindStats {
    /// Hits per lookup, 0 to 1; 0 without lookups.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}

/// What happened in the cache since the region was made, in all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Data blocks.
    pub data: KindStats,
    /// Index blocks.
    pub index: KindStats,
    /// Filter blocks.
    pub filter: KindStats,
}

impl CacheStats {
    /// The sum over all kinds.
    #[must_use]
    pub fn total(&self) -> KindStats {
        [self.data, self.index, self.filter].iter().fold(KindStats::default(), |sum, kind| KindStats {
            hits: sum.hits + kind.hits,
            misses: sum.misses + kind.misses,
            inserts: sum.inserts + kind.inserts,
            evictions: sum.evictions + kind.evictions,
            no_frame: sum.no_frame + kind.no_frame,
        })
    }
}

/// This process's handle on the counts.
pub(super) struct Counters {
    cells: SharedSlice<Counts>,
}

impl Counters {
    pub(super) fn reserve(layout: &mut Layout) -> Part<Counts> {
        layout.part("cache counts", CELLS)
    }

    pub(super) fn new(region: &Region, part: Part<Counts>) -> Self {
        Self { cells: SharedSlice::new(region, part) }
    }

    #[inline]
    pub(super) fn add(&self, kind: BlockKind, event: Event) {
        let cell = &self.cells[thread_hint() as usize % CELLS];
        cell.counts[kind as usize][event as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> CacheStats {
        let sum = |kind: BlockKind, event: Event| {
            self.cells.iter().map(|cell| cell.counts[kind as usize][event as usize].load(Ordering::Relaxed)).sum()
        };
        let of = |kind| KindStats {
            hits: sum(kind, Event::Hit),
            misses: sum(kind, Event::Miss),
            inserts: sum(kind, Event::Insert),
            evictions: sum(kind, Event::Eviction),
            no_frame: sum(kind, Event::NoFrame),
        };
        CacheStats { data: of(BlockKind::Data), index: of(BlockKind::Index), filter: of(BlockKind::Filter) }
    }
}
