//! Layer 3: the block cache. Fixed frames in the region, shared by every thread and process.
//!
//! A lookup finds the frame in the table (`cache/table.rs`), pins it with one addition to its word (`mem/frames.rs`) and
//! compares the key there; dropping the [`Frame`] is one more addition. A miss claims a frame through the policy, enters
//! it in the table while it is loading, loads, and publishes; whoever looks the block up meanwhile sleeps on the frame.
//!
//! 1. A frame is in the table under its own key only, from before its load until it is claimed for another block.
//! 2. A key has at most one frame that is loading or visible.
//! 3. Whoever owns a loading frame waits for nobody, except inside `load`: see [`BlockCache::get_or_load`].
//!
//! docs/internals/cache.md has the whole picture.

use std::ops::Deref;

use crate::base::ids::FileNumber;
use crate::base::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};
use crate::error::Result;
use crate::mem::frames::{FrameParts, Frames, Owned, Pin, State};
use crate::mem::region::{Layout, Part, Region};
use crate::mem::sync::{AtomicU32, Ordering};

use self::clock::{Clock, ClockParts};
use self::lru::Lru;
use self::stats::{Counters, Event};
use self::table::{BlockHash, Entered, Table};

pub use self::stats::{CacheStats, KindStats};

mod clock;
mod lru;
mod stats;
mod table;

#[cfg(test)]
mod tests;

/// Names a block: a file and the offset of the block in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey {
    /// The SST.
    pub file: FileNumber,
    /// Offset of the stored block in the file (for pieces of a block larger than a frame: plus the piece's index).
    pub offset: u64,
}

/// What a block is, for statistics and for how dearly it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockKind {
    /// Entries of a table.
    Data = 0,
    /// A partition of an index; kept longer than data.
    Index = 1,
    /// A partition of a filter; kept longer than data.
    Filter = 2,
}

/// A pinned block: derefs to the block's bytes, which do not change while it lives. Never held across engine calls.
pub struct Frame<'c> {
    pin: Pin<'c>,
}

impl Deref for Frame<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.pin
    }
}

/// Where a block was found last, kept by whoever asks for it again and again: a look there first saves the one into the
/// table. Knows nothing for sure.
#[derive(Debug, Default)]
pub struct Hint {
    /// The frame's number plus one.
    frame: AtomicU32,
}

/// Fills a frame: gets the frame's full memory, returns the count of bytes that are the block. The memory holds the bytes
/// of some earlier block.
pub type Loader<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<usize>;

/// Which block makes room for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Use counts, counted down by a hand that goes round: hits take no lock.
    #[default]
    Clock,
    /// The least recently used one: hits take a short lock. For comparison; it knows no priorities.
    Lru,
}

/// Size and policy of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes of all frames; rounded down to whole frames. With fewer bytes than one frame the cache is always empty.
    /// Bookkeeping adds about 100 bytes per frame.
    pub bytes: usize,
    /// Bytes of a frame: a power of two from [`BLOCK_SIZE_MIN`] to [`BLOCK_SIZE_MAX`].
    pub frame_bytes: usize,
    /// The replacement policy.
    pub policy: Policy,
}

#[derive(Clone, Copy)]
enum PolicyParts {
    Clock(ClockParts),
    Lru(Part<lru::Shard>),
}

/// Where the cache is in a region.
#[derive(Clone, Copy)]
pub struct CacheParts {
    frames: FrameParts,
    table: Part<table::Bucket>,
    counters: Part<stats::Counts>,
    policy: PolicyParts,
}

enum Replacement {
    Clock(Clock),
    Lru(Lru),
}

/// The cache: this process's handle on it.
pub struct BlockCache {
    frames: Frames,
    table: Table,
    counters: Counters,
    policy: Replacement,
}

/// Sleeps of a tenth of a second on another's load, before a reader gives up and reads privately.
const WAITS_MAX: u32 = 10;

enum Found<'c> {
    Pinned(Pin<'c>),
    Loading(u32),
    Absent,
}

impl BlockCache {
    /// Adds a cache to `layout`.
    ///
    /// # Panics
    /// When `options.frame_bytes` is not as it says, or there are 2³² frames.
    pub fn reserve(layout: &mut Layout, options: &CacheOptions) -> CacheParts {
        let CacheOptions { bytes, frame_bytes, policy } = *options;
        let in_range = (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&frame_bytes);
        assert!(in_range && frame_bytes.is_power_of_two(), "frames of {frame_bytes} bytes");
        let frames = bytes / frame_bytes;
        assert!(frames < u32::MAX as usize, "{frames} frames");
        CacheParts {
            table: Table::reserve(layout, frames),
            counters: Counters::reserve(layout),
            policy: match policy {
                Policy::Clock => PolicyParts::Clock(Clock::reserve(layout)),
                Policy::Lru => PolicyParts::Lru(Lru::reserve(layout, frames)),
            },
            frames: Frames::reserve(layout, "cache", frames, frame_bytes),
        }
    }

    /// A handle on the cache `parts` of `region`; any number of them, in any number of processes, may be used at once.
    #[must_use]
    pub fn new(region: &Region, parts: CacheParts) -> Self {
        Self {
            frames: Frames::new(region, parts.frames),
            table: Table::new(region, parts.table),
            counters: Counters::new(region, parts.counters),
            policy: match parts.policy {
                PolicyParts::Clock(parts) => Replacement::Clock(Clock::new(region, parts)),
                PolicyParts::Lru(part) => Replacement::Lru(Lru::new(region, part)),
            },
        }
    }

    /// A cache in a region of its own, private to this process.
    ///
    /// # Errors
    /// I/O when the memory is refused.
    pub fn private(options: &CacheOptions) -> Result<Self> {
        let mut layout = Layout::new();
        let parts = Self::reserve(&mut layout, options);
        Ok(Self::new(&Region::anonymous(&layout)?, parts))
    }

    /// The block, pinned, when it is cached.
    #[must_use]
    pub fn get(&self, key: BlockKey, kind: BlockKind) -> Option<Frame<'_>> {
        match self.find(key, BlockHash::of(key)) {
            Found::Pinned(pin) => Some(self.hit(pin, kind)),
            Found::Loading(_) | Found::Absent => {
                self.counters.add(kind, Event::Miss);
                None
            }
        }
    }

    /// As [`get`](Self::get), but not being there does not count as a miss: the caller comes back with a way to load it.
    #[must_use]
    pub fn peek(&self, key: BlockKey, kind: BlockKind) -> Option<Frame<'_>> {
        match self.find(key, BlockHash::of(key)) {
            Found::Pinned(pin) => Some(self.hit(pin, kind)),
            Found::Loading(_) | Found::Absent => None,
        }
    }

    /// Has the processor fetch what it will need of the block `next`, which has so many bytes, if that is cached, and for finding the block
    /// `later`: a walk over blocks would wait for memory several times at each of them.
    #[inline]
    pub fn prefetch(&self, (next, len): (BlockKey, usize), later: Option<BlockKey>) {
        let there = self.table.find(BlockHash::of(next), Some);
        there.into_iter().for_each(|frame| self.frames.prefetch(frame, len));
        later.into_iter().for_each(|later| self.table.prefetch(BlockHash::of(later)));
    }

    /// The block, pinned; when it is not cached `load` fills a frame with it first. Concurrent callers for one block wait
    /// for a single load. `None` when no frame could be had (all pinned): read the block privately.
    ///
    /// `load` may panic. It must not leave an operation in flight that writes to the frame later. It may look up other
    /// blocks; should two loads come to wait for each other, or `load` ask for its own block, one gets `None` after a
    /// second.
    ///
    /// # Errors
    /// What `load` returned; the frame is then free again.
    ///
    /// # Panics
    /// When `load` returns more bytes than a frame has.
    pub fn get_or_load(&self, key: BlockKey, kind: BlockKind, load: Loader<'_>) -> Result<Option<Frame<'_>>> {
        let hash = BlockHash::of(key);
        match self.find(key, hash) {
            Found::Pinned(pin) => Ok(Some(self.hit(pin, kind))),
            found => self.load_missing(key, hash, kind, found, load),
        }
    }

    /// As [`get_or_load`](Self::get_or_load), with a look to where `hint` says that the block was the last time.
    ///
    /// # Errors
    /// As `get_or_load`.
    #[inline]
    pub fn get_or_load_hinted(
        &self,
        key: BlockKey,
        kind: BlockKind,
        hint: &Hint,
        load: Loader<'_>,
    ) -> Result<Option<Frame<'_>>> {
        let (name, frame) = ([key.file.0, key.offset], hint.frame.load(Ordering::Relaxed).wrapping_sub(1));
        // A pin of another block's frame would be two wasted operations on a line that others need: so the name first.
        if (frame as usize) < self.frames.count()
            && self.frames.name(frame) == name
            && let Ok(pin) = self.frames.pin(frame)
        {
            if pin.name() == name {
                return Ok(Some(self.hit(pin, kind)));
            }
            pin.unpin_unused();
        }
        let found = self.get_or_load(key, kind, load)?;
        if let Some(found) = &found {
            hint.frame.store(found.pin.frame() + 1, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Whether there are frames that never held a block, or were given back: another block would push out none.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let KindStats { inserts, evictions, .. } = self.stats().total();
        inserts.saturating_sub(evictions) < self.frames.count() as u64
    }

    /// Puts in a block of a file that nobody reads yet. The block may be left out: that costs a read later.
    pub fn offer(&self, key: BlockKey, kind: BlockKind, bytes: &[u8]) {
        if bytes.len() > self.frame_len() {
            return;
        }
        let Some(owned) = self.claim() else { return };
        let Ok(filling) = self.enter(owned, [key.file.0, key.offset], BlockHash::of(key), kind) else { return };
        let mut copy = |out: &mut [u8]| {
            out[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        };
        // The copy cannot fail, and dropping the frame unpins it.
        drop(filling.run(kind, &mut copy));
    }

    /// Bytes of one frame: the largest block that can be cached.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.frames.frame_bytes()
    }

    /// The blocks of a file that was deleted make room before all others. Its number must never be used again; the
    /// blocks need not be gone when this returns. Looks at every frame: a background job's work.
    pub fn erase_file(&self, file: FileNumber) {
        for frame in 0..self.frames.count() as u32 {
            if self.frames.state(frame) != State::Visible || self.frames.name(frame)[0] != file.0 {
                continue;
            }
            let Ok(pin) = self.frames.pin(frame) else { continue };
            // Only now the name is sure to be that of this frame's block.
            if pin.name()[0] == file.0 {
                pin.hide();
            }
            pin.unpin_unused();
            if self.frames.state(frame) == State::Invisible
                && let Some(owned) = self.frames.claim(frame)
            {
                self.clear_and_give_back(owned);
            }
        }
    }

    /// What happened so far, in all processes.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.counters.sum()
    }

    #[inline]
    fn find(&self, key: BlockKey, hash: BlockHash) -> Found<'_> {
        let name = [key.file.0, key.offset];
        let look = |frame| match self.frames.pin(frame) {
            Ok(pin) if pin.name() == name => Some(Found::Pinned(pin)),
            Ok(other) => {
                other.unpin_unused();
                None
            }
            Err(State::Loading) if self.frames.name(frame) == name => Some(Found::Loading(frame)),
            Err(_) => None,
        };
        self.table.find(hash, look).unwrap_or(Found::Absent)
    }

    #[inline]
    fn hit<'c>(&'c self, pin: Pin<'c>, kind: BlockKind) -> Frame<'c> {
        self.counters.add(kind, Event::Hit);
        self.used(pin)
    }

    #[inline]
    fn used<'c>(&'c self, pin: Pin<'c>) -> Frame<'c> {
        if let Replacement::Lru(lru) = &self.policy {
            lru.touch(&self.frames, pin.frame());
        }
        Frame { pin }
    }

    #[cold]
    #[inline(never)]
    fn load_missing<'c>(
        &'c self,
        key: BlockKey,
        hash: BlockHash,
        kind: BlockKind,
        mut found: Found<'c>,
        load: Loader<'_>,
    ) -> Result<Option<Frame<'c>>> {
        self.counters.add(kind, Event::Miss);
        let name = [key.file.0, key.offset];
        let mut waits = 0;
        loop {
            match found {
                Found::Pinned(pin) => return Ok(Some(self.used(pin))),
                Found::Loading(frame) => {
                    if !self.frames.wait(frame, name) {
                        if let Some(orphan) = self.frames.claim_dead(frame) {
                            self.clear_and_give_back(orphan);
                        }
                        waits += 1;
                        if waits == WAITS_MAX {
                            break;
                        }
                    }
                }
                Found::Absent => match self.claim().map(|owned| self.enter(owned, name, hash, kind)) {
                    Some(Ok(filling)) => return filling.run(kind, load).map(Some),
                    // Somebody else was first, or has just left the table: look again.
                    Some(Err(Entered::Present)) => {}
                    Some(Err(Entered::Full | Entered::Done)) | None => break,
                },
            }
            found = self.find(key, hash);
        }
        self.counters.add(kind, Event::NoFrame);
        Ok(None)
    }

    /// A frame that is in no table, owned.
    fn claim(&self) -> Option<Owned<'_>> {
        let owned = match &self.policy {
            Replacement::Clock(clock) => clock.claim(&self.frames),
            Replacement::Lru(lru) => lru.claim(&self.frames),
        }?;
        self.clear(&owned);
        Some(owned)
    }

    fn enter<'c>(
        &'c self,
        mut owned: Owned<'c>,
        name: [u64; 2],
        hash: BlockHash,
        kind: BlockKind,
    ) -> Result<Filling<'c>, Entered> {
        owned.set_name(name, kind as u32);
        let frame = owned.frame();
        let is_same = |other| {
            let is_there = matches!(self.frames.state(other), State::Loading | State::Visible);
            is_there && other != frame && self.frames.name(other) == name
        };
        match self.table.enter(hash, frame, is_same) {
            Entered::Done => Ok(Filling { cache: self, hash, owned: Some(owned) }),
            refused => {
                drop(owned);
                self.give_back(frame);
                Err(refused)
            }
        }
    }

    /// Takes the old content of a claimed frame out of the table and the books.
    fn clear(&self, owned: &Owned<'_>) {
        let before = owned.before();
        if before == State::Empty {
            return;
        }
        let [file, offset] = owned.name();
        self.table.remove(BlockHash::of(BlockKey { file: FileNumber(file), offset }), owned.frame());
        if before != State::Loading {
            let kind = [BlockKind::Data, BlockKind::Index, BlockKind::Filter][owned.note().min(2) as usize];
            self.counters.add(kind, Event::Eviction);
        }
    }

    fn clear_and_give_back(&self, owned: Owned<'_>) {
        self.clear(&owned);
        let frame = owned.frame();
        drop(owned);
        self.give_back(frame);
    }

    fn give_back(&self, frame: u32) {
        match &self.policy {
            Replacement::Clock(clock) => clock.give_back(frame),
            Replacement::Lru(lru) => lru.give_back(&self.frames, frame),
        }
    }
}

/// A frame that is entered in the table and being loaded. Dropping it, as an error or a panic does, undoes both.
struct Filling<'c> {
    cache: &'c BlockCache,
    hash: BlockHash,
    owned: Option<Owned<'c>>,
}

impl<'c> Filling<'c> {
    fn run(mut self, kind: BlockKind, load: Loader<'_>) -> Result<Frame<'c>> {
        let owned = self.owned.as_mut().expect("taken at the end of this function only");
        let bytes = owned.bytes_mut();
        let len = load(bytes)?;
        assert!(len <= bytes.len(), "a loader filled {len} bytes of a frame of {}", bytes.len());
        let owned = self.owned.take().expect("it was there three lines above");
        self.cache.counters.add(kind, Event::Insert);
        Ok(Frame { pin: owned.publish(len, Clock::first_uses(kind)) })
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let Some(owned) = self.owned.take() else { return };
        let frame = owned.frame();
        self.cache.table.remove(self.hash, frame);
        drop(owned);
        self.cache.give_back(frame);
    }
}
