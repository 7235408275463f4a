//! Atomics and a futex for the shuttle model checker: every access is a point where the scheduler may switch threads.
//!
//! The words have the layout of std's, so the code under test runs unchanged on a real region. Outside of [`check`] they
//! behave as std's do. What the model cannot show: reorderings by the processor (every access is sequentially consistent
//! here), and time-outs (a futex wait ends only by a wake, so that a lost wake is a deadlock, which shuttle reports).
#![expect(unsafe_code, reason = "views of region words")]

use std::cell::{Cell, RefCell};
use std::sync::atomic::{self, Ordering};

use crate::mem::region::Shared;

thread_local! {
    // All threads of a model are coroutines of one OS thread, so these belong to the whole model.
    static IN_MODEL: Cell<bool> = const { Cell::new(false) };
    /// Threads of the model that sleep on a word, by address of the word.
    static SLEEPERS: RefCell<Vec<(usize, shuttle::thread::Thread)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` under `iterations` random schedules; panics with a replayable schedule when one fails or deadlocks.
pub fn check(iterations: usize, body: impl Fn() + Send + Sync + 'static) {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_MODEL.set(false);
            SLEEPERS.take();
        }
    }
    IN_MODEL.set(true);
    let _leave = Leave;
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    let scheduler = shuttle::scheduler::RandomScheduler::new(iterations);
    shuttle::Runner::new(scheduler, config).run(body);
}

/// Lets the scheduler switch to another thread; nothing outside of a model.
#[inline]
fn switch() {
    if IN_MODEL.get() {
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

/// Yields to the other threads of the model; false outside of one.
pub(super) fn yield_now() -> bool {
    let inside = IN_MODEL.get();
    if inside {
        shuttle::thread::yield_now();
    }
    inside
}

/// The futex wait of a model; false outside of one. Between the check of the word and the sleep nobody else runs.
pub(in crate::mem) fn futex_wait(word: &AtomicU32, seen: u32) -> bool {
    if !IN_MODEL.get() {
        return false;
    }
    if word.load(Ordering::SeqCst) == seen {
        let address = word.as_ptr().addr();
        let sleeper = shuttle::thread::current();
        let me = sleeper.id();
        SLEEPERS.with_borrow_mut(|all| all.push((address, sleeper)));
        // `park` may end without a wake. That would save whoever a lost wake forgot, so it does not count.
        while SLEEPERS.with_borrow(|all| all.iter().any(|(_, sleeper)| sleeper.id() == me)) {
            shuttle::thread::park();
        }
    }
    true
}

/// The futex wake of a model; false outside of one.
pub(in crate::mem) fn futex_wake(word: &AtomicU32, count: u32) -> bool {
    if !IN_MODEL.get() {
        return false;
    }
    switch();
    let address = word.as_ptr().addr();
    for _ in 0..count {
        let sleeper = SLEEPERS.with_borrow_mut(|all| {
            let at = all.iter().position(|(on, _)| *on == address)?;
            Some(all.remove(at).1)
        });
        let Some(sleeper) = sleeper else { break };
        sleeper.unpark();
    }
    true
}

macro_rules! atomic {
    ($name:ident, $int:ty) => {
        /// As std's type of this name.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(atomic::$name);

        // SAFETY: a transparent wrapper of a primitive atomic.
        unsafe impl Shared for $name {}

        #[expect(missing_docs, reason = "as std's methods")]
        impl $name {
            #[must_use]
            pub const fn new(value: $int) -> Self {
                Self(atomic::$name::new(value))
            }

            /// # Safety
            /// As std's.
            #[must_use]
            pub const unsafe fn from_ptr<'a>(ptr: *mut $int) -> &'a Self {
                // SAFETY: the wrapper is transparent over std's type, which is laid out as the integer; the caller
                // upholds what std's `from_ptr` asks for.
                unsafe { &*ptr.cast::<Self>() }
            }

            #[must_use]
            pub const fn as_ptr(&self) -> *mut $int {
                self.0.as_ptr()
            }

            pub fn load(&self, order: Ordering) -> $int {
                switch();
                self.0.load(order)
            }

            pub fn store(&self, value: $int, order: Ordering) {
                switch();
                self.0.store(value, order);
            }

            pub fn swap(&self, value: $int, order: Ordering) -> $int {
                switch();
                self.0.swap(value, order)
            }

            pub fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                switch();
                self.0.fetch_add(value, order)
            }

            pub fn fetch_max(&self, value: $int, order: Ordering) -> $int {
                switch();
                self.0.fetch_max(value, order)
            }

            pub fn fetch_and(&self, value: $int, order: Ordering) -> $int {
                switch();
                self.0.fetch_and(value, order)
            }

            pub fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                switch();
                self.0.fetch_or(value, order)
            }

            /// # Errors
            /// As std's.
            pub fn compare_exchange(&self, old: $int, new: $int, yes: Ordering, no: Ordering) -> Result<$int, $int> {
                switch();
                self.0.compare_exchange(old, new, yes, no)
            }

            /// # Errors
            /// As std's.
            pub fn fetch_update(
                &self,
                yes: Ordering,
                no: Ordering,
                mut change: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                let mut old = self.load(no);
                while let Some(new) = change(old) {
                    match self.compare_exchange(old, new, yes, no) {
                        Ok(_) => return Ok(old),
                        Err(seen) => old = seen,
                    }
                }
                Err(old)
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
