//! Heap buffers whose address and length suit direct I/O.
//!
//! Rules this module relies on:
//! 1. `ptr` comes from `alloc_zeroed` with `layout(capacity)` and is freed once, in `Drop`, with the same layout; with
//!    capacity 0 it is dangling and never freed.
//! 2. All `capacity` bytes are initialised from birth (zeroed), so any `len <= capacity` is a valid slice.
#![expect(unsafe_code, reason = "aligned allocation has no safe form in std")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::base::limits::IO_ALIGN;

/// A byte buffer aligned to [`IO_ALIGN`] whose capacity is a multiple of it.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
    capacity: usize,
}

// SAFETY: the buffer owns its memory; nothing else points into it.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, IO_ALIGN).expect("capacity is below isize::MAX: lengths are checked by callers")
}

impl AlignedBuf {
    /// A buffer without memory.
    #[must_use]
    pub const fn empty() -> Self {
        Self { ptr: NonNull::dangling(), len: 0, capacity: 0 }
    }

    /// A zeroed buffer of `len` bytes; the capacity is `len` rounded up to [`IO_ALIGN`].
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let capacity = len.max(1).next_multiple_of(IO_ALIGN);
        // SAFETY: the layout's size is not zero.
        let ptr = unsafe { alloc_zeroed(layout(capacity)) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout(capacity)) };
        Self { ptr, len, capacity }
    }

    /// Bytes that fit without a new allocation.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the length within the capacity. Bytes that come into view hold whatever was last written there.
    ///
    /// # Panics
    /// When `len` exceeds the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "length beyond the capacity");
        self.len = len;
    }

    /// Makes room for at least `len` bytes, keeping the contents, and sets the length to `len`.
    pub fn resize(&mut self, len: usize) {
        if len > self.capacity {
            let mut grown = Self::zeroed(len.max(self.capacity * 2));
            grown[..self.len].copy_from_slice(self);
            *self = grown;
        }
        self.len = len;
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: rule 2: `len` bytes from `ptr` are allocated and initialised.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: rule 2, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if self.capacity == 0 {
            return;
        }
        // SAFETY: rule 1.
        unsafe { dealloc(self.ptr.as_ptr(), layout(self.capacity)) }
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_zeroed_and_growing() {
        let mut buf = AlignedBuf::zeroed(10);
        assert_eq!(buf.as_ptr().addr() % IO_ALIGN, 0);
        assert_eq!((buf.len(), buf.capacity()), (10, IO_ALIGN));
        buf.copy_from_slice(b"0123456789");
        buf.resize(9000);
        assert_eq!(&buf[..10], b"0123456789");
        assert!(buf[10..].iter().all(|&b| b == 0));
        buf.set_len(4);
        assert_eq!(&buf[..], b"0123");
        let mut empty = AlignedBuf::empty();
        assert_eq!((empty.len(), empty.capacity()), (0, 0));
        empty.resize(5);
        assert_eq!(&empty[..], [0; 5]);
    }
}
