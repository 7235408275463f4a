//! Parallel scans: each worker takes blocks, some in a row, and scans them.

use pgrx::pg_sys::{self, ScanDirection, TableScanDesc, TupleTableSlot};

use super::state;

/// Blocks that a worker of a parallel scan takes at least.
const CHUNK_MIN: u32 = 16;

/// The next row of this worker's blocks into `slot`.
pub(super) unsafe fn advance(scan: TableScanDesc, slot: *mut TupleTableSlot) -> bool {
    // SAFETY: a parallel scan's descriptor begins with the server's own for blocks.
    unsafe {
        loop {
            if state(scan).block.is_some() && super::advance(scan, ScanDirection::ForwardScanDirection, slot) {
                return true;
            }
            let Some(blocks) = next_chunk(scan) else {
                state(scan).block = None;
                return false;
            };
            state(scan).restart_blocks(blocks);
        }
    }
}

/// The next blocks of this worker: as many in a row as the server gives it, and in a small table, where it gives single ones,
/// some of them, because a scan of the engine begins with a search.
unsafe fn next_chunk(scan: TableScanDesc) -> Option<std::ops::Range<u32>> {
    // SAFETY: as above.
    unsafe {
        let shared = (*scan).rs_parallel.cast::<pg_sys::ParallelBlockTableScanDescData>();
        let (rel, state) = ((*scan).rs_rd, state(scan));
        let worker = &raw mut state.worker;
        let next = || {
            let block = pg_sys::table_block_parallelscan_nextpage(rel, worker, shared);
            (block != pg_sys::InvalidBlockNumber).then_some(block)
        };
        if state.block.is_none() {
            pg_sys::table_block_parallelscan_startblock_init(rel, worker, shared);
        }
        let start = match state.held.take() {
            Some(block) => block,
            None => next()?,
        };
        let mut blocks = start..start + 1;
        while (*worker).phsw_chunk_remaining > 0 || blocks.end - blocks.start < CHUNK_MIN {
            match next() {
                Some(block) if block == blocks.end => blocks.end += 1,
                // The table's first blocks come after its last where a scan began in its middle.
                other => {
                    state.held = other;
                    break;
                }
            }
        }
        state.block = Some(start);
        Some(blocks)
    }
}
