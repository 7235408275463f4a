//! Parallel scans: each worker takes blocks, some in a row, and scans them.

use std::ops::Range;

use pgrx::pg_sys::{self, ScanDirection, TableScanDesc, TupleTableSlot};

use super::state;

/// Blocks that a worker of a parallel scan takes at least.
const CHUNK_MIN: u32 = 16;

/// A worker's part of the blocks of a parallel scan.
#[derive(Default)]
pub struct Chunks {
    worker: pg_sys::ParallelBlockTableScanWorkerData,
    has_begun: bool,
    /// A block of this worker that does not follow on those before it.
    held: Option<u32>,
}

impl Chunks {
    /// The next blocks of this worker: as many in a row as the server gives it, and in a small table, where it gives single ones,
    /// some of them, because a scan of the engine begins with a search.
    ///
    /// # Safety
    /// `scan` is a parallel scan, the same in each call.
    pub unsafe fn next(&mut self, scan: TableScanDesc) -> Option<Range<u32>> {
        // SAFETY: guarded; a parallel scan's descriptor begins with the server's own for blocks.
        unsafe {
            let shared = (*scan).rs_parallel.cast::<pg_sys::ParallelBlockTableScanDescData>();
            let (rel, worker) = ((*scan).rs_rd, &raw mut self.worker);
            let next = || {
                let block = pg_sys::table_block_parallelscan_nextpage(rel, worker, shared);
                (block != pg_sys::InvalidBlockNumber).then_some(block)
            };
            if !std::mem::replace(&mut self.has_begun, true) {
                pg_sys::table_block_parallelscan_startblock_init(rel, worker, shared);
            }
            let start = match self.held.take() {
                Some(block) => block,
                None => next()?,
            };
            let mut blocks = start..start + 1;
            while (*worker).phsw_chunk_remaining > 0 || blocks.end - blocks.start < CHUNK_MIN {
                match next() {
                    Some(block) if block == blocks.end => blocks.end += 1,
                    // The table's first blocks come after its last where a scan began in its middle.
                    other => {
                        self.held = other;
                        break;
                    }
                }
            }
            Some(blocks)
        }
    }
}

/// The next row of this worker's blocks into `slot`.
///
/// # Safety
/// `scan` is a parallel one of ours, `slot` one of our slots.
pub(super) unsafe fn advance(scan: TableScanDesc, slot: *mut TupleTableSlot) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        loop {
            if state(scan).block.is_some() && super::advance(scan, ScanDirection::ForwardScanDirection, slot) {
                return true;
            }
            let blocks = state(scan).chunks.next(scan);
            state(scan).block = blocks.as_ref().map(|blocks| blocks.start);
            let Some(blocks) = blocks else { return false };
            state(scan).restart_blocks(blocks);
        }
    }
}
