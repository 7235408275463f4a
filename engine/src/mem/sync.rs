//! The atomics that `mem` is written with: std's, or under the feature `shuttle` the same words with scheduling points.
//!
//! Whoever hands a word to `mem` (a generation, the visible sequence number) declares it with these types.

#[cfg(feature = "shuttle")]
pub mod model;

#[cfg(not(feature = "shuttle"))]
pub use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(feature = "shuttle")]
pub use model::{AtomicU32, AtomicU64};

pub use std::sync::atomic::{Ordering, fence};

/// Tells the processor (or the model's scheduler) that this thread is waiting for another one for a few cycles.
#[inline]
pub fn spin_loop() {
    #[cfg(feature = "shuttle")]
    model::yield_now();
    std::hint::spin_loop();
}

/// Gives the processor to another thread.
#[inline]
pub fn yield_now() {
    #[cfg(feature = "shuttle")]
    if model::yield_now() {
        return;
    }
    std::thread::yield_now();
}
