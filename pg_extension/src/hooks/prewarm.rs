//! `pg_prewarm` on our tables: there is nothing in the server's buffers to warm.
//!
//! The function asks the access method how many blocks the table has and reads them from the main fork, which has none: an error
//! that looks like damage, also for whoever warms all tables. While it runs, a table of ours is said to be as long as its fork is.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys::{self, Datum, FmgrHookEventType, FmgrInfo, Oid};

/// Whether this process is in a call of it.
static RUNS: AtomicBool = AtomicBool::new(false);
static mut PREVIOUS: pg_sys::fmgr_hook_type = None;
static mut PREVIOUS_NEEDS: pg_sys::needs_fmgr_hook_type = None;

/// The language of functions in C.
const C_LANGUAGE: u32 = 13;

/// Puts the hooks in.
///
/// # Safety
/// In the postmaster, before anything else runs.
pub unsafe fn install() {
    // SAFETY: the caller's promise.
    unsafe {
        PREVIOUS_NEEDS = pg_sys::needs_fmgr_hook;
        pg_sys::needs_fmgr_hook = Some(needs);
        PREVIOUS = pg_sys::fmgr_hook;
        pg_sys::fmgr_hook = Some(called);
    }
}

/// Whether this process is in a call of `pg_prewarm`.
#[must_use]
pub fn runs() -> bool {
    RUNS.load(Ordering::Relaxed)
}

unsafe fn previous_needs(function: Oid) -> bool {
    // SAFETY: the hook of another library.
    unsafe { PREVIOUS_NEEDS.is_some_and(|needs| needs(function)) }
}

unsafe extern "C-unwind" fn needs(function: Oid) -> bool {
    // SAFETY: no value with a destructor is alive.
    unsafe { previous_needs(function) || is_prewarm(function) }
}

/// Whether this is the function of the extension of that name.
unsafe fn is_prewarm(function: Oid) -> bool {
    if u32::from(function) < pg_sys::FirstNormalObjectId {
        return false;
    }
    // SAFETY: guarded; the row of a function begins with its fixed columns and is let go of.
    unsafe {
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, Datum::from(function));
        if row.is_null() {
            return false;
        }
        let data = (*row).t_data;
        let columns = &*data.cast::<u8>().add(usize::from((*data).t_hoff)).cast::<pg_sys::FormData_pg_proc>();
        let is_it =
            u32::from(columns.prolang) == C_LANGUAGE && CStr::from_ptr(columns.proname.data.as_ptr()) == c"pg_prewarm";
        pg_sys::ReleaseSysCache(row);
        is_it
    }
}

unsafe extern "C-unwind" fn called(event: FmgrHookEventType::Type, function: *mut FmgrInfo, private: *mut Datum) {
    // SAFETY: the server's arguments, passed on to whoever wants to know of this function.
    unsafe {
        let oid = (*function).fn_oid;
        if is_prewarm(oid) {
            RUNS.store(event == FmgrHookEventType::FHET_START, Ordering::Relaxed);
        }
        if let Some(previous) = PREVIOUS.filter(|_| previous_needs(oid)) {
            previous(event, function, private);
        }
    }
}
