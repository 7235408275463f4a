//! A region in a shared file mapping, for processes that are started one by one and attach to it.
//!
//! Rules: the mapping lives until the process ends (it is never unmapped), so a `Region` over it is always valid; the file
//! is made with its full size before anybody maps it.
#![expect(unsafe_code, reason = "mapping memory that other processes share")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;

use ssd_engine::mem::region::{Layout, Region};

/// Attaches to the region in the file at `path`, which is created with zeros when it is missing.
///
/// # Errors
/// What the system or the region says.
pub fn attach(path: &Path, layout: &Layout) -> io::Result<Region> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() == 0 {
        file.set_len(layout.size() as u64)?;
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let fd = file.as_raw_fd();
    // SAFETY: a new mapping of an open file at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), layout.size(), protection, libc::MAP_SHARED, fd, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base.cast()).expect("mmap never returns null for a mapping it made");
    // SAFETY: the mapping has the layout's size, is page-aligned, never unmapped, and used by regions only.
    unsafe { Region::attach(base, layout.size(), layout) }.map_err(io::Error::other)
}
