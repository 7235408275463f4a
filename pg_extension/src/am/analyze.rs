//! ANALYZE: rows of blocks that are drawn from all that ctids have reached.
//!
//! Dead rows go with compactions, so a sample does not show how many there were; but their index entries stay until VACUUM, and
//! `n_dead_tup` is what asks for one. So ANALYZE, which sets that number to what it has found, finds what the statistics have had
//! before, spread over all blocks.

use std::cell::Cell;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, BlockNumber, ScanDirection, TableScanDesc, TupleTableSlot};
use ssd_engine::mvcc::snapshot::Snapshot;

use super::scan::{advance, state};
use super::{counts, planner};
use crate::error::OrRaise;
use crate::link;
use crate::ops::numbers;

thread_local! {
    /// Dead rows for each block of the table that is analyzed, and whether the present block's have been told.
    static DEAD: Cell<(f64, bool)> = const { Cell::new((0.0, true)) };
}

/// Begins with a block.
#[pg_guard]
pub unsafe extern "C-unwind" fn next_block(
    scan: TableScanDesc,
    block: BlockNumber,
    _strategy: pg_sys::BufferAccessStrategy,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let state = state(scan);
        let is_first = state.block.replace(block).is_none();
        let of_block = if is_first { dead_of_block((*scan).rs_rd) } else { DEAD.get().0 };
        DEAD.set((of_block, false));
        state.snapshot = Snapshot::Now;
        if is_first {
            numbers::note_counted(link::writer().store.lsm(), state.tree, None).or_raise();
        }
        state.restart_blocks(block..block + 1);
        true
    }
}

/// The next live row of the block.
#[pg_guard]
pub unsafe extern "C-unwind" fn next_tuple(
    scan: TableScanDesc,
    _oldest: pg_sys::TransactionId,
    live: *mut f64,
    dead: *mut f64,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let (of_block, is_told) = DEAD.get();
        if !is_told {
            *dead += of_block;
            DEAD.set((of_block, true));
        }
        let there = advance(scan, ScanDirection::ForwardScanDirection, slot);
        if there {
            *live += 1.0;
        } else {
            ((*(*slot).tts_ops).clear.expect("every kind of slot has it"))(slot);
        }
        there
    }
}

/// Dead rows for each block of `rel`, by what the statistics have.
unsafe fn dead_of_block(rel: pg_sys::Relation) -> f64 {
    // SAFETY: the relation is open, and its counts live as long as it is.
    unsafe {
        let mut dead = counts::stored((*rel).rd_id).map_or(0, |stored| stored.n_dead_tuples);
        let status = (*rel).pgstat_info;
        if !status.is_null() {
            // What this transaction will add at its end is subtracted from what ANALYZE has found.
            let mut changes = (*status).trans;
            while !changes.is_null() {
                dead += (*changes).tuples_updated + (*changes).tuples_deleted;
                changes = (*changes).upper;
            }
            dead += (*status).t_counts.t_delta_dead_tuples;
        }
        dead.max(0) as f64 / planner::blocks(rel).max(1) as f64
    }
}
