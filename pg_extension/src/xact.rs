//! Transactions of the server as the engine asks for them.

pub mod aborted;
pub mod commands;
pub mod ends;
pub mod garbage;
pub mod ids;
pub mod snapshot;
pub mod status;

use pgrx::pg_sys;

/// Whether the present transaction has to tell the server what it reads and changes.
#[inline]
#[must_use]
pub fn is_serializable() -> bool {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32 }
}
