//! VACUUM: removes index entries of rows that nobody can see any more, and counts.
//!
//! Every version's writer is looked at, and those who rolled back are remembered, so that the server may forget who committed: that
//! is what freezing amounts to here.
//!
//! The rows themselves go with compactions. An entry is removed when its row has no version that anybody may see: looked up when the
//! index asks, in a map of the rows alive at the start first. Row numbers are never used twice, so that answer stays true.

use std::collections::{BTreeSet, HashSet};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, IndexBulkDeleteResult, IndexVacuumInfo, ItemPointer, RelFileNode, VacOptValue};
use ssd_engine::base::ids::{TreeId, TxnId};

use super::relation::{is_logged, tree_of};
use super::shrink;
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
    /// Who rolled back and has left versions behind.
    aborted: BTreeSet<TxnId>,
    /// Whose entries go, while standbys have not been told that they go.
    untold: Option<RelFileNode>,
}

impl Alive {
    fn count(tree: TreeId, oldest: TxnId, untold: Option<RelFileNode>) -> Self {
        let mut alive = Self {
            untold,
            tree,
            oldest,
            blocks: Vec::new(),
            unsettled: HashSet::new(),
            live: 0,
            recently_dead: 0,
            aborted: BTreeSet::new(),
        };
        let mut groups = Groups::new(link::lsm(), tree, 0, None);
        let status = Status::now();
        while let Some(group) = groups.next_group().or_raise() {
            link::check_for_interrupts();
            let versions = group.live(&status).or_raise();
            if versions.len() < group.versions.len() {
                alive.aborted.extend(group.rolled_back(&status).or_raise());
            }
            let Some(newest) = versions.first() else { continue };
            if newest.kind.is_row() {
                alive.live += 1;
                if !is_seen_by_all(newest, oldest, &status).or_raise() {
                    alive.unsettled.insert(group.root.block);
                }
            } else if is_seen_by_all(newest, oldest, &status).or_raise() {
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
    oldest: pg_sys::TransactionId,
    freeze: pg_sys::TransactionId,
    multi: pg_sys::MultiXactId,
}

impl Limits {
    unsafe fn of(rel: pg_sys::Relation, params: &pg_sys::VacuumParams) -> Self {
        let (mut oldest, mut freeze) = (pg_sys::InvalidTransactionId, pg_sys::InvalidTransactionId);
        let (mut oldest_multi, mut multi) = (pg_sys::TransactionId::INVALID, pg_sys::TransactionId::INVALID);
        // SAFETY: guarded; as the server does for heaps.
        unsafe {
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
            );
        }
        Self { oldest, freeze, multi }
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
        let tree = tree_of(rel);
        let limits = Limits::of(rel, &*params);
        let oldest = widen(limits.oldest);
        let before = numbers::extent(link::lsm(), tree).or_raise();
        let mut alive = Alive::count(tree, oldest, is_logged(rel).then(|| (*rel).rd_node));
        aborted::remember(&alive.aborted).or_raise();
        let (mut count, mut indexes) = (0, std::ptr::null_mut());
        pg_sys::vac_open_indexes(rel, pg_sys::RowExclusiveLock as i32, &raw mut count, &raw mut indexes);
        if (*params).nworkers > 0 && count > 1 && (*(*rel).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP {
            let name = std::ffi::CStr::from_ptr((*(*rel).rd_rel).relname.data.as_ptr()).to_string_lossy();
            pgrx::warning!(
                "disabling parallel option of vacuum on \"{name}\" --- cannot vacuum temporary tables in parallel"
            );
        }
        let cleans = (*params).index_cleanup != VacOptValue::VACOPTVALUE_DISABLED;
        for at in 0..count as usize {
            let index = *indexes.add(at);
            vacuum_index(index, strategy, &mut alive, cleans);
        }
        pg_sys::vac_close_indexes(count, indexes, pg_sys::NoLock as i32);
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
    }
}

unsafe fn vacuum_index(
    index: pg_sys::Relation,
    strategy: pg_sys::BufferAccessStrategy,
    alive: &mut Alive,
    cleans: bool,
) {
    // SAFETY: as in `vacuum`.
    unsafe {
        let mut info: IndexVacuumInfo = std::mem::zeroed();
        info.index = index;
        info.estimated_count = false;
        info.message_level = pg_sys::DEBUG2 as i32;
        info.num_heap_tuples = alive.live as f64;
        info.strategy = strategy;
        let mut stats: *mut IndexBulkDeleteResult = std::ptr::null_mut();
        if cleans {
            let state = std::ptr::from_mut(alive).cast();
            stats = pg_sys::index_bulk_delete(&raw mut info, stats, Some(entry_is_dead), state);
        }
        if cleans {
            stats = pg_sys::index_vacuum_cleanup(&raw mut info, stats);
        }
        if !stats.is_null() && !(*stats).estimated_count {
            pg_sys::vac_update_relstats(
                index,
                (*stats).num_pages,
                (*stats).num_index_tuples,
                0,
                false,
                pg_sys::InvalidTransactionId,
                pg_sys::TransactionId::INVALID,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                false,
            );
        }
        if !stats.is_null() {
            pg_sys::pfree(stats.cast());
        }
    }
}
