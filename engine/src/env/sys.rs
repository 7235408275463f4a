//! System calls that std does not have, each behind a safe function.
//!
//! Rules this module relies on:
//! 1. A file descriptor comes from a `&File` that outlives the call, so it is open.
//! 2. Pointers handed to the kernel come from live slices or local variables, with their exact length.
#![expect(unsafe_code, reason = "system calls that std does not have")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

/// Turns the -1 of a system call into the thread's `errno`.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Repeats `call` while signals interrupt it.
fn uninterrupted(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Whether `error` says that the file system or the kernel lacks the operation.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY))
}

/// Clears `O_DIRECT`, so that the file goes through the page cache from now on.
#[cfg(target_os = "linux")]
pub(super) fn make_buffered(file: &File) -> io::Result<()> {
    // SAFETY: rule 1; F_GETFL takes no argument.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    check(flags)?;
    // SAFETY: rule 1; F_SETFL takes the flags as an integer.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_DIRECT) })
}

/// Takes the file through the page cache from now on.
#[cfg(not(target_os = "linux"))]
pub(super) fn make_buffered(file: &File) -> io::Result<()> {
    no_cache(file, false)
}

/// Asks the kernel to bypass (or use again) the page cache for this file.
#[cfg(target_os = "macos")]
pub(super) fn no_cache(file: &File, bypass: bool) -> io::Result<()> {
    // SAFETY: rule 1; F_NOCACHE takes an integer.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, libc::c_int::from(bypass)) })
}

/// There is no such request on this platform.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn no_cache(_file: &File, _bypass: bool) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Asks the kernel to read into the page cache what is asked for and nothing behind it. It may not listen.
#[cfg(target_os = "linux")]
pub(super) fn no_read_ahead(file: &File) {
    // SAFETY: rule 1; the other arguments are numbers.
    let _ = unsafe { libc::posix_fadvise64(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
}

/// Asks the kernel to read into the page cache what is asked for and nothing behind it. It may not listen.
#[cfg(target_os = "macos")]
pub(super) fn no_read_ahead(file: &File) {
    // SAFETY: rule 1; F_RDAHEAD takes an integer.
    let _ = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_RDAHEAD, 0 as libc::c_int) };
}

/// There is no such request on this platform.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn no_read_ahead(_file: &File) {}

/// Reserves space for the first `len` bytes and extends the file to them. `false`: the file system cannot.
#[cfg(target_os = "linux")]
pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    let len = libc::off64_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: rule 1; the other arguments are numbers.
    let outcome = uninterrupted(|| check(unsafe { libc::fallocate64(file.as_raw_fd(), 0, 0, len) }));
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reserves space for the first `len` bytes and extends the file to them. `false`: the file system cannot.
#[cfg(target_os = "macos")]
pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    let old = file.metadata()?.len();
    let Some(more) = len.checked_sub(old).filter(|&more| more > 0) else { return Ok(true) };
    let more = libc::off_t::try_from(more).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    let mut request = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: more,
        fst_bytesalloc: 0,
    };
    // SAFETY: rules 1 and 2; F_PREALLOCATE reads and writes one fstore_t.
    let outcome =
        uninterrupted(|| check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut request) }));
    match outcome {
        Ok(()) => file.set_len(len).map(|()| true),
        Err(error) if is_unsupported(&error) || error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reserves space for the first `len` bytes: not possible on this platform.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn allocate(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// Writes a prefix of `buf` at `offset` and makes it stable, in one system call. Returns the count of bytes written.
#[cfg(target_os = "linux")]
pub(super) fn write_dsync(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off64_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    // SAFETY: rules 1 and 2; the kernel only reads the one slice that `part` describes.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_DSYNC) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Bytes an unprivileged process may still write in the file system of `dir`.
pub(super) fn free_space(dir: &Path) -> io::Result<u64> {
    let name = CString::new(dir.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `name` is a C string and `stat` has room for the answer.
    uninterrupted(|| check(unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) }))?;
    // SAFETY: zeroed bytes are a valid statvfs, and the call succeeded.
    let stat = unsafe { stat.assume_init() };
    Ok(widen(stat.f_bavail).saturating_mul(widen(stat.f_frsize)))
}

/// Counters of `statvfs` have 32 bits on some platforms and 64 on others.
fn widen(count: impl Into<u64>) -> u64 {
    count.into()
}

/// Sixty-four bits from the operating system's generator: never the same after a fork.
pub(super) fn random() -> u64 {
    let mut bits = [0; 8];
    // SAFETY: rule 2; eight bytes are below the 256 that getentropy gives at once.
    let outcome = uninterrupted(|| check(unsafe { libc::getentropy(bits.as_mut_ptr().cast(), bits.len()) }));
    outcome.expect("the operating system's generator answers once the machine is up");
    u64::from_le_bytes(bits)
}

/// Time since the machine started, the same for all processes.
pub(super) fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: rule 2; CLOCK_MONOTONIC exists on every platform we build for.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Runs `start` with all signals blocked: a thread started in it inherits that, so that a host's signal handlers run in
/// the host's own threads only.
pub(super) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `all` has room for a signal set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was filled and `before` has room for the old set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let started = start();
    // SAFETY: `before` was written by the call above; the null pointer says that the set in force is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started
}
