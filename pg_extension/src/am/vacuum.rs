//! VACUUM: removes index entries of rows that nobody can see any more, and counts.
//!
//! Every version's writer is looked at, and those who rolled back are remembered, so that the server may forget who committed: that
//! is what freezing amounts to here.
//!
//! The rows themselves go with compactions. An entry is removed when its row has no version that anybody may see: looked up when the
//! index asks, in a map of the rows alive at the start first. Row numbers are never used twice, so that answer stays true.

mod account;

use std::collections::{BTreeSet, HashSet};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, IndexBulkDeleteResult, IndexVacuumInfo, ItemPointer, RelFileNode, VacOptValue};
use ssd_engine::base::ids::{TreeId, TxnId};

use self::account::{Account, Outcome, name_of};
use super::progress::{self, Blocks};
use super::relation::{is_logged, tree_of};
use super::{counts, scan, shrink};
use crate::error::OrRaise;
use crate::link;
use crate::ops::groups::{Groups, is_seen_by_all};
use crate::ops::tid::Tid;
use crate::ops::{numbers, read};
use crate::wal;
use crate::xact::aborted;
use crate::xact::ids::widen;
use crate::xact::status::Status;

/// Which rows of a table may be seen by somebody.
struct Alive {
    tree: TreeId,
    oldest: TxnId,
    /// For each block a bit for each slot.
    blocks: Vec<u128>,
    /// Blocks with a row that not everybody sees alike.
    unsettled: HashSet<u32>,
    /// Rows counted.
    live: u64,
    recently_dead: u64,
    /// Rows whose end everybody sees.
    removed: u64,
    /// Who rolled back and has left versions behind.
    aborted: BTreeSet<TxnId>,
    /// Whose entries go, while standbys have not been told that they go.
    untold: Option<RelFileNode>,
}

impl Alive {
    /// Goes through all rows of `rel`, whose tree is `tree` and has come to `blocks`.
    unsafe fn count(
        rel: pg_sys::Relation,
        tree: TreeId,
        oldest: TxnId,
        blocks: u64,
        untold: Option<RelFileNode>,
    ) -> Self {
        let columns = (pg_sys::PROGRESS_VACUUM_TOTAL_HEAP_BLKS, pg_sys::PROGRESS_VACUUM_HEAP_BLKS_SCANNED);
        let mut progress = Blocks::begin(columns, 0, blocks);
        let mut alive = Self {
            untold,
            tree,
            oldest,
            blocks: Vec::new(),
            unsettled: HashSet::new(),
            live: 0,
            recently_dead: 0,
            removed: 0,
            aborted: BTreeSet::new(),
        };
        let mut groups = Groups::new(link::lsm(), tree, 0, None);
        let status = Status::now();
        while let Some(group) = groups.next_group().or_raise() {
            link::check_for_interrupts();
            if progress.at(group.root.block.into()) {
                // SAFETY: guarded; the caller's promise.
                unsafe {
                    counts::block(scan::counts(rel));
                    pg_sys::vacuum_delay_point();
                }
            }
            let versions = group.live(&status).or_raise();
            if versions.len() < group.count() {
                alive.aborted.extend(group.rolled_back(&status).or_raise());
            }
            let Some(newest) = versions.first() else { continue };
            if newest.kind.is_row() {
                alive.live += 1;
                if !is_seen_by_all(newest, oldest, &status).or_raise() {
                    alive.unsettled.insert(group.root.block);
                }
            } else if is_seen_by_all(newest, oldest, &status).or_raise() {
                alive.removed += 1;
                continue;
            } else {
                alive.recently_dead += 1;
                alive.unsettled.insert(group.root.block);
            }
            let block = group.root.block as usize;
            if alive.blocks.len() <= block {
                alive.blocks.resize(block + 1, 0);
            }
            alive.blocks[block] |= 1 << group.root.slot;
        }
        progress.end();
        alive
    }

    /// Whether no row is left.
    const fn is_empty(&self) -> bool {
        self.live + self.recently_dead == 0
    }

    /// Whether the entry for `tid` may go. Tells standbys before the first one does.
    fn is_removable(&mut self, tid: &pg_sys::ItemPointerData) -> bool {
        let is_dead = self.is_dead(tid);
        if is_dead && let Some(node) = self.untold.take() {
            wal::log_conflict(&node, self.oldest);
        }
        is_dead
    }

    fn is_dead(&self, tid: &pg_sys::ItemPointerData) -> bool {
        let Some(Tid { root, .. }) = Tid::decode(tid) else { return true };
        let bits = self.blocks.get(root.block as usize).copied().unwrap_or(0);
        if bits & (1 << root.slot) != 0 {
            return false;
        }
        // It may have been inserted since.
        let seen_by_all = |txn| txn < self.oldest;
        !read::may_be_seen(link::lsm(), self.tree, root, &Status::now(), &seen_by_all).or_raise()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn entry_is_dead(tid: ItemPointer, alive: *mut std::ffi::c_void) -> bool {
    // SAFETY: called with what `vacuum` gave.
    unsafe { (*alive.cast::<Alive>()).is_removable(&*tid) }
}

/// How far transaction ids are settled by a vacuum.
struct Limits {
    aggressive: bool,
    oldest: pg_sys::TransactionId,
    freeze: pg_sys::TransactionId,
    multi: pg_sys::MultiXactId,
}

impl Limits {
    unsafe fn of(rel: pg_sys::Relation, params: &pg_sys::VacuumParams) -> Self {
        let (mut oldest, mut freeze) = (pg_sys::InvalidTransactionId, pg_sys::InvalidTransactionId);
        let (mut oldest_multi, mut multi) = (pg_sys::TransactionId::INVALID, pg_sys::TransactionId::INVALID);
        // SAFETY: guarded; as the server does for heaps.
        let aggressive = unsafe {
            pg_sys::vacuum_set_xid_limits(
                rel,
                params.freeze_min_age,
                params.freeze_table_age,
                params.multixact_freeze_min_age,
                params.multixact_freeze_table_age,
                &raw mut oldest,
                &raw mut oldest_multi,
                &raw mut freeze,
                &raw mut multi,
            )
        };
        Self { aggressive, oldest, freeze, multi }
    }
}

/// Vacuums a table.
#[pg_guard]
pub unsafe extern "C-unwind" fn vacuum(
    rel: pg_sys::Relation,
    params: *mut pg_sys::VacuumParams,
    strategy: pg_sys::BufferAccessStrategy,
) {
    // SAFETY: the server's arguments; as the server does for heaps.
    unsafe {
        pg_sys::pgstat_progress_start_command(pg_sys::ProgressCommandType::PROGRESS_COMMAND_VACUUM, (*rel).rd_id);
        let tree = tree_of(rel);
        let limits = Limits::of(rel, &*params);
        let account = Account::begin(rel, &*params, limits.aggressive);
        let frozen_before = (*(*rel).rd_rel).relfrozenxid;
        let oldest = widen(limits.oldest);
        progress::set(pg_sys::PROGRESS_VACUUM_PHASE, pg_sys::PROGRESS_VACUUM_PHASE_SCAN_HEAP);
        let before = numbers::extent(link::lsm(), tree).or_raise();
        // There is no limit but the rows there ever were: one bit for each.
        progress::set(pg_sys::PROGRESS_VACUUM_MAX_DEAD_TUPLES, before.rows);
        let mut alive = Alive::count(rel, tree, oldest, before.blocks, is_logged(rel).then(|| (*rel).rd_node));
        progress::set(pg_sys::PROGRESS_VACUUM_NUM_DEAD_TUPLES, alive.removed);
        aborted::remember(&alive.aborted).or_raise();
        let (mut count, mut opened) = (0, std::ptr::null_mut());
        pg_sys::vac_open_indexes(rel, pg_sys::RowExclusiveLock as i32, &raw mut count, &raw mut opened);
        if (*params).nworkers > 0 && count > 1 && (*(*rel).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP {
            pgrx::warning!(
                "disabling parallel option of vacuum on \"{}\" --- cannot vacuum temporary tables in parallel",
                name_of(rel)
            );
        }
        let cleans = (*params).index_cleanup != VacOptValue::VACOPTVALUE_DISABLED;
        let mut indexes = Vec::new();
        if cleans && count > 0 {
            let opened = std::slice::from_raw_parts(opened, count as usize);
            indexes = vacuum_indexes(opened, strategy, &mut alive);
        }
        pg_sys::vac_close_indexes(count, opened, pg_sys::NoLock as i32);
        progress::set(pg_sys::PROGRESS_VACUUM_PHASE, pg_sys::PROGRESS_VACUUM_PHASE_FINAL_CLEANUP);
        let shrinks = (*params).truncate != VacOptValue::VACOPTVALUE_DISABLED;
        let mut all_blocks = numbers::extent(link::lsm(), tree).or_raise().blocks;
        if alive.is_empty() && shrinks && (cleans || count == 0) && shrink::empty_if_unused(rel, before, oldest) {
            all_blocks = 0;
        }
        let blocks = all_blocks.min(u64::from(u32::MAX - 1)) as u32;
        // There is no map of these; the planner compares plans as it does for a heap that was vacuumed.
        let visible = u64::from(blocks).min(before.blocks).saturating_sub(alive.unsettled.len() as u64);
        numbers::note_counted(link::writer().store.lsm(), tree, Some(visible)).or_raise();
        pg_sys::vac_update_relstats(
            rel,
            blocks,
            alive.live as f64,
            visible as u32,
            count > 0,
            limits.freeze,
            limits.multi,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            false,
        );
        let shared = (*(*rel).rd_rel).relisshared;
        pg_sys::pgstat_report_vacuum((*rel).rd_id, shared, alive.live as i64, alive.recently_dead as i64);
        pg_sys::pgstat_progress_end_command();
        account.end(&Outcome {
            blocks: all_blocks,
            removed: alive.removed,
            live: alive.live,
            recently_dead: alive.recently_dead,
            oldest: limits.oldest,
            frozen: (frozen_before, limits.freeze),
            indexes: &indexes,
            is_bypassed: !cleans && count > 0,
        });
        for (_, stats) in indexes.into_iter().filter(|(_, stats)| !stats.is_null()) {
            pg_sys::pfree(stats.cast());
        }
    }
}

/// Removes dead entries from all indexes, then lets each clean up; what each says of itself, by name.
unsafe fn vacuum_indexes(
    indexes: &[pg_sys::Relation],
    strategy: pg_sys::BufferAccessStrategy,
    alive: &mut Alive,
) -> Vec<(String, *mut IndexBulkDeleteResult)> {
    // SAFETY: as in `vacuum`.
    unsafe {
        let info = |index, alive: &Alive| {
            let mut info: IndexVacuumInfo = std::mem::zeroed();
            info.index = index;
            info.report_progress = false;
            info.estimated_count = false;
            info.message_level = pg_sys::DEBUG2 as i32;
            info.num_heap_tuples = alive.live as f64;
            info.strategy = strategy;
            info
        };
        progress::set(pg_sys::PROGRESS_VACUUM_PHASE, pg_sys::PROGRESS_VACUUM_PHASE_VACUUM_INDEX);
        let mut done = Vec::with_capacity(indexes.len());
        for &index in indexes {
            let mut info = info(index, alive);
            let state = std::ptr::from_mut(&mut *alive).cast();
            let stats = pg_sys::index_bulk_delete(&raw mut info, std::ptr::null_mut(), Some(entry_is_dead), state);
            done.push((name_of(index), stats));
        }
        progress::set_all([
            (pg_sys::PROGRESS_VACUUM_PHASE, pg_sys::PROGRESS_VACUUM_PHASE_INDEX_CLEANUP.into()),
            (pg_sys::PROGRESS_VACUUM_NUM_INDEX_VACUUMS, 1),
        ]);
        for (&index, (_, stats)) in indexes.iter().zip(&mut done) {
            let mut info = info(index, alive);
            *stats = pg_sys::index_vacuum_cleanup(&raw mut info, *stats);
            if !stats.is_null() && !(**stats).estimated_count {
                pg_sys::vac_update_relstats(
                    index,
                    (**stats).num_pages,
                    (**stats).num_index_tuples,
                    0,
                    false,
                    pg_sys::InvalidTransactionId,
                    pg_sys::TransactionId::INVALID,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    false,
                );
            }
        }
        done
    }
}
