//! Frames of raw memory in the region, each guarded by one atomic word: many readers that pinned it, or one owner.
//!
//! This file makes the only references into frame memory. The word and its changes are in `frames/word.rs`; what a frame is
//! *for* (names, the policy, the table) is the cache's business.
//!
//! Rules:
//! 1. A frame is written through an [`Owned`] only. An `Owned` is made by the compare-exchange that moves the word from
//!    a claimable value (empty, or visible or invisible without pins) to loading, or from a loading word of a dead
//!    process to one of ours. Loading ends only through its `Owned`, so at most one exists per frame.
//! 2. A frame is read through a [`Pin`] only. A `Pin` is made by an addition that found the word visible, or by the
//!    `Owned` that published it. A word with a pin is not claimable: acquired and released differ until the pin's drop.
//! 3. So no `&mut` to a frame's memory coexists with another reference to it, in this process or another.
//! 4. Publishing releases and pinning acquires; unpinning releases and claiming acquires. Every access to the bytes is
//!    thus ordered with the accesses of the holders before and after.
//! 5. A lost `Pin` or `Owned` (forgotten, or its process died) only keeps the frame from being reused. After `fork` the
//!    child must not drop or use guards that it copied from its parent.
//! 6. The parts are private to this file and laid out once per layout, so nobody else touches these words or bytes.
#![expect(unsafe_code, reason = "slices of shared memory")]

use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::time::Duration;

use self::word::{ACQUIRE_LESS, ACQUIRE_ONE, RELEASE_ONE, Word};
use crate::mem::lock::Event;
use crate::mem::process::{current_pid, process_alive};
use crate::mem::region::{BytesPart, Layout, Part, Region};
use crate::mem::slice::{SharedSlice, prefetch};
use crate::mem::sync::{AtomicU32, AtomicU64, Ordering};
use crate::shared_struct;

pub use self::word::State;

mod word;

#[cfg(test)]
mod tests;

shared_struct! {
    /// What the region knows about a frame: one cache line.
    struct Meta {
        word: AtomicU64,
        /// What the content is called. Written by the owner, stable while pinned, anything otherwise.
        name: [AtomicU64; 2],
        len: AtomicU32,
        note: AtomicU32,
        /// Happens when a load ends.
        loaded: Event,
        links: [AtomicU32; 2],
        _spare: [AtomicU32; 5],
    }
}
const _: () = assert!(size_of::<Meta>() == 64);

/// Lines of a frame's start that are fetched ahead; reading shows the processor how it goes on.
const PREFETCH_LINES: usize = 3;

/// How long to sleep on a load before looking whether its process is still alive.
const WAIT: Duration = Duration::from_millis(100);

/// Where the frames are in a region.
#[derive(Clone, Copy)]
pub struct FrameParts {
    metas: Part<Meta>,
    bytes: BytesPart,
    frame_bytes: usize,
}

/// This process's handle on the frames.
pub struct Frames {
    metas: SharedSlice<Meta>,
    /// First byte of the first frame; `metas` keeps the region, hence these bytes, in place.
    base: NonNull<u8>,
    frame_bytes: usize,
}

// SAFETY: `base` is used under rules 1 to 3 only, which hold across threads and processes.
unsafe impl Send for Frames {}
// SAFETY: as above.
unsafe impl Sync for Frames {}

/// What the clock's look at a frame came to.
pub enum Visit<'f> {
    /// The frame is the caller's.
    Claimed(Owned<'f>),
    /// The frame was used; its use count is one lower now.
    Aged,
    /// The frame is pinned or loading.
    Busy,
}

impl Frames {
    /// Adds `count` frames of `frame_bytes` each to `layout`.
    pub fn reserve(layout: &mut Layout, name: &str, count: usize, frame_bytes: usize) -> FrameParts {
        let metas = layout.part(&format!("{name} frame words"), count);
        let bytes = layout.bytes(&format!("{name} frames"), count * frame_bytes);
        FrameParts { metas, bytes, frame_bytes }
    }

    /// The frames of `parts` in a region of the layout that they were reserved in.
    #[must_use]
    pub fn new(region: &Region, parts: FrameParts) -> Self {
        let metas = SharedSlice::new(region, parts.metas);
        assert_eq!(metas.len() * parts.frame_bytes, parts.bytes.len());
        Self { metas, base: region.bytes(parts.bytes), frame_bytes: parts.frame_bytes }
    }

    /// Has the processor fetch what a reader of the frame reads first, when its content has `len` bytes: their start and their end.
    #[inline]
    pub fn prefetch(&self, frame: u32, len: usize) {
        if let Some(meta) = self.metas.get(frame as usize) {
            prefetch(meta);
            let start = self.start(frame).as_ptr();
            (0..PREFETCH_LINES).for_each(|line| prefetch(start.wrapping_add(64 * line)));
            prefetch(start.wrapping_add(len.saturating_sub(1)));
        }
    }

    /// How many frames there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.metas.len()
    }

    /// Bytes of one frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Pins a visible frame. Otherwise says what it is instead.
    ///
    /// # Errors
    /// The state of a frame that is not visible.
    #[inline]
    pub fn pin(&self, frame: u32) -> Result<Pin<'_>, State> {
        let meta = &self.metas[frame as usize];
        let seen = Word(meta.word.fetch_add(ACQUIRE_ONE, Ordering::Acquire));
        match seen.state() {
            State::Visible => Ok(Pin::new(self, frame, meta.len.load(Ordering::Relaxed))),
            // The pin counts although the block must not be found: give it back.
            State::Invisible => {
                meta.word.fetch_add(ACQUIRE_LESS, Ordering::Release);
                Err(State::Invisible)
            }
            state => Err(state),
        }
    }

    /// Takes a frame that is empty, or holds a block that nobody has pinned, used or not.
    #[must_use]
    pub fn claim(&self, frame: u32) -> Option<Owned<'_>> {
        let mut seen = self.load(frame);
        while seen.is_claimable() {
            match self.try_claim(frame, seen) {
                Ok(owned) => return Some(owned),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// One step of the clock: takes the frame when it has no use left but its load, else lowers the use count. `cap` maps the note of
    /// the content to the largest use count that it may keep.
    #[must_use]
    pub fn visit(&self, frame: u32, cap: fn(u32) -> u32) -> Visit<'_> {
        let seen = self.load(frame);
        if !seen.is_claimable() {
            return Visit::Busy;
        }
        if !seen.is_in_use() {
            return self.try_claim(frame, seen).map_or(Visit::Busy, Visit::Claimed);
        }
        let meta = &self.metas[frame as usize];
        let aged = seen.aged(cap(meta.note.load(Ordering::Relaxed)));
        // A failure is a use in this very moment: leave it.
        let _ = meta.word.compare_exchange(seen.0, aged.0, Ordering::Relaxed, Ordering::Relaxed);
        Visit::Aged
    }

    /// Takes a frame that is loading when the loading process no longer exists.
    #[must_use]
    pub fn claim_dead(&self, frame: u32) -> Option<Owned<'_>> {
        let mut seen = self.load(frame);
        if seen.state() != State::Loading || process_alive(seen.owner()) {
            return None;
        }
        let dead = seen.owner();
        while seen.state() == State::Loading && seen.owner() == dead {
            match self.try_claim(frame, seen) {
                Ok(owned) => return Some(owned),
                Err(now) => seen = now,
            }
        }
        None
    }

    fn load(&self, frame: u32) -> Word {
        Word(self.metas[frame as usize].word.load(Ordering::Relaxed))
    }

    fn try_claim(&self, frame: u32, seen: Word) -> Result<Owned<'_>, Word> {
        let loading = Word::loading(current_pid());
        let word = &self.metas[frame as usize].word;
        match word.compare_exchange(seen.0, loading.0, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Owned { frames: self, frame, before: seen.state() }),
            Err(now) => Err(Word(now)),
        }
    }

    /// Sleeps while `frame` is loading what is called `name`: until the load ends, or for a tenth of a second. Returns
    /// whether the load has ended (then look again); it may say so early.
    #[must_use]
    pub fn wait(&self, frame: u32, name: [u64; 2]) -> bool {
        let meta = &self.metas[frame as usize];
        let is_over = || self.state(frame) != State::Loading || self.name(frame) != name;
        let before = meta.loaded.current();
        if is_over() {
            return true;
        }
        meta.loaded.wait(before, WAIT);
        is_over()
    }

    /// What the content is called. Reliable for whoever holds a pin or owns the frame, a hint for others.
    #[inline]
    #[must_use]
    pub fn name(&self, frame: u32) -> [u64; 2] {
        let meta = &self.metas[frame as usize];
        [meta.name[0].load(Ordering::Acquire), meta.name[1].load(Ordering::Acquire)]
    }

    /// Two words of the frame that belong to the replacement policy.
    #[must_use]
    pub fn links(&self, frame: u32) -> &[AtomicU32; 2] {
        &self.metas[frame as usize].links
    }

    /// What the frame holds at this moment.
    #[must_use]
    pub fn state(&self, frame: u32) -> State {
        self.load(frame).state()
    }

    fn start(&self, frame: u32) -> NonNull<u8> {
        assert!((frame as usize) < self.metas.len());
        // SAFETY: the part has `metas.len()` frames of `frame_bytes`, as `new` asserts; `frame` is one of them.
        unsafe { self.base.add(frame as usize * self.frame_bytes) }
    }

    fn end_loading(&self, frame: u32, next: Word) {
        let meta = &self.metas[frame as usize];
        let seen = Word(meta.word.swap(next.0, Ordering::AcqRel));
        debug_assert_eq!(seen.state(), State::Loading);
        meta.loaded.notify();
    }
}

/// A pinned frame: derefs to its content, which stays as it is until the drop.
pub struct Pin<'f> {
    frames: &'f Frames,
    /// First byte of the content.
    start: NonNull<u8>,
    frame: u32,
    /// Bytes of the content, at most those of the frame.
    len: u32,
}

// SAFETY: `start` is read under rules 2 and 3 only, which hold across threads.
unsafe impl Send for Pin<'_> {}
// SAFETY: as above.
unsafe impl Sync for Pin<'_> {}

impl<'f> Pin<'f> {
    /// For whoever has just made the frame's word count one more pin.
    #[inline]
    fn new(frames: &'f Frames, frame: u32, len: u32) -> Self {
        Self { frames, start: frames.start(frame), frame, len: len.min(frames.frame_bytes as u32) }
    }
}

impl Pin<'_> {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> u32 {
        self.frame
    }

    /// What the content is called.
    #[inline]
    #[must_use]
    pub fn name(&self) -> [u64; 2] {
        self.frames.name(self.frame)
    }

    /// Unpins without counting a use.
    pub fn unpin_unused(self) {
        self.word().fetch_add(ACQUIRE_LESS, Ordering::Release);
        std::mem::forget(self);
    }

    /// Makes the frame invisible: it cannot be pinned anew, and is the next one to be reused once all pins are gone.
    pub fn hide(&self) {
        self.word().fetch_or(Word::HIDE, Ordering::Relaxed);
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        &self.frames.metas[self.frame as usize].word
    }

    /// Keeps the counters of a frame that is used without end from running over (see `Word::rebased`). The exchange
    /// is of the whole word, so that of several threads that see the need one does it.
    #[cold]
    fn rebase(word: &AtomicU64) {
        let mut seen = word.load(Ordering::Relaxed);
        while matches!(Word(seen).state(), State::Visible | State::Invisible) {
            let Some(rebased) = Word(seen).rebased() else { return };
            match word.compare_exchange(seen, rebased.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

impl Deref for Pin<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: in bounds of the frame; nobody writes it while this pin lives (rules 2 and 3), and its bytes are
        // initialised, as all memory of a region is.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Pin<'_> {
    #[inline]
    fn drop(&mut self) {
        let word = self.word();
        let seen = Word(word.fetch_add(RELEASE_ONE, Ordering::Release));
        if seen.rebased().is_some() {
            Self::rebase(word);
        }
    }
}

/// A frame owned by this thread: nobody else reads or writes it. Dropping it makes the frame empty and wakes waiters.
pub struct Owned<'f> {
    frames: &'f Frames,
    frame: u32,
    before: State,
}

impl<'f> Owned<'f> {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> u32 {
        self.frame
    }

    /// What the frame was before it was claimed. Unless empty, it may still be known under its name.
    #[must_use]
    pub fn before(&self) -> State {
        self.before
    }

    /// What the content is, or was, called.
    #[must_use]
    pub fn name(&self) -> [u64; 2] {
        self.frames.name(self.frame)
    }

    /// The note that came with the name.
    #[must_use]
    pub fn note(&self) -> u32 {
        self.frames.metas[self.frame as usize].note.load(Ordering::Relaxed)
    }

    /// Names the content that is about to be loaded, with a note for the policy. The old name must be unknown by now.
    pub fn set_name(&mut self, name: [u64; 2], note: u32) {
        let meta = &self.frames.metas[self.frame as usize];
        meta.name[0].store(name[0], Ordering::Release);
        meta.name[1].store(name[1], Ordering::Release);
        meta.note.store(note, Ordering::Relaxed);
        self.before = State::Empty;
    }

    /// The whole frame.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, len) = (self.frames.start(self.frame), self.frames.frame_bytes);
        // SAFETY: in bounds of the frame; no other reference to it exists while this `Owned` lives (rules 1 and 3), and
        // `&mut self` keeps this one alone; its bytes are initialised, as all memory of a region is.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// Makes the first `len` bytes visible under the name and pins them. Counts as `uses` uses (at least one).
    #[must_use]
    pub fn publish(self, len: usize, uses: u32) -> Pin<'f> {
        assert!(len <= self.frames.frame_bytes, "content of {len} bytes in a frame of {}", self.frames.frame_bytes);
        let (frames, frame, len) = (self.frames, self.frame, len as u32);
        std::mem::forget(self);
        frames.metas[frame as usize].len.store(len, Ordering::Relaxed);
        frames.end_loading(frame, Word::published(uses));
        Pin::new(frames, frame, len)
    }
}

#[cfg(test)]
impl Owned<'_> {
    /// Leaves the frame as process `pid` would, had it died now.
    pub(crate) fn abandon_as(self, pid: u32) {
        self.frames.metas[self.frame as usize].word.store(Word::loading(pid).0, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        self.frames.end_loading(self.frame, Word::EMPTY);
    }
}
