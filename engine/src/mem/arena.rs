//! A fixed piece of the region that is filled from front to back and emptied at once.
//!
//! Rules this module relies on:
//! 1. Offsets count bytes from the arena's start and fit 32 bits; 0 names nothing, since the front belongs to the owner.
//! 2. A byte is written plainly only through the [`Reservation`] that covers it. Reservations never overlap within one
//!    epoch, and their makers hand out what lies inside them only after it was written, by a release operation.
//! 3. [`Arena::reset`] starts a new epoch, when nobody else uses the arena: no reservation and no slice is alive then.
#![expect(unsafe_code, reason = "typed and raw access to one piece of the region")]

use std::ptr::NonNull;

use super::region::{BytesPart, Layout, Part, Region};
use super::sync::{AtomicU32, AtomicU64, Ordering};
use crate::shared_struct;

/// Everything in the arena starts at a multiple of this.
pub const UNIT: usize = size_of::<u64>();

shared_struct! {
    /// How far the arena is filled. A line of its own: everyone who reserves writes it.
    #[repr(align(64))]
    struct ArenaHeader {
        /// Bytes given out since the epoch began, the owner's front not counted. Beyond the capacity when one was refused.
        used: AtomicU64,
        /// How often the arena was emptied.
        epoch: AtomicU64,
    }
}

/// Place of an arena in the region.
#[derive(Clone, Copy)]
pub struct ArenaParts {
    header: Part<ArenaHeader>,
    bytes: BytesPart,
    front: usize,
}

/// A process-local view of an arena. Clones are cheap and equal.
#[derive(Clone)]
pub struct Arena {
    base: NonNull<u8>,
    header: NonNull<ArenaHeader>,
    /// Bytes from the start, front included; a multiple of [`UNIT`], fits 32 bits.
    len: usize,
    front: usize,
    /// Keeps the memory.
    _region: Region,
}

// SAFETY: the pointers lead into the region, which the arena keeps alive and which any thread may use.
unsafe impl Send for Arena {}
// SAFETY: as above; all access is atomic or follows rule 2.
unsafe impl Sync for Arena {}

/// A range of the arena that only its owner may write.
#[derive(Debug)]
pub struct Reservation {
    offset: u32,
    len: u32,
    used: u32,
    epoch: u64,
    base: usize,
}

impl Reservation {
    /// Bytes not taken yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        (self.len - self.used) as usize
    }

    /// Bytes of the whole range.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the range has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Offset of the first byte not taken yet.
    #[inline]
    pub(super) const fn next(&self) -> u32 {
        self.offset + self.used
    }

    /// Takes the next `bytes`.
    ///
    /// # Panics
    /// When fewer remain: the caller's sum over the batch was wrong.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize) {
        assert!(bytes <= self.remaining(), "an entry beyond its reservation");
        self.used += bytes as u32;
    }
}

impl Arena {
    /// Lays out an arena of `len` bytes whose first `front` bytes are the owner's.
    ///
    /// # Panics
    /// When `len` does not fit 32 bits or is not larger than `front`: options are checked before they come here.
    pub fn reserve(layout: &mut Layout, name: &str, len: usize, front: usize) -> ArenaParts {
        let len = len / UNIT * UNIT;
        assert!(u32::try_from(len).is_ok(), "an arena of 4 GiB or more");
        assert!(front.is_multiple_of(UNIT) && 0 < front && front < len, "an arena without space");
        let header = layout.part(&format!("{name}.arena"), 1);
        ArenaParts { header, bytes: layout.bytes(name, len), front }
    }

    /// The arena at `parts`.
    #[must_use]
    pub fn new(region: &Region, parts: ArenaParts) -> Self {
        Self {
            base: region.bytes(parts.bytes),
            header: NonNull::from(&region.part(parts.header)[0]),
            len: parts.bytes.len(),
            front: parts.front,
            _region: region.clone(),
        }
    }

    #[inline]
    fn header(&self) -> &ArenaHeader {
        // SAFETY: it points at an item of a part of the region, which `self` keeps alive.
        unsafe { self.header.as_ref() }
    }

    /// Forgets everything but the front. Rule 3 is the caller's to keep.
    pub fn reset(&self) {
        self.header().used.store(0, Ordering::Relaxed);
        self.header().epoch.fetch_add(1, Ordering::Release);
    }

    /// The current epoch.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.header().epoch.load(Ordering::Relaxed)
    }

    /// Where the arena starts in this process; names it among all that are mapped.
    #[inline]
    #[must_use]
    pub fn address(&self) -> usize {
        self.base.addr().get()
    }

    /// Bytes given out.
    #[must_use]
    pub fn used(&self) -> usize {
        (self.header().used.load(Ordering::Relaxed) as usize).min(self.capacity())
    }

    /// Bytes that can be given out in all.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.len - self.front
    }

    /// Gives out `bytes` (rounded up to [`UNIT`]). `None` when they do not fit any more; smaller requests may still.
    #[inline]
    #[must_use]
    pub fn reserve_space(&self, bytes: usize) -> Option<Reservation> {
        let bytes = bytes.next_multiple_of(UNIT) as u64;
        let (used, capacity) = (&self.header().used, self.capacity() as u64);
        // The look before the addition keeps refused requests from eating what is left.
        if used.load(Ordering::Relaxed).saturating_add(bytes) > capacity {
            return None;
        }
        let start = used.fetch_add(bytes, Ordering::Relaxed);
        if start + bytes > capacity {
            return None;
        }
        let offset = self.front as u32 + start as u32;
        Some(Reservation { offset, len: bytes as u32, used: 0, epoch: self.epoch(), base: self.address() })
    }

    /// The word at `offset`.
    #[inline]
    pub(super) fn word(&self, offset: u32) -> &AtomicU64 {
        let offset = offset as usize;
        debug_assert!(offset.is_multiple_of(UNIT));
        assert!(offset < self.len, "a word outside of the arena");
        // SAFETY: in bounds: `len` is a multiple of the word's size.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: aligned (the base is, to a page, and so are all offsets), alive as long as `self`, any bits are valid, and
        // words of the arena are only accessed atomically (rule 2: what is written plainly is never a word).
        unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) }
    }

    /// The half word at `offset`.
    #[inline]
    pub(super) fn half(&self, offset: u32) -> &AtomicU32 {
        let offset = offset as usize;
        debug_assert!(offset.is_multiple_of(size_of::<u32>()));
        assert!(offset < self.len, "a half word outside of the arena");
        // SAFETY: in bounds: `len` is a multiple of the half word's size.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: as in `word`.
        unsafe { AtomicU32::from_ptr(at.cast().as_ptr()) }
    }

    /// `len` bytes from `offset`.
    ///
    /// # Safety
    /// They were written before whatever gave the caller the offset was released, and the caller acquired it (rule 2).
    #[inline]
    pub(super) unsafe fn bytes(&self, offset: u32, len: usize) -> &[u8] {
        let offset = offset as usize;
        assert!(offset + len <= self.len, "bytes outside of the arena");
        // SAFETY: in bounds.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: in bounds, initialised (the region starts zeroed), and not written any more before the next epoch.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), len) }
    }

    /// Writes `bytes` at `offset`, which must lie in the part of `room` that is not taken yet.
    ///
    /// # Panics
    /// When it does not, or when `room` belongs to another arena or epoch.
    #[inline]
    pub(super) fn write(&self, room: &mut Reservation, offset: u32, bytes: &[u8]) {
        assert!(room.base == self.address() && room.epoch == self.epoch(), "a reservation of another arena");
        let end = offset as usize + bytes.len();
        assert!(room.next() <= offset && end <= (room.offset + room.len) as usize, "a write beyond the reservation");
        // SAFETY: in bounds: reservations lie inside the arena.
        let to = unsafe { self.base.add(offset as usize) };
        // SAFETY: in bounds; the source is a live slice, and cannot overlap since nobody else has this range (rule 2).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    /// Asks for the cache line at `offset`.
    #[inline]
    pub(super) fn prefetch(&self, offset: u32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.base.as_ptr().wrapping_add(offset as usize);
            // SAFETY: a hint that never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(len: usize) -> Arena {
        let mut layout = Layout::new();
        let parts = Arena::reserve(&mut layout, "test", len, 16);
        Arena::new(&Region::anonymous(&layout).unwrap(), parts)
    }

    #[test]
    fn space_is_given_out_once_and_refusals_cost_nothing() {
        let arena = arena(100);
        assert_eq!((arena.capacity(), arena.used()), (80, 0));
        let first = arena.reserve_space(20).unwrap();
        assert_eq!((first.len(), first.remaining(), first.next()), (24, 24, 16));
        assert!(arena.reserve_space(57).is_none());
        assert!(arena.reserve_space(usize::MAX - 7).is_none());
        assert_eq!(arena.reserve_space(56).unwrap().next(), 40);
        assert!(arena.reserve_space(1).is_none());
        assert_eq!(arena.used(), 80);
        arena.reset();
        assert_eq!((arena.used(), arena.epoch()), (0, 1));
    }

    #[test]
    #[should_panic(expected = "a reservation of another arena")]
    fn reservations_end_with_their_epoch() {
        let arena = arena(100);
        let mut room = arena.reserve_space(8).unwrap();
        arena.reset();
        let at = room.next();
        arena.write(&mut room, at, b"x");
    }

    #[test]
    #[should_panic(expected = "a write beyond the reservation")]
    fn writes_stay_inside() {
        let arena = arena(100);
        let mut room = arena.reserve_space(8).unwrap();
        let at = room.next();
        arena.write(&mut room, at + 1, b"12345678");
    }
}
