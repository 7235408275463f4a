//! Memory behind [`SharedMap`]: a shared mapping of a file, or plain heap for the simulation.
//!
//! Rules this module relies on:
//! 1. The memory is page-aligned (or comes from a `Box` of words), `words × 8` bytes long, and stays where it is until its
//!    owner is dropped; `SharedMap` holds the owner.
//! 2. Every access goes through `AtomicU64`, for which every bit pattern is valid.
#![expect(unsafe_code, reason = "views of mapped memory that outlive the borrow checker's sight")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::SharedMap;

/// A mapping, undone on drop.
struct Mapping {
    start: NonNull<libc::c_void>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; this value only undoes it.
unsafe impl Send for Mapping {}
// SAFETY: shared access has no methods.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are as mmap returned them, and by rule 1 nobody uses the memory any more.
        unsafe { libc::munmap(self.start.as_ptr(), self.len) };
    }
}

/// Maps the first `len` bytes of `file`, shared between processes. The file must be at least that long.
pub(super) fn map_file(file: &File, len: usize) -> io::Result<SharedMap> {
    #[cfg(target_os = "linux")]
    const FLAGS: libc::c_int = libc::MAP_SHARED | libc::MAP_POPULATE;
    #[cfg(not(target_os = "linux"))]
    const FLAGS: libc::c_int = libc::MAP_SHARED;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, access, FLAGS, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(start).ok_or_else(|| io::Error::other("mapped at address zero"))?;
    let owner = Arc::new(Mapping { start, len });
    // SAFETY: rules 1 and 2: the mapping lives as long as `owner`.
    let words = unsafe { slice::from_raw_parts(start.as_ptr().cast::<AtomicU64>(), len / size_of::<AtomicU64>()) };
    Ok(SharedMap::new(words, owner))
}

/// Words on the heap that maps of a simulated file share.
#[derive(Clone)]
pub(super) struct HeapWords(Arc<Box<[AtomicU64]>>);

impl HeapWords {
    /// `count` zeroed words.
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new((0..count).map(|_| AtomicU64::new(0)).collect()))
    }

    /// The words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        &self.0
    }

    /// Whether a [`SharedMap`] over these words is alive.
    pub(super) fn is_mapped(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// A map over the first `count` words.
    pub(super) fn map(&self, count: usize) -> SharedMap {
        let words = &self.0[..count];
        // SAFETY: rules 1 and 2: the box's memory lives as long as the clone of the `Arc` that the map owns.
        let words = unsafe { slice::from_raw_parts(words.as_ptr(), words.len()) };
        SharedMap::new(words, self.0.clone())
    }
}
