//! What the planner and others ask about a table's size.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, BlockNumber, ForkNumber};

use super::counts;
use super::insert::size_of_row;
use super::relation::tree_of;
use crate::error::OrRaise;
use crate::hooks;
use crate::link;
use crate::ops::numbers::{self, PAGE_ROOM};

const BLOCK: u64 = pg_sys::BLCKSZ as u64;
/// Pages that a table is taken for before anybody has counted its rows.
const GUESSED_PAGES: u64 = 10;
/// A small table is hot when the first rows have so many versions in memory each: a heap would have pages for them, too. A scan finds
/// each row by pointers then (measured: 0.75 µs a row), which the server is to think of as a page: it counts eight for a row by an index.
const HOT_KEYS: u32 = 4;
const HOT_VERSIONS: u32 = 8;
/// With fewer rows it is all the same.
const HOT_ROWS_MIN: u64 = 8;
/// It is hot, too, when it has been updated so often for each row: its versions may just have been flushed, and will be there again.
const HOT_UPDATES: u64 = 64;
/// What a heap adds to each row: its header, aligned, and a line pointer.
const ROW_OVERHEAD: i32 = 24 + 4;

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
            ForkNumber::MAIN_FORKNUM | ForkNumber::InvalidForkNumber => {
                hooks::prefetch::blocks_asked();
                blocks(rel) * BLOCK
            }
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
///
/// # Safety
/// Called by the server.
pub unsafe extern "C-unwind" fn toast_am(_rel: pg_sys::Relation) -> pg_sys::Oid {
    pg_sys::HEAP_TABLE_AM_OID
}

/// Pages, rows and the part that all see, as the planner should think of them: as if the rows were in a heap, by the heap's own rules
/// (those of `table_block_relation_estimate_size`, to the last rounding, so that plans are the same). An index-only scan looks each
/// row up here, which costs what the index scan that it replaces does.
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
        let mut heap_pages = extent.heap_pages(size_of_row(rel, 0).keep_free);
        // The server's guess for tables that nobody has counted yet.
        let is_guess = heap_pages < GUESSED_PAGES && class.reltuples < 0.0 && !class.relhassubclass;
        if is_guess {
            heap_pages = GUESSED_PAGES;
        }
        let is_small = !is_guess && (1..GUESSED_PAGES).contains(&heap_pages);
        // Rows that have moved within the table, for want of numbers for their versions, were handed out places more than once.
        let rows = if class.reltuples < 0.0 { extent.rows } else { extent.rows.min(class.reltuples as u64) };
        if is_small && is_hot(rel, rows) {
            // No more pages than rows: a row by an index is in one page.
            heap_pages = heap_pages.max(rows);
        }
        *pages = heap_pages.min(u64::from(u32::MAX - 1)) as BlockNumber;
        // Somebody has written what `pg_relation_size` says, which is one page for any number of rows.
        let is_by_file = class.relpages == 1 && extent.counted == 0 && extent.blocks > 1;
        *tuples = if heap_pages == 0 {
            0.0
        } else if class.reltuples >= 0.0 && is_by_file {
            f64::from(class.reltuples)
        } else if class.reltuples >= 0.0 && class.relpages > 0 {
            // Rows per block are what was counted last; blocks are those of now.
            (f64::from(class.reltuples) / f64::from(class.relpages) * extent.blocks as f64).round_ties_even()
        } else {
            let width = pg_sys::get_rel_data_width(rel, attribute_widths) + ROW_OVERHEAD;
            // Without fractions, as the server has it.
            f64::from(PAGE_ROOM as i32 / width.max(1)) * heap_pages as f64
        };
        // What VACUUM has counted is kept in the engine: ANALYZE sets the server's own number to 0, for want of a map of these.
        *all_visible = if extent.blocks == 0 { 0.0 } else { (extent.visible as f64 / extent.blocks as f64).min(1.0) };
    }
}

/// Whether the rows of a small table, so many, change all the time.
unsafe fn is_hot(rel: pg_sys::Relation, rows: u64) -> bool {
    // SAFETY: the relation is open.
    unsafe {
        let updates = || counts::stored((*rel).rd_id).map_or(0, |stored| stored.tuples_updated);
        rows >= HOT_ROWS_MIN
            && (link::lsm().begins_hot(tree_of(rel), HOT_KEYS, HOT_VERSIONS)
                || u64::try_from(updates()).is_ok_and(|updates| updates / HOT_UPDATES > rows))
    }
}
