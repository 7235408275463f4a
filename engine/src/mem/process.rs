//! Who am I, and is that other process still there?
//!
//! Process ids stand for owners in the region's words. Ids are reused by the kernel in the end: a dead owner whose id
//! already belongs to somebody else counts as alive, so death must be looked for well within one turn of the id space.
#![expect(unsafe_code, reason = "system calls on processes")]

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bits that hold every process id: Linux never goes beyond 2²² − 1, macOS stays below 100 000.
pub const PID_BITS: u32 = 22;

/// This process's id, or 0 while it is not known (at start and after a fork).
static PID: AtomicU32 = AtomicU32::new(0);

/// Whether forks reset [`PID`]: 0 no, 1 somebody is arranging it, 2 yes. Nothing is cached before 2.
static RESET_AT_FORK: AtomicU32 = AtomicU32::new(0);

/// The id of this process; right after `fork`, too. About the cost of a load.
#[inline]
#[must_use]
pub fn current_pid() -> u32 {
    match PID.load(Ordering::Relaxed) {
        0 => ask_pid(),
        pid => pid,
    }
}

#[cold]
fn ask_pid() -> u32 {
    extern "C" fn forget() {
        PID.store(0, Ordering::Relaxed);
    }
    if RESET_AT_FORK.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        // SAFETY: the handler lives as long as the process and does nothing but a store, which any thread may do.
        let refused = unsafe { libc::pthread_atfork(None, None, Some(forget)) } != 0;
        RESET_AT_FORK.store(if refused { 0 } else { 2 }, Ordering::Release);
    }
    let pid = std::process::id();
    if RESET_AT_FORK.load(Ordering::Acquire) == 2 {
        PID.store(pid, Ordering::Relaxed);
    }
    pid
}

/// A number that stays with this thread and differs between the threads of a process, and mostly between processes: for whoever
/// spreads what threads would share. A process should not ask before it forks: its children would have its number.
#[inline]
#[must_use]
pub fn thread_hint() -> u32 {
    static THREADS: AtomicU32 = AtomicU32::new(0);
    const UNSET: u32 = u32::MAX;
    thread_local! {
        static HINT: Cell<u32> = const { Cell::new(UNSET) };
    }
    HINT.with(|hint| match hint.get() {
        UNSET => {
            let number = THREADS.fetch_add(1, Ordering::Relaxed).wrapping_add(current_pid());
            hint.set(number % UNSET);
            number % UNSET
        }
        number => number,
    })
}

/// Whether process `pid` runs. One that has exited but was not waited for yet (a zombie) counts as dead.
#[must_use]
pub fn process_alive(pid: u32) -> bool {
    if pid == current_pid() {
        return true;
    }
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    pid > 0 && runs(pid)
}

#[cfg(target_os = "linux")]
fn runs(pid: libc::pid_t) -> bool {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    // SAFETY: takes two integers and returns a descriptor or -1.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Some(raw) = i32::try_from(opened).ok().filter(|&fd| fd >= 0) else {
        return match std::io::Error::last_os_error().raw_os_error() {
            // No such process, or the id is now that of a thread and so of no process.
            Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => false,
            // Forbidden, too old a kernel, no descriptors left: ask in the way that takes zombies for alive.
            _ => signalable(pid),
        };
    };
    // SAFETY: the call above made this descriptor and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry, and no waiting.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready == 0
}

#[cfg(not(target_os = "linux"))]
fn runs(pid: libc::pid_t) -> bool {
    signalable(pid)
}

fn signalable(pid: libc::pid_t) -> bool {
    // SAFETY: signal 0 is never delivered; the call only looks the process up.
    let found = unsafe { libc::kill(pid, 0) } == 0;
    found || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_know_their_own_id_and_their_death_shows_before_they_are_waited_for() {
        let parent = current_pid();
        assert_eq!(parent, std::process::id());
        // SAFETY: the child makes only async-signal-safe calls and leaves through `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let right = current_pid() != parent && current_pid() == std::process::id();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        assert!(child > 0);
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: waits for our own child and leaves it a zombie.
        let waited = unsafe {
            libc::waitid(libc::P_PID, child.cast_unsigned(), info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT)
        };
        assert_eq!(waited, 0);
        if cfg!(target_os = "linux") {
            assert!(!process_alive(child.cast_unsigned()), "a zombie is dead");
        }
        let mut status = 0;
        // SAFETY: reaps our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child saw its own id");
        assert!(!process_alive(child.cast_unsigned()));
        assert!(process_alive(parent) && process_alive(std::os::unix::process::parent_id()));
        assert!(!process_alive(0) && !process_alive(u32::MAX));
    }
}
