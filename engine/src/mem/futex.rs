//! Waiting on a word of the region, across threads and processes.
//!
//! The futex is the *shared* kind (no PRIVATE flag): the same word may be mapped at different addresses. Where the kernel
//! has no futex, waiting polls with a growing pause; waking is then a no-op.
#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "the futex system call"))]

use std::time::Duration;

use super::sync::AtomicU32;

/// Waits until `word` differs from `seen`, somebody wakes it, or `timeout` has passed; true in the last case. May return
/// early; callers loop.
#[cfg(target_os = "linux")]
pub fn wait(word: &AtomicU32, seen: u32, timeout: Duration) -> bool {
    #[cfg(feature = "shuttle")]
    if super::sync::model::futex_wait(word, seen) {
        return false;
    }
    let time = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: `word` is a live, aligned 32-bit word and `time` outlives the call; every outcome is a permitted return.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, &raw const time) };
    result != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
}

/// Wakes up to `count` waiters on `word`.
#[cfg(target_os = "linux")]
pub fn wake(word: &AtomicU32, count: u32) {
    #[cfg(feature = "shuttle")]
    if super::sync::model::futex_wake(word, count) {
        return;
    }
    // SAFETY: `word` is a live, aligned 32-bit word; the call only uses its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count.min(i32::MAX.cast_unsigned())) };
}

/// Waits until `word` differs from `seen` or `timeout` has passed (then true), by polling.
#[cfg(not(target_os = "linux"))]
pub fn wait(word: &AtomicU32, seen: u32, timeout: Duration) -> bool {
    use super::sync::Ordering;
    #[cfg(feature = "shuttle")]
    if super::sync::model::futex_wait(word, seen) {
        return false;
    }
    let mut pause = Duration::from_micros(20);
    let mut waited = Duration::ZERO;
    while waited < timeout && word.load(Ordering::Acquire) == seen {
        crate::env::poll_pause(pause);
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(1));
    }
    waited >= timeout
}

/// Waiters poll on this platform; there is nobody to wake.
#[cfg(not(target_os = "linux"))]
pub fn wake(word: &AtomicU32, count: u32) {
    #[cfg(feature = "shuttle")]
    super::sync::model::futex_wake(word, count);
    #[cfg(not(feature = "shuttle"))]
    let _ = (word, count);
}
