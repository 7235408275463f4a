//! Hooks into commands: what the access method's interface leaves out.
//!
//! 1. Nothing is prefetched from the main fork of a table of ours, see [`prefetch`].
//! 2. CREATE DATABASE copies files of the template; rows of our tables are copied here.
//! 3. `pg_prewarm` reads the main fork, see [`prewarm`].

pub mod prefetch;
pub mod prewarm;

use std::ffi::{CStr, c_char};

use pgrx::pg_guard;
use pgrx::pg_sys;

use crate::am::copy;
use crate::ffi::externs;
use crate::handler;

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
            prefetch::calm(std::ptr::addr_of_mut!(*(*query).planstate), std::ptr::null_mut());
        }
        let mut cell = 0;
        let subplans = (*(*query).estate).es_subplanstates;
        while !subplans.is_null() && cell < (*subplans).length {
            let state = (*(*subplans).elements.add(cell as usize)).ptr_value.cast::<pg_sys::PlanState>();
            if !state.is_null() {
                prefetch::calm(state, std::ptr::null_mut());
            }
            cell += 1;
        }
    }
}

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
        let is_calmed = rechecks && prefetch::run_begins();
        match PREVIOUS_RUN {
            Some(previous) => previous(query, direction, count, once),
            None => externs::standard_ExecutorRun(query, direction, count, once),
        }
        if is_calmed {
            prefetch::run_ends();
        }
    }
}

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
    // SAFETY: the server's arguments, passed on; no value with a destructor is alive.
    unsafe {
        let command = (*statement).utilityStmt;
        let is = |tag| !command.is_null() && (*command).type_ == tag;
        let (is_vacuum, creates) = (is(pg_sys::NodeTag::T_VacuumStmt), is(pg_sys::NodeTag::T_CreatedbStmt));
        if is_vacuum {
            prefetch::vacuum_begins();
        }
        let next = PREVIOUS_UTILITY.unwrap_or(externs::standard_ProcessUtility);
        next(statement, text, read_only, context, params, environment, dest, completion);
        if is_vacuum {
            prefetch::vacuum_ends();
        }
        if creates {
            created_database(command.cast());
        }
    }
}

/// Copies the rows of the template to a database that was just created.
#[pg_guard]
unsafe extern "C-unwind" fn created_database(command: *mut pg_sys::CreatedbStmt) {
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
