//! Least recently used, for comparison with the clock: every hit moves its frame to the front of a list.
//!
//! The frames are dealt to shards (frame modulo shards), each a doubly linked list under a short lock, as in RocksDB's
//! `LRUCache`; the victim's shard goes round. All frames of a shard are always in its list, pinned or empty ones too. When
//! a process dies under a shard's lock, the shard's blocks stay as they are.

use crate::mem::frames::{Frames, Owned};
use crate::mem::lock::{FutexLock, LockGuard};
use crate::mem::region::{Layout, Part, Region};
use crate::mem::slice::SharedSlice;
use crate::mem::sync::{AtomicU32, Ordering};
use crate::shared_struct;

const SHARDS_MAX: usize = 16;
/// Fewer frames to a shard would make its order unlike that of the whole.
const SHARD_FRAMES_MIN: usize = 64;

/// Index of the links of a frame: towards the front, towards the back. A link is a frame plus one, zero at the ends.
const FRONT: usize = 0;
const BACK: usize = 1;

shared_struct! {
    /// One list.
    #[repr(align(64))]
    pub(super) struct Shard {
        lock: FutexLock,
        is_linked: AtomicU32,
        /// The most and the least recently used frame, plus one.
        ends: [AtomicU32; 2],
        /// In the first shard: whose turn it is to give a victim.
        turn: AtomicU32,
    }
}

/// This process's handle on the lists.
pub(super) struct Lru {
    shards: SharedSlice<Shard>,
}

impl Lru {
    pub(super) fn reserve(layout: &mut Layout, frames: usize) -> Part<Shard> {
        layout.part("cache lists", (frames / SHARD_FRAMES_MIN).clamp(1, SHARDS_MAX))
    }

    pub(super) fn new(region: &Region, part: Part<Shard>) -> Self {
        Self { shards: SharedSlice::new(region, part) }
    }

    /// The frame was used: to the front.
    pub(super) fn touch(&self, frames: &Frames, frame: u32) {
        self.relink(frames, frame, FRONT);
    }

    /// The frame became empty: to the back, where the next victim is sought.
    pub(super) fn give_back(&self, frames: &Frames, frame: u32) {
        self.relink(frames, frame, BACK);
    }

    /// Takes the frame that was used least recently (of its shard). `None` when all are pinned or loading.
    pub(super) fn claim<'f>(&self, frames: &'f Frames) -> Option<Owned<'f>> {
        let turn = self.shards[0].turn.fetch_add(1, Ordering::Relaxed) as usize;
        let shards = self.shards.len();
        let found = (0..shards).find_map(|step| self.claim_from(frames, (turn + step) % shards));
        found.or_else(|| (0..frames.count() as u32).find_map(|frame| frames.claim_dead(frame)))
    }

    fn claim_from<'f>(&self, frames: &'f Frames, shard: usize) -> Option<Owned<'f>> {
        let _guard = self.lock(frames, shard)?;
        let list = List { frames, ends: &self.shards[shard].ends };
        let mut at = list.ends[BACK].load(Ordering::Relaxed);
        for _ in 0..frames.count() {
            let frame = at.checked_sub(1)?;
            if let Some(owned) = frames.claim(frame) {
                list.unlink(frame);
                list.push(frame, FRONT);
                return Some(owned);
            }
            at = frames.links(frame)[FRONT].load(Ordering::Relaxed);
        }
        None
    }

    fn relink(&self, frames: &Frames, frame: u32, end: usize) {
        let shard = frame as usize % self.shards.len();
        // Without the lock the list keeps an older order.
        let Some(_guard) = self.lock(frames, shard) else { return };
        let list = List { frames, ends: &self.shards[shard].ends };
        if list.ends[end].load(Ordering::Relaxed) != frame + 1 {
            list.unlink(frame);
            list.push(frame, end);
        }
    }

    fn lock(&self, frames: &Frames, index: usize) -> Option<LockGuard<'_>> {
        let shard = &self.shards[index];
        let guard = shard.lock.lock().ok()?;
        if shard.is_linked.load(Ordering::Relaxed) == 0 {
            let list = List { frames, ends: &shard.ends };
            (index..frames.count()).step_by(self.shards.len()).for_each(|frame| list.push(frame as u32, BACK));
            shard.is_linked.store(1, Ordering::Relaxed);
        }
        Some(guard)
    }
}

/// The list of a locked shard.
struct List<'l> {
    frames: &'l Frames,
    ends: &'l [AtomicU32; 2],
}

impl List<'_> {
    /// Where the link stands that leads from `at` (a frame plus one, or zero: from outside) in the direction given.
    fn link(&self, at: u32, direction: usize) -> &AtomicU32 {
        match at.checked_sub(1) {
            Some(frame) => &self.frames.links(frame)[direction],
            // From outside towards the back one enters at the front.
            None => &self.ends[1 - direction],
        }
    }

    fn unlink(&self, frame: u32) {
        let [front, back] = self.frames.links(frame).each_ref().map(|link| link.load(Ordering::Relaxed));
        self.link(front, BACK).store(back, Ordering::Relaxed);
        self.link(back, FRONT).store(front, Ordering::Relaxed);
    }

    fn push(&self, frame: u32, end: usize) {
        let neighbour = self.ends[end].load(Ordering::Relaxed);
        let links = self.frames.links(frame);
        links[end].store(0, Ordering::Relaxed);
        links[1 - end].store(neighbour, Ordering::Relaxed);
        // The neighbour's link that led out of the list leads here now; an empty list gets its other end.
        match neighbour.checked_sub(1) {
            Some(neighbour) => self.frames.links(neighbour)[end].store(frame + 1, Ordering::Relaxed),
            None => self.ends[1 - end].store(frame + 1, Ordering::Relaxed),
        }
        self.ends[end].store(frame + 1, Ordering::Relaxed);
    }
}
