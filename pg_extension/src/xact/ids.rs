//! Transaction ids: 64 bits in the engine, 32 in the server's structures.

use pgrx::pg_sys;
use ssd_engine::base::ids::TxnId;

use crate::ffi::externs;

/// The id that `xid` stands for: the one within half a turn of the next id to be handed out. Permanent ids keep their number.
#[must_use]
pub fn widen(xid: pg_sys::TransactionId) -> TxnId {
    let xid = u32::from(xid);
    if xid < u32::from(pg_sys::FirstNormalTransactionId) {
        return TxnId(u64::from(xid));
    }
    let next = next_id();
    let distance = (next as u32).wrapping_sub(xid) as i32;
    TxnId(next.wrapping_sub(i64::from(distance) as u64))
}

/// The server's form of an id.
#[must_use]
pub const fn narrow(txn: TxnId) -> pg_sys::TransactionId {
    pg_sys::TransactionId::from_inner(txn.0 as u32)
}

/// The next id to be handed out.
#[must_use]
pub fn next_id() -> u64 {
    // SAFETY: lives in shared memory for the life of the process; an aligned word that is read whole.
    unsafe { std::ptr::read_volatile(&raw const (*pg_sys::ShmemVariableCache).nextXid.value) }
}

/// The id of the present (sub)transaction, which is handed out now at the latest.
#[must_use]
pub fn current() -> TxnId {
    // SAFETY: in a transaction; the second call is guarded.
    let known = unsafe { externs::GetCurrentTransactionIdIfAny() };
    if known != pg_sys::InvalidTransactionId {
        return widen(known);
    }
    // SAFETY: as above.
    widen(unsafe { pg_sys::GetCurrentTransactionId() })
}
