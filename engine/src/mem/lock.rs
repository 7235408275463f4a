//! Locks and wake-ups whose state is a word of the region, so that they work across processes.
//!
//! State of a [`FutexLock`]'s word:
//!
//! ```text
//!            lock                    somebody must wait
//!   free 0 ────────▶ held  owner ──────────────────────▶ contended  owner | WAITERS
//!     ▲  ◀──────────        │                                │  │
//!     │     unlock          │ holder panicked                │  │ owner's process is dead, or panicked
//!     │                     ▼                                │  ▼
//!     └──────────────────────────── unlock, wakes one ───────┘  dead  owner | DEAD   (for ever)
//! ```
//!
//! 1. Only the owner leaves `held` and `contended` for `free`. Only whoever found the owner dead, or the owner while it
//!    panics, enters `dead`; nothing leaves it.
//! 2. Whoever sleeps on the word has set `WAITERS` before, and whoever was woken takes the lock as `contended`, since it
//!    cannot know whether others sleep.
//! 3. A sleeper wakes every [`PATIENCE`] to see whether the owner is alive; a wake lost because a process died between
//!    being woken and taking the lock costs that much and no more.
//!
//! What the lock protects may be half changed when its owner dies, so the lock stays dead: the engine closes for writing.

use std::fmt;
use std::time::Duration;

use super::futex;
use super::process::{PID_BITS, current_pid, process_alive};
use super::sync::{AtomicU32, Ordering, spin_loop};
use crate::error::Error;
use crate::shared_struct;

const FREE: u32 = 0;
const WAITERS: u32 = 1 << 31;
const DEAD: u32 = 1 << 30;
const OWNER: u32 = (1 << PID_BITS) - 1;

/// How long a waiter sleeps before it asks whether the owner is alive.
const PATIENCE: Duration = Duration::from_millis(100);

/// Looks at a held lock before sleeping: about a microsecond, longer than most of our critical sections and shorter than
/// a sleep and a wake. Models go to sleep at once: that is what they are there to check.
const SPINS: u32 = if cfg!(feature = "shuttle") { 1 } else { 100 };

/// The process that held a lock died (or panicked) while it held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerDied;

impl fmt::Display for OwnerDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a process died while it was changing the shared region")
    }
}

impl std::error::Error for OwnerDied {}

impl From<OwnerDied> for Error {
    fn from(died: OwnerDied) -> Self {
        Self::Closed(died.to_string())
    }
}

shared_struct! {
    /// A mutual-exclusion lock between threads and processes that notices the death of its owner. Not reentrant.
    pub struct FutexLock {
        word: AtomicU32,
    }
}

/// The right to change what a [`FutexLock`] protects; unlocks on drop. Dropped by a panic, it leaves the lock dead.
#[must_use]
pub struct LockGuard<'a> {
    lock: &'a FutexLock,
    acquired: Acquired,
}

/// What a holder remembers of the moment it took the lock.
#[derive(Clone, Copy, Debug)]
pub struct Acquired {
    /// Whether a panic was already under way (the lock was taken in a destructor); then it says nothing about this holder.
    panicking: bool,
}

impl Acquired {
    #[inline]
    fn now() -> Self {
        Self { panicking: std::thread::panicking() }
    }
}

impl FutexLock {
    /// A free lock. In the region, zeroed bytes are one.
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    /// Waits until the lock is ours.
    ///
    /// # Errors
    /// [`OwnerDied`], now and for ever after, when an owner died.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, OwnerDied> {
        self.acquire()?;
        Ok(self.guard())
    }

    /// Takes the lock if nobody holds it. `None` when it is held, and for ever when an owner died.
    #[inline]
    #[must_use]
    pub fn try_lock(&self) -> Option<LockGuard<'_>> {
        self.replace(FREE, current_pid()).then(|| self.guard())
    }

    /// Whether an owner died. Only waiting for a lock finds that out.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.word.load(Ordering::Relaxed) & DEAD != 0
    }

    #[inline]
    fn guard(&self) -> LockGuard<'_> {
        LockGuard { lock: self, acquired: Acquired::now() }
    }

    #[inline]
    fn acquire(&self) -> Result<(), OwnerDied> {
        let me = current_pid();
        match self.word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => self.acquire_slow(me),
        }
    }

    #[cold]
    fn acquire_slow(&self, me: u32) -> Result<(), OwnerDied> {
        for _ in 0..SPINS {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == FREE && self.replace(FREE, me) {
                return Ok(());
            }
            if seen & (WAITERS | DEAD) != 0 {
                break;
            }
            spin_loop();
        }
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let contended = seen | WAITERS;
            if seen & DEAD != 0 {
                return Err(OwnerDied);
            }
            if seen & OWNER == 0 {
                if self.replace(seen, me | WAITERS) {
                    return Ok(());
                }
                continue;
            }
            if seen != contended && !self.replace(seen, contended) {
                continue;
            }
            let timed_out = futex::wait(&self.word, contended, PATIENCE);
            if timed_out && !process_alive(seen & OWNER) && self.replace(contended, (seen & OWNER) | DEAD) {
                futex::wake(&self.word, u32::MAX);
            }
        }
    }

    #[inline]
    fn replace(&self, old: u32, new: u32) -> bool {
        self.word.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn leave(&self, acquired: Acquired) {
        if std::thread::panicking() && !acquired.panicking {
            self.leave_dead();
        } else if self.word.swap(FREE, Ordering::Release) & WAITERS != 0 {
            futex::wake(&self.word, 1);
        }
    }

    #[cold]
    fn leave_dead(&self) {
        self.word.store(current_pid() | DEAD, Ordering::Release);
        futex::wake(&self.word, u32::MAX);
    }
}

impl Default for FutexLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FutexLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        let state = if word & DEAD != 0 { "dead" } else { "owner" };
        write!(f, "FutexLock({state} {}, waiters {})", word & OWNER, word & WAITERS != 0)
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.leave(self.acquired);
    }
}

/// For code that is generic over locks. It cannot hand an error out, so here `lock` panics when an owner died.
#[expect(unsafe_code, reason = "the trait of lock_api")]
// SAFETY: between a `lock` or successful `try_lock` and the `unlock` no other call takes the lock (invariant 1); taking it
// acquires, leaving it releases. The guard state owns nothing.
unsafe impl lock_api::RawMutex for FutexLock {
    type Guard = Acquired;

    const INIT: Self = Self::new();

    fn lock(&self) -> Acquired {
        if let Err(died) = self.acquire() {
            panic!("{died}");
        }
        Acquired::now()
    }

    fn try_lock(&self) -> Option<Acquired> {
        self.replace(FREE, current_pid()).then(Acquired::now)
    }

    unsafe fn unlock(&self, guard: Acquired) {
        self.leave(guard);
    }

    fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }
}

shared_struct! {
    /// Something that happens again and again and that others wait for. The low bit of the word says that somebody may
    /// be waiting; the rest counts. No waiter is ever counted, so one that dies leaves nothing behind.
    pub struct Event {
        word: AtomicU32,
    }
}

const WAITING: u32 = 1;
const ONE_EVENT: u32 = 2;

impl Event {
    /// An event that has not happened. In the region, zeroed bytes are one.
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// How often it has happened, modulo 2³¹. Read this, then check the condition, then [`wait`](Self::wait) with it.
    #[inline]
    #[must_use]
    pub fn current(&self) -> u32 {
        self.word.load(Ordering::Acquire) / ONE_EVENT
    }

    /// It happened: wakes everybody who waits. One atomic addition when nobody does.
    #[inline]
    pub fn notify(&self) {
        if self.word.fetch_add(ONE_EVENT, Ordering::Release) & WAITING != 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // Whoever sets the bit again before this line sleeps on a word that this line changes, or is woken by the next.
        self.word.fetch_and(!WAITING, Ordering::Relaxed);
        futex::wake(&self.word, u32::MAX);
    }

    /// Waits until it has happened again since [`current`](Self::current) gave `seen`, or `timeout` has passed. May
    /// return early; callers loop over their condition.
    pub fn wait(&self, seen: u32, timeout: Duration) {
        let word = self.word.load(Ordering::Acquire);
        if word / ONE_EVENT != seen {
            return;
        }
        let waiting = word | WAITING;
        if word == waiting || self.word.compare_exchange(word, waiting, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            futex::wait(&self.word, waiting, timeout);
        }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({})", self.current())
    }
}

#[cfg(test)]
mod tests;
