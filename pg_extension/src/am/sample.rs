//! Sample scans: blocks and slots that a sampling method picks.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, SampleScanState, TableScanDesc, TupleTableSlot};

use super::scan::state;
use super::{fetch, planner, slot};
use crate::error::OrRaise;
use crate::link;
use crate::ops::read::{self, Found};
use crate::ops::tid::{Root, SLOTS, Tid};
use crate::xact::status::Status;

/// Goes to the next block of the sample; false after the last.
#[pg_guard]
pub unsafe extern "C-unwind" fn next_block(scan: TableScanDesc, sample: *mut SampleScanState) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let state = state(scan);
        if state.blocks == 0 {
            state.blocks = planner::blocks((*scan).rs_rd).min(u64::from(u32::MAX - 1)) as u32;
        }
        if state.blocks == 0 {
            return false;
        }
        let method = &*(*sample).tsmroutine;
        state.block = match method.NextSampleBlock {
            Some(next) => {
                let block = next(sample, state.blocks);
                (block != pg_sys::InvalidBlockNumber).then_some(block)
            }
            None => {
                let block = state.block.map_or(0, |block| block + 1);
                (block < state.blocks).then_some(block)
            }
        };
        state.block.is_some()
    }
}

/// The next row of the block that is in the sample.
#[pg_guard]
pub unsafe extern "C-unwind" fn next_tuple(
    scan: TableScanDesc,
    sample: *mut SampleScanState,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let rel = (*scan).rs_rd;
        let (lsm, status) = (link::lsm(), Status::new((*scan).rs_snapshot));
        let state = state(scan);
        let Some(block) = state.block else { return false };
        let next = (*(*sample).tsmroutine).NextSampleTuple.expect("every sampling method has it");
        let mut found = Found::default();
        loop {
            link::check_for_interrupts();
            let offset = next(sample, block, SLOTS as u16);
            if offset == 0 {
                return false;
            }
            let root = Root { block, slot: offset as u8 };
            if read::fetch(lsm, (state.tree, root), &state.snapshot, &status, &mut found).or_raise() {
                fetch::note_passed(rel, (*scan).rs_snapshot, &found.passed);
                let tid = Tid { root, number: found.number };
                slot::store(slot, (*rel).rd_id, tid, (found.stamp, found.newer), &found.row);
                if let Some(counts) = super::scan::counts(rel) {
                    counts.t_tuples_returned += 1;
                }
                return true;
            }
        }
    }
}
