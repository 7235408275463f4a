//! What happens with the end of a transaction.

use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, SubTransactionId, SubXactEvent, XactEvent};

use super::status::Status;
use crate::error::OrRaise;
use crate::{hooks, link};

/// Asks to be told of ends; the list is inherited by every process.
pub fn register() {
    // SAFETY: guarded; functions of this library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_end_of_sub), std::ptr::null_mut());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_end(event: XactEvent::Type, _arg: *mut c_void) {
    match event {
        // Row locks of a prepared transaction outlive the shared memory they are in.
        XactEvent::XACT_EVENT_PRE_PREPARE if link::is_used() => {
            let store = &link::writer().store;
            store.locks().keep_own(store.latches(), &Status::now()).or_raise();
        }
        XactEvent::XACT_EVENT_ABORT => hooks::prefetch::after_abort(),
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_end_of_sub(
    event: SubXactEvent::Type,
    _id: SubTransactionId,
    _parent: SubTransactionId,
    _arg: *mut c_void,
) {
    if event == SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        hooks::prefetch::after_abort();
    }
}
