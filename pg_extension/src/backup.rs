//! Base backups, from both ends: whether one is being taken, and whether the directory is the restored copy of one.
//!
//! A backup copies the data directory file by file while it changes. What the engine needs so that such a copy opens again is that
//! no file of the version that was in force when the copying began goes away before it ends (docs/decisions/0005 has the whole
//! argument). So removals wait while a backup runs.
//!
//! Stock Postgres counts the backups that run in shared memory, for `pg_basebackup` and `pg_backup_start` alike, but exports
//! neither the count nor a function that tells it. Its place is at the head of the structure "XLOG Ctl", which every library can
//! look up by name; the order of the fields before it is that of PostgreSQL 15's xlog.c. The redo pointer stands beside it, and
//! must be the one that the server tells: that is checked before the count is believed.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering, fence};

use pgrx::pg_sys;
use ssd_engine::base::ids::Lsn;

use crate::ffi::externs;

/// Bytes between the two parts of [`InsertState`] that are written by everybody and by few.
const PADDING: usize = pg_sys::PG_CACHE_LINE_SIZE as usize;
/// Looks at a redo pointer that may be moving.
const LOOKS: usize = 100;

/// The head of "XLOG Ctl" in PostgreSQL 15.
#[repr(C)]
struct InsertState {
    lock: pg_sys::slock_t,
    position: u64,
    previous: u64,
    padding: [u8; PADDING],
    redo: u64,
    force_page_writes: bool,
    full_page_writes: bool,
    running_backups: i32,
}

static STATE: AtomicPtr<InsertState> = AtomicPtr::new(std::ptr::null_mut());

/// Finds the count; in the postmaster, when shared memory has been made.
///
/// # Safety
/// Only in the hook for that.
pub unsafe fn find_state() {
    let mut found = false;
    // SAFETY: the structure exists before libraries are asked, so it is found and neither made nor changed.
    let state = unsafe { pg_sys::ShmemInitStruct(c"XLOG Ctl".as_ptr(), pg_sys::XLOGShmemSize(), &raw mut found) };
    STATE.store(if found { state.cast() } else { std::ptr::null_mut() }, Ordering::Relaxed);
}

fn state() -> Option<NonNull<InsertState>> {
    NonNull::new(STATE.load(Ordering::Relaxed))
}

/// Whether a base backup is being taken.
#[must_use]
pub fn is_running() -> bool {
    // What is asked for here comes after whatever made a file obsolete.
    fence(Ordering::SeqCst);
    // SAFETY: in shared memory for the life of the process; the word is written by others, and read whole.
    state().is_some_and(|state| unsafe { (&raw const (*state.as_ptr()).running_backups).read_volatile() } > 0)
}

/// Whether the count is where this library looks for it. Once the redo pointer is known, which it is when recovery begins.
#[must_use]
pub fn is_known() -> bool {
    let Some(state) = state() else { return false };
    (0..LOOKS).any(|_| {
        // SAFETY: as in `is_running`; GetRedoRecPtr raises nothing.
        unsafe {
            let (before, told) = ((&raw const (*state.as_ptr()).redo).read_volatile(), externs::GetRedoRecPtr());
            before == told && before != 0
        }
    })
}

/// Where replay began, when the data directory is a copy that was taken while it changed and whose log has not been replayed to
/// the end of the copying yet.
#[must_use]
pub fn replayed_from() -> Option<Lsn> {
    // SAFETY: reads a file; the result is this process's own.
    unsafe {
        if !externs::RecoveryInProgress() {
            return None;
        }
        let mut sound = false;
        let control = pg_sys::get_controlfile(pg_sys::DataDir, &raw mut sound);
        let (start, redo) = ((*control).backupStartPoint, (*control).checkPointCopy.redo);
        pg_sys::pfree(control.cast());
        (start != 0).then_some(Lsn(redo))
    }
}
