//! Pairs of commands: of the one that wrote a version and the one that changes it, in one transaction.

use pgrx::pg_sys;
use ssd_engine::format::row_version::Stamp;

use super::ids::narrow;
use crate::ffi::externs;

/// The number for the pair of the command that wrote a version and the one, `command`, that changes it: when both are this
/// transaction's.
#[must_use]
pub fn combine(version: Option<Stamp>, command: u32) -> Option<u32> {
    let stamp = version?;
    let xid = narrow(stamp.txn);
    // SAFETY: see the externs; guarded. The server's function looks at writer, command and flags of the header alone.
    unsafe {
        if !externs::TransactionIdIsCurrentTransactionId(xid) {
            return None;
        }
        let mut header: pg_sys::HeapTupleHeaderData = std::mem::zeroed();
        header.t_choice.t_heap.t_xmin = xid;
        header.t_choice.t_heap.t_field3.t_cid = stamp.command.0;
        let (mut shown, mut is_combined) = (command, false);
        pg_sys::HeapTupleHeaderAdjustCmax(&raw mut header, &raw mut shown, &raw mut is_combined);
        is_combined.then_some(shown)
    }
}
