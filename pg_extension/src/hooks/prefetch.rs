//! No prefetching from the main fork of our tables, which has a page at most: beyond the first 131072 blocks (a segment's) that is an
//! error.
//!
//! The server prefetches in two places. Bitmap scans ask `effective_io_concurrency` when they are started, and keep what they have
//! been told in their state, where it can be changed. But rows that were changed meanwhile are checked again by plans that are started
//! without asking anybody, so the setting itself is 0 while a plan with row marks or changes runs. ANALYZE asks
//! `maintenance_io_concurrency` between the question how many blocks the table has and the begin of its scan; for so long the setting
//! is 0.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;

use super::is_ours;
use crate::am::planner;
use crate::error::fail;
use crate::ffi::externs;

/// Blocks in a segment of a relation's file.
const SEGMENT: u64 = pg_sys::RELSEG_SIZE as u64;

static EXECUTOR: Hushed = Hushed::new(|| &raw mut pg_sys::effective_io_concurrency);
static ANALYZE: Hushed = Hushed::new(|| &raw mut pg_sys::maintenance_io_concurrency);
/// The nesting of the (sub)transaction in which this process carries out VACUUM or ANALYZE; 0 when it does not.
static VACUUMS: AtomicI32 = AtomicI32::new(0);

fn level() -> i32 {
    // SAFETY: see there.
    unsafe { externs::GetCurrentTransactionNestLevel() }
}

/// A setting of this process that is 0 for a while.
struct Hushed {
    setting: fn() -> *mut i32,
    /// What it was; -1 when it is not changed.
    before: AtomicI32,
    /// The nesting of the (sub)transaction that has changed it: who aborts that one sets it back.
    level: AtomicI32,
}

impl Hushed {
    const fn new(setting: fn() -> *mut i32) -> Self {
        Self { setting, before: AtomicI32::new(-1), level: AtomicI32::new(0) }
    }

    /// Sets it to 0; whether that was to do.
    fn begin(&self) -> bool {
        // SAFETY: a variable of this process, and only this thread uses it.
        let before = unsafe { std::ptr::replace((self.setting)(), 0) };
        if before != 0 {
            self.before.store(before, Ordering::Relaxed);
            self.level.store(level(), Ordering::Relaxed);
        }
        before != 0
    }

    /// Sets it back, if it was changed.
    fn end(&self) {
        let before = self.before.swap(-1, Ordering::Relaxed);
        if before >= 0 {
            // SAFETY: as in `begin`.
            unsafe { *(self.setting)() = before };
        }
    }

    fn after_abort(&self, level: i32) {
        if self.level.load(Ordering::Relaxed) >= level {
            self.end();
        }
    }
}

/// Keeps the bitmap scans over our tables, in this part of a plan, from prefetching.
///
/// # Safety
/// A node of a plan that was started.
pub unsafe extern "C-unwind" fn calm(state: *mut pg_sys::PlanState, context: *mut c_void) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if (*state).type_ == pg_sys::NodeTag::T_BitmapHeapScanState {
            let scan = state.cast::<pg_sys::BitmapHeapScanState>();
            if is_ours((*scan).ss.ss_currentRelation) {
                (*scan).prefetch_maximum = 0;
            }
        }
        externs::planstate_tree_walker(state, calm, context)
    }
}

/// A plan with row marks or changes begins to run; whether there is something to [set back](run_ends).
pub fn run_begins() -> bool {
    EXECUTOR.begin()
}

/// It has ended.
pub fn run_ends() {
    EXECUTOR.end();
}

/// A statement begins that is VACUUM or ANALYZE.
pub fn vacuum_begins() {
    VACUUMS.store(level(), Ordering::Relaxed);
}

/// It has ended.
pub fn vacuum_ends() {
    VACUUMS.store(0, Ordering::Relaxed);
    ANALYZE.end();
}

/// Somebody asks for the blocks of a table of ours: perhaps ANALYZE, which then asks how much to prefetch.
pub fn blocks_asked() {
    // SAFETY: a variable of this process.
    let is_worker = unsafe { pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER };
    if is_worker || VACUUMS.load(Ordering::Relaxed) > 0 {
        ANALYZE.begin();
    }
}

/// The scan of ANALYZE over a table of ours begins: how much to prefetch has been asked before.
///
/// # Safety
/// `rel` is open.
pub unsafe fn analyze_begins(rel: pg_sys::Relation) {
    // The tablespace's own setting goes before the one that is 0 now.
    // SAFETY: guarded; the caller's promise.
    let (prefetched, blocks) = unsafe {
        (pg_sys::get_tablespace_maintenance_io_concurrency((*(*rel).rd_rel).reltablespace), planner::blocks(rel))
    };
    ANALYZE.end();
    if prefetched > 0 && blocks > SEGMENT {
        fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot analyze a table of ssdlsm beyond 131072 blocks in a tablespace with its own maintenance_io_concurrency",
            "Use ALTER TABLESPACE ... RESET (maintenance_io_concurrency).",
        );
    }
}

/// The present transaction or subtransaction is aborted: sets back what it had set.
pub fn after_abort() {
    let level = level();
    EXECUTOR.after_abort(level);
    ANALYZE.after_abort(level);
    if VACUUMS.load(Ordering::Relaxed) >= level {
        VACUUMS.store(0, Ordering::Relaxed);
    }
}
