//! What this process waits for, as `pg_stat_activity` shows it.
//!
//! PostgreSQL 15 lets an extension name one wait event, `Extension`. So reads and writes of files show as the server's own of data
//! files, which they are in place of; a wait inside the engine shows as one for a lock of a tranche with its name (type `LWLock`).

use pgrx::pg_sys;
use pgrx::pg_sys::WaitEventIO;

use crate::shmem::{self, Tranche};

/// A block is read.
pub const READ: u32 = WaitEventIO::WAIT_EVENT_DATA_FILE_READ;
/// Blocks are written.
pub const WRITE: u32 = WaitEventIO::WAIT_EVENT_DATA_FILE_WRITE;
/// What was written is made stable.
pub const SYNC: u32 = WaitEventIO::WAIT_EVENT_DATA_FILE_SYNC;
/// A file gets space.
pub const EXTEND: u32 = WaitEventIO::WAIT_EVENT_DATA_FILE_EXTEND;
/// A file is cut.
pub const TRUNCATE: u32 = WaitEventIO::WAIT_EVENT_DATA_FILE_TRUNCATE;

/// The wait for what `tranche` stands for.
#[must_use]
pub fn of(tranche: Tranche) -> u32 {
    pg_sys::PG_WAIT_LWLOCK | shmem::tranche_id(tranche)
}

/// Shows a wait until it is dropped.
#[must_use]
pub struct Shown(());

/// Shows `event` as what this process waits for. Waits are not nested.
#[inline]
pub fn show(event: u32) -> Shown {
    set(event);
    Shown(())
}

impl Drop for Shown {
    #[inline]
    fn drop(&mut self) {
        end();
    }
}

/// Shows that this process waits for nothing any more.
#[inline]
pub fn end() {
    set(0);
}

/// Shows `event` until [`end`].
#[inline]
pub fn set(event: u32) {
    // SAFETY: the server lets this point to a word of this process's own until it has one in shared memory, and only this
    // process writes there. One thread does, as the server's own code: the engine's worker threads do not come here.
    unsafe { std::ptr::write_volatile(pg_sys::my_wait_event_info, event) }
}
