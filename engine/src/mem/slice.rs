//! A part of the region together with the region: a slice that keeps what it points into alive.
#![expect(unsafe_code, reason = "a pointer into the mapping, kept beside the mapping's owner")]

use std::ops::Deref;
use std::ptr::NonNull;

use crate::mem::region::{Part, Region, Shared};

/// Has the processor fetch the cache line at `at`, which will be read soon. Does nothing where there is no way to ask.
#[inline]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint: it changes nothing that a program can see and ends without a fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The items of a part, without a lookup at each access.
pub struct SharedSlice<T: Shared> {
    /// Points into `_region`'s mapping, which lives at least as long as this clone of the region.
    items: NonNull<[T]>,
    _region: Region,
}

// SAFETY: shared access to `T: Sync` items only, from whichever thread.
unsafe impl<T: Shared> Send for SharedSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for SharedSlice<T> {}

impl<T: Shared> SharedSlice<T> {
    /// The items of `part` of `region`.
    #[must_use]
    pub fn new(region: &Region, part: Part<T>) -> Self {
        let region = region.clone();
        Self { items: NonNull::from(region.part(part)), _region: region }
    }
}

impl<T: Shared> Deref for SharedSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: made from a reference into the mapping that `_region` keeps in place.
        unsafe { self.items.as_ref() }
    }
}
