//! The access method's handler and its table of callbacks, nothing else.

use pgrx::pg_sys;

use crate::am::{
    analyze, bitmap, cluster, ddl, fetch, index_build, index_fetch, insert, lock, modify, planner, sample, scan, slot,
    speculative, vacuum,
};
use crate::ffi::externs;

struct Routine(pg_sys::TableAmRoutine);

// SAFETY: a table of functions, never changed.
unsafe impl Sync for Routine {}

static ROUTINE: Routine = Routine(pg_sys::TableAmRoutine {
    type_: pg_sys::NodeTag::T_TableAmRoutine,
    slot_callbacks: Some(slot::callbacks),
    scan_begin: Some(scan::begin),
    scan_end: Some(scan::end),
    scan_rescan: Some(scan::rescan),
    scan_getnextslot: Some(scan::next),
    scan_set_tidrange: Some(scan::set_tid_range),
    scan_getnextslot_tidrange: Some(scan::next_in_tid_range),
    parallelscan_estimate: Some(externs::table_block_parallelscan_estimate),
    parallelscan_initialize: Some(externs::table_block_parallelscan_initialize),
    parallelscan_reinitialize: Some(externs::table_block_parallelscan_reinitialize),
    index_fetch_begin: Some(index_fetch::begin),
    index_fetch_reset: Some(index_fetch::reset),
    index_fetch_end: Some(index_fetch::end),
    index_fetch_tuple: Some(index_fetch::tuple),
    tuple_fetch_row_version: Some(fetch::row_version),
    tuple_tid_valid: Some(fetch::tid_valid),
    tuple_get_latest_tid: Some(fetch::latest_tid),
    tuple_satisfies_snapshot: Some(fetch::satisfies_snapshot),
    index_delete_tuples: Some(index_fetch::delete_tuples),
    tuple_insert: Some(insert::insert),
    tuple_insert_speculative: Some(speculative::insert),
    tuple_complete_speculative: Some(speculative::complete),
    multi_insert: Some(insert::multi_insert),
    tuple_delete: Some(modify::delete),
    tuple_update: Some(modify::update),
    tuple_lock: Some(lock::tuple),
    finish_bulk_insert: None,
    relation_set_new_filenode: Some(ddl::set_new_filenode),
    relation_nontransactional_truncate: Some(ddl::nontransactional_truncate),
    relation_copy_data: Some(ddl::copy_data),
    relation_copy_for_cluster: Some(cluster::copy),
    relation_vacuum: Some(vacuum::vacuum),
    scan_analyze_next_block: Some(analyze::next_block),
    scan_analyze_next_tuple: Some(analyze::next_tuple),
    index_build_range_scan: Some(index_build::range_scan),
    index_validate_scan: Some(index_build::validate_scan),
    relation_size: Some(planner::size),
    relation_needs_toast_table: Some(planner::needs_toast_table),
    relation_toast_am: Some(planner::toast_am),
    relation_fetch_toast_slice: None,
    relation_estimate_size: Some(planner::estimate_size),
    scan_bitmap_next_block: Some(bitmap::next_block),
    scan_bitmap_next_tuple: Some(bitmap::next_tuple),
    scan_sample_next_block: Some(sample::next_block),
    scan_sample_next_tuple: Some(sample::next_tuple),
});

/// The table of callbacks: what a relation of ours points to.
#[must_use]
pub const fn routine() -> *const pg_sys::TableAmRoutine {
    &raw const ROUTINE.0
}

/// Returns the table of callbacks.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ssdlsm_handler(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    pg_sys::Datum::from((&raw const ROUTINE.0).addr())
}

/// Says which calling convention the handler has.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_ssdlsm_handler() -> *const pg_sys::Pg_finfo_record {
    static INFO: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &raw const INFO
}
