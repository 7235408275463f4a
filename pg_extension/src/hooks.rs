//! Hooks into commands: what the access method's interface leaves out.
//!
//! 1. Bitmap scans make the server prefetch blocks of the table's main fork, which has none, and which is an error beyond the first
//!    131072. So they are told not to.
//! 2. CREATE DATABASE copies files of the template; rows of our tables are copied here.
//! 3. `pg_prewarm` reads the main fork, see [`prewarm`].

pub mod prewarm;

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use pgrx::pg_guard;
use pgrx::pg_sys;

use crate::am::copy;
use crate::ffi::externs;
use crate::handler;

/// The setting that a run under way has set to 0; -1 when there is none.
static SAVED: AtomicI32 = AtomicI32::new(-1);
static mut PREVIOUS_START: pg_sys::ExecutorStart_hook_type = None;
static mut PREVIOUS_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut PREVIOUS_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Puts the hooks in.
pub fn install() {
    // SAFETY: in the postmaster, before anything else runs.
    unsafe {
        PREVIOUS_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        PREVIOUS_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
        PREVIOUS_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
        prewarm::install();
    }
}

/// Whether `rel` is one of our tables.
unsafe fn is_ours(rel: pg_sys::Relation) -> bool {
    // SAFETY: an open relation, or null.
    unsafe { !rel.is_null() && (*rel).rd_tableam == handler::routine() }
}

unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: the server's arguments, passed on; no value with a destructor is alive.
    unsafe {
        match PREVIOUS_START {
            Some(previous) => previous(query, flags),
            None => externs::standard_ExecutorStart(query, flags),
        }
        if !(*query).planstate.is_null() {
            calm(std::ptr::addr_of_mut!(*(*query).planstate), std::ptr::null_mut());
        }
        let mut cell = 0;
        let subplans = (*(*query).estate).es_subplanstates;
        while !subplans.is_null() && cell < (*subplans).length {
            let state = (*(*subplans).elements.add(cell as usize)).ptr_value.cast::<pg_sys::PlanState>();
            if !state.is_null() {
                calm(state, std::ptr::null_mut());
            }
            cell += 1;
        }
    }
}

/// Keeps the bitmap scans over our tables, in this part of a plan, from prefetching.
unsafe extern "C-unwind" fn calm(state: *mut pg_sys::PlanState, context: *mut c_void) -> bool {
    // SAFETY: a node of a plan that was started.
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

/// Rows that were changed meanwhile are checked again by plans that the executor starts without asking anybody: while one with row
/// marks or changes runs, nothing is prefetched by default.
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: the server's arguments, passed on; no value with a destructor is alive.
    unsafe {
        let plan = (*query).plannedstmt;
        let rechecks = !(*plan).rowMarks.is_null() || !(*plan).resultRelations.is_null();
        let before = pg_sys::effective_io_concurrency;
        if rechecks && before != 0 {
            SAVED.store(before, Ordering::Relaxed);
            pg_sys::effective_io_concurrency = 0;
        }
        match PREVIOUS_RUN {
            Some(previous) => previous(query, direction, count, once),
            None => externs::standard_ExecutorRun(query, direction, count, once),
        }
        if rechecks && before != 0 {
            pg_sys::effective_io_concurrency = before;
            SAVED.store(-1, Ordering::Relaxed);
        }
    }
}

/// An error has left a run: sets back what it had set.
pub fn after_abort() {
    let saved = SAVED.swap(-1, Ordering::Relaxed);
    if saved >= 0 {
        // SAFETY: a variable of this process.
        unsafe { pg_sys::effective_io_concurrency = saved };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server's arguments, passed on.
    unsafe {
        match PREVIOUS_UTILITY {
            Some(previous) => {
                previous(statement, text, read_only, context, params, environment, dest, completion);
            }
            None => externs::standard_ProcessUtility(
                statement,
                text,
                read_only,
                context,
                params,
                environment,
                dest,
                completion,
            ),
        }
        let command = (*statement).utilityStmt;
        if !command.is_null() && (*command).type_ == pg_sys::NodeTag::T_CreatedbStmt {
            created_database(command.cast());
        }
    }
}

/// Copies the rows of the template to a database that was just created.
unsafe fn created_database(command: *mut pg_sys::CreatedbStmt) {
    // SAFETY: guarded; a statement that was carried out.
    unsafe {
        let mut template = c"template1".as_ptr();
        let options = (*command).options;
        let mut cell = 0;
        while !options.is_null() && cell < (*options).length {
            let option = (*(*options).elements.add(cell as usize)).ptr_value.cast::<pg_sys::DefElem>();
            if CStr::from_ptr((*option).defname) == c"template" && !(*option).arg.is_null() {
                template = pg_sys::defGetString(option);
            }
            cell += 1;
        }
        let from = pg_sys::get_database_oid(template, true);
        let to = pg_sys::get_database_oid((*command).dbname, true);
        if from != pg_sys::InvalidOid && to != pg_sys::InvalidOid {
            copy::database(from, to);
        }
    }
}
