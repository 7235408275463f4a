//! Row latches: what makes "look at the newest version, then write a newer one" one step.
//!
//! They are the host's own locks, held over block reads and log writes (which no lock of the region is): lightweight locks
//! of Postgres in the extension, so that an error releases them, and mutexes elsewhere. A latch is never held while its
//! holder waits for a transaction.

use parking_lot::Mutex;

use crate::error::Result;

/// A fixed number of latches, each shared by many rows.
pub trait RowLatches: Send + Sync {
    /// Runs `work` with the latch that `number` (any number) falls on. Numbers that are equal in their low bits share one;
    /// the count of latches is a power of two, at most [`LATCHES_MAX`].
    ///
    /// # Errors
    /// What `work` returned.
    fn latched(&self, number: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<()>;
}

/// Most latches that a host may have.
pub const LATCHES_MAX: usize = 1024;

/// Latches of one process.
pub struct ProcessLatches {
    latches: Box<[Line]>,
}

/// A latch on a cache line of its own.
#[repr(align(64))]
struct Line(Mutex<()>);

impl Default for ProcessLatches {
    fn default() -> Self {
        Self { latches: (0..LATCHES_MAX).map(|_| Line(Mutex::new(()))).collect() }
    }
}

impl RowLatches for ProcessLatches {
    fn latched(&self, number: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let _held = self.latches[number & (LATCHES_MAX - 1)].0.lock();
        work()
    }
}
