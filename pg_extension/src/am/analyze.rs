//! ANALYZE: rows of blocks that are drawn from all that ctids have reached.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, BlockNumber, ScanDirection, TableScanDesc, TupleTableSlot};
use ssd_engine::mvcc::snapshot::Snapshot;

use super::scan::{advance, state};
use crate::error::OrRaise;
use crate::link;
use crate::ops::numbers;

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
        state.snapshot = Snapshot::Now;
        if state.block.replace(block).is_none() {
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
    _dead: *mut f64,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let there = advance(scan, ScanDirection::ForwardScanDirection, slot);
        if there {
            *live += 1.0;
        } else {
            ((*(*slot).tts_ops).clear.expect("every kind of slot has it"))(slot);
        }
        there
    }
}
