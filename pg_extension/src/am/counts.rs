//! What the server's statistics learn of reads: blocks fetched and hit of a table, EXPLAIN's buffers, the cost of VACUUM.
//!
//! A block here is one that ctids name, and counts as fetched once each time that reading comes to it. What of it came from the device is
//! told by the engine's world: whatever this process has read from files since the last count is of the table that counts now. So
//! `heap_blks_read` is blocks of files, with their indexes and filters, and `heap_blks_hit` what needed none.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::ffi::externs;
use crate::io::{self, Reads};

thread_local! {
    /// What had been read at the last count.
    static COUNTED: Cell<Reads> = const { Cell::new(Reads { blocks: 0, micros: 0 }) };
}

/// Counts a block that was come to, for the table with these counts.
#[inline]
pub fn block(counts: Option<&mut pg_sys::PgStat_TableCounts>) {
    let now = io::reads();
    let before = COUNTED.replace(now);
    let read = (now.blocks - before.blocks) as i64;
    let fetched = read.max(1);
    if let Some(counts) = counts {
        counts.t_blocks_fetched += fetched;
        counts.t_blocks_hit += fetched - read;
    }
    // SAFETY: variables of this process, as the server's buffer manager changes them.
    unsafe {
        pg_sys::pgBufferUsage.shared_blks_hit += fetched - read;
        pg_sys::pgBufferUsage.shared_blks_read += read;
        if pg_sys::VacuumCostActive {
            let cost =
                (fetched - read) * i64::from(pg_sys::VacuumCostPageHit) + read * i64::from(pg_sys::VacuumCostPageMiss);
            pg_sys::VacuumCostBalance = pg_sys::VacuumCostBalance.saturating_add(cost.min(1 << 20) as i32);
        }
        if now.micros != before.micros {
            count_time(now.micros - before.micros);
        }
    }
}

/// The counts of `rel` in the present (sub)transaction, if something was counted there before.
unsafe fn of_transaction<'c>(rel: pg_sys::Relation) -> Option<&'c mut pg_sys::PgStat_TableXactStatus> {
    // SAFETY: the relation is open; variables of this process.
    unsafe {
        let table = (*rel).pgstat_info.as_mut()?;
        table.trans.as_mut().filter(|trans| trans.nest_level == externs::GetCurrentTransactionNestLevel())
    }
}

/// Counts so many inserted rows, as the server's function does.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn inserted(rel: pg_sys::Relation, rows: i64) {
    // SAFETY: the caller's promise; guarded.
    unsafe {
        match of_transaction(rel) {
            Some(counts) => counts.tuples_inserted += rows,
            None => pg_sys::pgstat_count_heap_insert(rel, rows),
        }
    }
}

/// Counts an updated row, which has stayed in its place or not, as the server's function does.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn updated(rel: pg_sys::Relation, has_stayed: bool) {
    // SAFETY: the caller's promise; guarded.
    unsafe {
        match of_transaction(rel) {
            Some(counts) => {
                counts.tuples_updated += 1;
                (*(*rel).pgstat_info).t_counts.t_tuples_hot_updated += i64::from(has_stayed);
            }
            None => pg_sys::pgstat_count_heap_update(rel, has_stayed),
        }
    }
}

/// Adds to the time that was spent on reads.
#[cold]
unsafe fn count_time(micros: u64) {
    // SAFETY: as in `block`.
    unsafe {
        pg_sys::pgStatBlockReadTime += micros as i64;
        let time = &raw mut pg_sys::pgBufferUsage.blk_read_time;
        let nanos = (*time).tv_nsec + (micros % 1_000_000 * 1000) as i64;
        (*time).tv_sec += (micros / 1_000_000) as i64 + nanos / 1_000_000_000;
        (*time).tv_nsec = nanos % 1_000_000_000;
    }
}

/// The statistics of `table` as they are stored, without making them what the rest of the transaction sees.
///
/// # Safety
/// In a process that has statistics.
pub unsafe fn stored(table: pg_sys::Oid) -> Option<pg_sys::PgStat_StatTabEntry> {
    // SAFETY: guarded; a setting of this process, set back at once (a look-up for a table that has none returns null).
    unsafe {
        let before = pg_sys::pgstat_fetch_consistency;
        pg_sys::pgstat_fetch_consistency = pg_sys::PgStat_FetchConsistency::PGSTAT_FETCH_CONSISTENCY_NONE as i32;
        let entry = pg_sys::pgstat_fetch_stat_tabentry(table);
        pg_sys::pgstat_fetch_consistency = before;
        entry.as_ref().copied()
    }
}
