//! Parallel scans: each worker takes blocks, some in a row, and scans them.

use std::ops::Range;

use pgrx::pg_sys::{self, ScanDirection, TableScanDesc, TupleTableSlot};

use super::state;

/// Blocks that a worker of a parallel scan takes at least: this share of those that are left, within bounds. A scan of the engine begins
/// with a search and small batches, so that many rows should follow (measured in turns on 41,000 blocks: 32
/// at a time give 0.72 of a heap's speed, these 0.79), and the last chunks should be small, so that all workers end together.
const CHUNK_SHARE: u32 = 32;
const CHUNK_MIN: u32 = 16;
const CHUNK_MAX: u32 = 256;

/// A worker's part of the blocks of a parallel scan.
#[derive(Default)]
pub struct Chunks {
    worker: pg_sys::ParallelBlockTableScanWorkerData,
    has_begun: bool,
    /// A block of this worker that does not follow on those before it.
    held: Option<u32>,
}

impl Chunks {
    /// The next blocks of this worker: as many in a row as the server gives it, and more where they are few.
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
            // Where others are taking blocks, too, this is old by then, which does not matter.
            let taken = std::ptr::read_volatile(&raw const (*shared).phs_nallocated.value);
            let left = (*shared).phs_nblocks.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
            let wanted = (left / CHUNK_SHARE).clamp(CHUNK_MIN, CHUNK_MAX);
            let mut blocks = start..start + 1;
            while (*worker).phsw_chunk_remaining > 0 || blocks.end - blocks.start < wanted {
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
