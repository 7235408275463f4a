//! What the planner and others ask about a table's size.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, BlockNumber, ForkNumber};

use super::relation::tree_of;
use crate::error::OrRaise;
use crate::hooks;
use crate::link;
use crate::ops::numbers;

const BLOCK: u64 = pg_sys::BLCKSZ as u64;

/// Blocks that ctids of `rel` have reached.
///
/// # Safety
/// `rel` is open.
pub unsafe fn blocks(rel: pg_sys::Relation) -> u64 {
    // SAFETY: the caller's promise.
    numbers::extent(link::lsm(), unsafe { tree_of(rel) }).or_raise().blocks
}

/// The size of a fork: for the main fork, of all blocks that ctids have reached.
#[pg_guard]
pub unsafe extern "C-unwind" fn size(rel: pg_sys::Relation, fork: ForkNumber::Type) -> u64 {
    // SAFETY: the server's arguments.
    unsafe {
        match fork {
            _ if hooks::prewarm::runs() => 0,
            ForkNumber::MAIN_FORKNUM | ForkNumber::InvalidForkNumber => blocks(rel) * BLOCK,
            _ => 0,
        }
    }
}

/// Whether the table needs another one for its wide values: as a heap does.
#[pg_guard]
pub unsafe extern "C-unwind" fn needs_toast_table(rel: pg_sys::Relation) -> bool {
    // SAFETY: the server's argument; the heap's answer looks at the columns only.
    unsafe {
        let heap = &*pg_sys::GetHeapamTableAmRoutine();
        (heap.relation_needs_toast_table.expect("a heap has it"))(rel)
    }
}

/// The access method of that other table: heap.
pub unsafe extern "C-unwind" fn toast_am(_rel: pg_sys::Relation) -> pg_sys::Oid {
    pg_sys::Oid::from(pg_sys::HEAP_TABLE_AM_OID)
}

/// Pages, rows and the part that all see, as the planner should think of them: as if the rows were in a heap. An index-only scan
/// looks each row up here, which costs what the index scan that it replaces does.
#[pg_guard]
pub unsafe extern "C-unwind" fn estimate_size(
    rel: pg_sys::Relation,
    attribute_widths: *mut i32,
    pages: *mut BlockNumber,
    tuples: *mut f64,
    all_visible: *mut f64,
) {
    // SAFETY: the server's arguments.
    unsafe {
        let class = &*(*rel).rd_rel;
        let extent = numbers::extent(link::lsm(), tree_of(rel)).or_raise();
        let blocks = extent.blocks;
        let mut heap_pages = extent.heap_pages();
        if heap_pages < 10 && class.reltuples < 0.0 && !class.relhassubclass {
            heap_pages = 10;
        }
        *pages = heap_pages.min(u64::from(u32::MAX - 1)) as BlockNumber;
        *all_visible = if class.relallvisible <= 0 || blocks == 0 {
            0.0
        } else {
            (f64::from(class.relallvisible) / blocks as f64).min(1.0)
        };
        *tuples = if heap_pages == 0 {
            0.0
        } else if class.reltuples >= 0.0 && class.relpages > 0 {
            // Rows per block of row numbers are what was counted last; blocks are those of now.
            (f64::from(class.reltuples) / f64::from(class.relpages) * blocks as f64).round()
        } else {
            let width = pg_sys::get_rel_data_width(rel, attribute_widths).max(0) as u64;
            let each = (width.next_multiple_of(8) + 24 + 4).max(1);
            (heap_pages as f64 * (numbers::PAGE_ROOM as f64 / each as f64).floor()).round()
        };
    }
}
