//! Building indexes over a table's rows, and the last step of building one concurrently.
//!
//! An entry names a row's root. What it is made from is the row's newest version, or, for a row that has just ended, the last one that
//! somebody may still see. Older versions that somebody may still read differ, perhaps, in the new index's columns: then the
//! index says that it must not be used by those (a broken chain, in the server's words).

use pgrx::pg_guard;
use pgrx::pg_sys::{self, BlockNumber, Datum, IndexBuildCallback, IndexInfo, TableScanDesc};
use ssd_engine::base::ids::TxnId;
use ssd_engine::format::row_version::{RowVersion, Stamp};
use ssd_engine::mvcc::snapshot::Snapshot;
use ssd_engine::mvcc::visibility::{Seen, Walk};

use super::owned::own;
use super::progress::Blocks;
use super::relation::tree_of;
use super::scan::parallel::Chunks;
use super::slot;
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::groups::{Group, Groups, is_seen_by_all};
use crate::ops::numbers;
use crate::ops::read::row_of;
use crate::ops::tid::{Root, Tid};
use crate::xact::ids::widen;
use crate::xact::snapshot::convert;
use crate::xact::status::Status;

const MAX_KEYS: usize = pg_sys::INDEX_MAX_KEYS as usize;

/// What is needed to make index entries.
struct Maker {
    table: pg_sys::Relation,
    info: *mut IndexInfo,
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    slot: *mut pg_sys::TupleTableSlot,
    predicate: *mut pg_sys::ExprState,
}

/// The version that an entry is made from.
struct Chosen<'g> {
    number: u16,
    stamp: Option<Stamp>,
    row: &'g [u8],
    is_alive: bool,
}

impl Maker {
    unsafe fn new(table: pg_sys::Relation, info: *mut IndexInfo) -> Self {
        // SAFETY: guarded; as the server does for heaps.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let econtext = if (*estate).es_per_tuple_exprcontext.is_null() {
                pg_sys::MakePerTupleExprContext(estate)
            } else {
                (*estate).es_per_tuple_exprcontext
            };
            let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
            (*econtext).ecxt_scantuple = slot;
            let predicate = pg_sys::ExecPrepareQual((*info).ii_Predicate, estate);
            Self { table, info, estate, econtext, slot, predicate }
        }
    }

    /// Puts a version into the slot and its entry into the arrays; false when the index does not take it.
    unsafe fn form(&self, root: Root, chosen: &Chosen<'_>, values: *mut Datum, nulls: *mut bool) -> bool {
        // SAFETY: the parts are those of `new`.
        unsafe {
            pg_sys::MemoryContextReset((*self.econtext).ecxt_per_tuple_memory);
            let tid = Tid { root, number: chosen.number };
            slot::store(self.slot, (*self.table).rd_id, tid, (chosen.stamp, None), chosen.row);
            if !self.predicate.is_null() && !exec_qual(self.predicate, self.econtext) {
                return false;
            }
            externs::FormIndexDatum(self.info, self.slot, self.estate, values, nulls);
            true
        }
    }

    unsafe fn end(&self) {
        // SAFETY: guarded; made in `new`.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeExecutorState(self.estate);
            (*self.info).ii_ExpressionsState = std::ptr::null_mut();
            (*self.info).ii_PredicateState = std::ptr::null_mut();
        }
    }
}

/// `ExecQual`, unguarded: it runs what users wrote.
unsafe fn exec_qual(state: *mut pg_sys::ExprState, econtext: *mut pg_sys::ExprContext) -> bool {
    // SAFETY: an expression that was prepared, in the per-tuple memory of its context.
    unsafe {
        let mut is_null = false;
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = (*econtext).ecxt_per_tuple_memory;
        let value = ((*state).evalfunc.expect("a prepared expression has it"))(state, econtext, &raw mut is_null);
        pg_sys::CurrentMemoryContext = before;
        value.value() != 0
    }
}

fn chosen<'g>(version: &RowVersion<'g>, is_alive: bool) -> Option<Chosen<'g>> {
    let row = row_of(version).or_raise().1;
    Some(Chosen { number: version.number, stamp: version.stamp, row, is_alive })
}

/// For a build that sees all rows: the version to index, and whether older ones may still be read.
fn choose_any<'g>(group: &'g Group, oldest: TxnId, status: &Status) -> (Option<Chosen<'g>>, bool) {
    let live = group.live(status).or_raise();
    let Some(newest) = live.first() else { return (None, false) };
    let by_all = is_seen_by_all(newest, oldest, status).or_raise();
    if newest.kind.is_row() {
        let older = live[1..].iter().any(|version| version.kind.is_row());
        return (chosen(newest, true), older && !by_all);
    }
    if by_all {
        return (None, false);
    }
    let mut rows = live[1..].iter().filter(|version| version.kind.is_row());
    let Some(last) = rows.next() else { return (None, false) };
    let older = rows.next().is_some() && !is_seen_by_all(last, oldest, status).or_raise();
    (chosen(last, false), older)
}

/// For a build that sees what a snapshot sees.
fn choose_seen<'g>(group: &'g Group, snapshot: &Snapshot, status: &Status) -> Option<Chosen<'g>> {
    let mut walk = Walk::default();
    for version in group.live(status).or_raise() {
        match walk.step(&version, snapshot, status).or_raise() {
            Seen::Row => return chosen(&version, true),
            Seen::NoRow => return None,
            Seen::AskOlder => {}
        }
    }
    None
}

/// Calls `callback` with an entry for each row.
#[pg_guard]
pub unsafe extern "C-unwind" fn range_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut IndexInfo,
    _allow_sync: bool,
    _any_visible: bool,
    progress: bool,
    start: BlockNumber,
    blocks: BlockNumber,
    callback: IndexBuildCallback,
    callback_state: *mut std::ffi::c_void,
    scan: TableScanDesc,
) -> f64 {
    // SAFETY: the server's arguments; as the server does for heaps.
    unsafe {
        let callback = callback.expect("a build has a callback");
        let maker = Maker::new(table, info);
        let own_snapshot = (scan.is_null() && (*info).ii_Concurrent)
            .then(|| pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()));
        let snapshot = match own_snapshot {
            Some(snapshot) => snapshot,
            None if !scan.is_null() => (*scan).rs_snapshot,
            None => std::ptr::null_mut(),
        };
        let converted = if snapshot.is_null() { Snapshot::Any } else { convert(snapshot) };
        let status = Status::new(snapshot);
        let oldest = widen(pg_sys::GetOldestNonRemovableTransactionId(table));
        let (lsm, tree) = (link::lsm(), tree_of(table));
        let end = (blocks != pg_sys::InvalidBlockNumber).then(|| start.saturating_add(blocks));
        let mut worker = (!scan.is_null()).then(Chunks::default);
        if worker.is_none() {
            super::scan::count_scan(table);
        }
        let mut tracked = Tracked::begin(table, start, end, scan, progress);
        let (mut values, mut nulls) = ([Datum::from(0usize); MAX_KEYS], [false; MAX_KEYS]);
        let mut rows = 0.0;
        loop {
            let groups = match &mut worker {
                None => own(Groups::new(lsm, tree, start, end)),
                Some(chunks) => match chunks.next(scan) {
                    Some(blocks) => own(Groups::new(lsm, tree, blocks.start, Some(blocks.end))),
                    None => break,
                },
            };
            while let Some(group) = groups.next_group().or_raise() {
                link::check_for_interrupts();
                tracked.at(group.root);
                let (found, broken) = match &converted {
                    Snapshot::Any => choose_any(group, oldest, &status),
                    other => (choose_seen(group, other, &status), false),
                };
                if broken {
                    (*info).ii_BrokenHotChain = true;
                }
                let Some(found) = found else { continue };
                rows += 1.0;
                tracked.count_row();
                if maker.form(group.root, &found, values.as_mut_ptr(), nulls.as_mut_ptr()) {
                    let mut tid = Tid::of_root(group.root).encode();
                    let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
                    callback(index, &raw mut tid, values, nulls, found.is_alive, callback_state);
                }
            }
            if worker.is_none() {
                break;
            }
        }
        tracked.end();
        if !scan.is_null() {
            super::scan::end(scan);
        }
        if let Some(snapshot) = own_snapshot {
            pg_sys::UnregisterSnapshot(snapshot);
        }
        maker.end();
        // The server takes this for a count of the table's rows, too.
        if end.is_none() && pg_sys::ParallelWorkerNumber < 0 {
            numbers::note_counted(link::writer().store.lsm(), tree, None).or_raise();
        }
        rows
    }
}

/// What the statistics and the progress of the command learn of the scan.
struct Tracked {
    table: pg_sys::Relation,
    block: Option<u32>,
    progress: Option<Blocks>,
}

impl Tracked {
    /// For blocks of `table` from `start` to before `end`, or those that the workers of `scan` share.
    unsafe fn begin(
        table: pg_sys::Relation,
        start: BlockNumber,
        end: Option<BlockNumber>,
        scan: TableScanDesc,
        is_told: bool,
    ) -> Self {
        // SAFETY: the table is open; a parallel scan's descriptor begins with the server's own for blocks.
        let progress = is_told.then(|| unsafe {
            let (first, total) = if !scan.is_null() {
                let shared = (*scan).rs_parallel.cast::<pg_sys::ParallelBlockTableScanDescData>();
                ((*shared).phs_startblock, u64::from((*shared).phs_nblocks))
            } else if let Some(end) = end {
                (start, u64::from(end - start))
            } else {
                (start, super::planner::blocks(table).saturating_sub(start.into()))
            };
            let columns = (pg_sys::PROGRESS_SCAN_BLOCKS_TOTAL, pg_sys::PROGRESS_SCAN_BLOCKS_DONE);
            Blocks::begin(columns, first.into(), total)
        });
        Self { table, block: None, progress }
    }

    /// A row that the scan returns.
    unsafe fn count_row(&self) {
        // SAFETY: the table is open.
        if let Some(counts) = unsafe { super::scan::counts(self.table) } {
            counts.t_tuples_returned += 1;
        }
    }

    /// Comes to the row at `root`.
    unsafe fn at(&mut self, root: Root) {
        // SAFETY: the table is open.
        unsafe {
            if self.block.replace(root.block) != Some(root.block) {
                super::scan::count_block(self.table);
                if let Some(progress) = &mut self.progress {
                    progress.at(root.block.into());
                }
            }
        }
    }

    fn end(self) {
        if let Some(progress) = self.progress {
            progress.end();
        }
    }
}

/// Inserts the entries that a concurrent build has missed: those of rows that `snapshot` sees and whose roots are not among the
/// sorted ones of the index.
#[pg_guard]
pub unsafe extern "C-unwind" fn validate_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut IndexInfo,
    snapshot: pg_sys::Snapshot,
    state: *mut pg_sys::ValidateIndexState,
) {
    // SAFETY: the server's arguments; as the server does for heaps.
    unsafe {
        let maker = Maker::new(table, info);
        let (converted, status) = (convert(snapshot), Status::new(snapshot));
        let (lsm, tree) = (link::lsm(), tree_of(table));
        let groups = own(Groups::new(lsm, tree, 0, None));
        let mut indexed = Indexed { sort: (*state).tuplesort, at: None, ended: false };
        super::scan::count_scan(table);
        let mut tracked = Tracked::begin(table, 0, None, std::ptr::null_mut(), true);
        let (mut values, mut nulls) = ([Datum::from(0usize); MAX_KEYS], [false; MAX_KEYS]);
        while let Some(group) = groups.next_group().or_raise() {
            link::check_for_interrupts();
            tracked.at(group.root);
            let Some(found) = choose_seen(group, &converted, &status) else { continue };
            (*state).htups += 1.0;
            tracked.count_row();
            if indexed.has(group.root) || !maker.form(group.root, &found, values.as_mut_ptr(), nulls.as_mut_ptr()) {
                continue;
            }
            let mut tid = Tid::of_root(group.root).encode();
            let check = if (*info).ii_Unique {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES
            } else {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
            };
            let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
            externs::index_insert(index, values, nulls, &raw mut tid, table, check, false, info);
            (*state).tups_inserted += 1.0;
        }
        tracked.end();
        maker.end();
    }
}

/// The roots that the index has, in order.
struct Indexed {
    sort: *mut pg_sys::Tuplesortstate,
    at: Option<u64>,
    ended: bool,
}

impl Indexed {
    /// Whether `root` is among them; asked in rising order.
    unsafe fn has(&mut self, root: Root) -> bool {
        let wanted = u64::from(root.block) << 16 | u64::from(root.slot);
        while !self.ended && self.at.is_none_or(|at| at < wanted) {
            let (mut value, mut is_null) = (Datum::from(0usize), false);
            // SAFETY: guarded; the sort is performed.
            let more = unsafe {
                pg_sys::tuplesort_getdatum(self.sort, true, &raw mut value, &raw mut is_null, std::ptr::null_mut())
            };
            if more {
                self.at = Some(value.value() as u64);
            } else {
                self.ended = true;
            }
        }
        !self.ended && self.at == Some(wanted)
    }
}
