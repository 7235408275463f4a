//! Bitmap scans: rows by roots that indexes have collected, block by block.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, TBMIterateResult, TableScanDesc, TupleTableSlot};

use super::scan::{State, advance, counts, state};
use super::{fetch, slot};
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::read::{self, Found};
use crate::ops::tid::{Root, Tid};
use crate::xact::snapshot::is_serializable;
use crate::xact::status::Status;

/// Begins with the next block of the bitmap.
#[pg_guard]
pub unsafe extern "C-unwind" fn next_block(scan: TableScanDesc, result: *mut TBMIterateResult) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let state = state(scan);
        let block = (*result).blockno;
        state.pending.clear();
        state.at = 0;
        state.block = None;
        let count = (*result).ntuples;
        if count < 0 {
            // Only the block is known: all of its rows are looked at, and read ahead.
            externs::guarded(|| externs::PredicateLockPage((*scan).rs_rd, block, (*scan).rs_snapshot));
            state.block = Some(block);
            state.restart_blocks(block..block + 1);
            return true;
        }
        let offsets = (*result).offsets.as_slice(count as usize);
        state.pending.extend(offsets.iter().filter(|&&at| at <= 127).map(|&at| Root { block, slot: at as u8 }));
        !state.pending.is_empty()
    }
}

/// The next row of the block.
#[pg_guard]
pub unsafe extern "C-unwind" fn next_tuple(
    scan: TableScanDesc,
    _result: *mut TBMIterateResult,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let rel = (*scan).rs_rd;
        if state(scan).block.is_some() {
            let there = advance(scan, pg_sys::ScanDirection::ForwardScanDirection, slot);
            if there && let Some(counts) = counts(rel) {
                counts.t_tuples_fetched += 1;
            }
            return there;
        }
        let (lsm, status) = (link::lsm(), Status::new((*scan).rs_snapshot));
        let mut found = Found::default();
        let state = state(scan);
        // Serializable transactions lock each version before they look at it.
        let reads_ahead = !is_serializable();
        while let Some(&root) = state.pending.get(state.at) {
            state.at += 1;
            let State { neighbours, tree, snapshot, .. } = state;
            if reads_ahead && neighbours.show(rel, (*tree, root), (snapshot, &status), slot) {
                if let Some(counts) = counts(rel) {
                    counts.t_tuples_fetched += 1;
                }
                return true;
            }
            if read::fetch(lsm, (state.tree, root), &state.snapshot, &status, &mut found).or_raise() {
                let tid = Tid { root, number: found.number };
                fetch::note_read(rel, (*scan).rs_snapshot, tid, &found);
                slot::store_found(slot, (*rel).rd_id, root, &found);
                if let Some(counts) = counts(rel) {
                    counts.t_tuples_fetched += 1;
                }
                return true;
            }
            fetch::note_passed(rel, (*scan).rs_snapshot, &found.passed);
        }
        false
    }
}
