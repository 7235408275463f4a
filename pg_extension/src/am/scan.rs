//! Table scans: sequential, parallel, backward, over a range of ctids; and what the other kinds of scans share.
//!
//! A scan holds nothing in the engine between two calls. What it has in this process's memory is freed with the memory context
//! it was begun in, also after an error.

use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, ItemPointer, ScanDirection, TableScanDesc, TupleTableSlot};
use ssd_engine::base::ids::TreeId;
use ssd_engine::lsm::merge::Direction;
use ssd_engine::mvcc::row_scan::{KeyRange, RowScan};
use ssd_engine::mvcc::snapshot::Snapshot;

use super::ahead::Ahead;
use super::dirty_scan::{self, DirtyScan};
use super::neighbours::Neighbours;
use super::relation::tree_of;
use super::slot;
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::hooks::prefetch;
use crate::link;
use crate::ops::numbers;
use crate::ops::tid::Root;
use crate::shmem;
use crate::xact::snapshot::convert;
use crate::xact::status::Status;

pub mod parallel;

use parallel::Chunks;

/// No block that there is.
const NO_BLOCK: pg_sys::BlockIdData = pg_sys::BlockIdData { bi_hi: u16::MAX, bi_lo: u16::MAX };

/// Our scan.
#[repr(C)]
pub struct Scan {
    /// What the server knows.
    pub base: pg_sys::TableScanDescData,
    /// Ours; null once the scan has ended.
    state: *mut State,
    callback: pg_sys::MemoryContextCallback,
}

/// Where a scan is.
pub struct State {
    /// The relation's tree.
    pub tree: TreeId,
    /// The engine's form of the snapshot.
    pub snapshot: Snapshot,
    running: Option<(Direction, RowScan)>,
    /// Rows that it has read and not returned yet.
    ahead: Ahead,
    /// A dirty scan, which reads in its own way.
    pub dirty: Option<DirtyScan>,
    /// The last row that was returned, to turn around at, unless it is among those read ahead.
    last: Option<Root>,
    /// Block of the last row that was returned.
    counted: pg_sys::BlockIdData,
    /// Keys from the first to before the second.
    range: (Option<Vec<u8>>, Option<Vec<u8>>),
    /// A parallel scan: this worker's blocks.
    chunks: Chunks,
    /// For scans by block: what is still to be returned of it.
    pub pending: Vec<Root>,
    /// Position in `pending`.
    pub at: usize,
    /// Reads ahead where rows of `pending` lie side by side.
    pub neighbours: Neighbours,
    /// The block that a sample scan is at; the first one of those that a parallel scan is at.
    pub block: Option<u32>,
    /// Blocks of the table at its start.
    pub blocks: u32,
    /// The table is so small that all of it may stay in the cache of blocks.
    fits_cache: bool,
}

impl State {
    /// Starts over, over `range` of keys.
    pub fn restart(&mut self, range: (Option<Vec<u8>>, Option<Vec<u8>>)) {
        self.running = None;
        self.ahead.clear();
        self.neighbours.forget();
        self.dirty = self.dirty.as_ref().map(|_| DirtyScan::default());
        self.last = None;
        self.range = range;
    }

    /// Forgets the rows read ahead.
    fn forget_ahead(&mut self) {
        self.last = self.ahead.last().or(self.last);
        self.ahead.clear();
    }

    /// Starts over with the rows of `blocks`.
    pub fn restart_blocks(&mut self, blocks: std::ops::Range<u32>) {
        let key = |block: u32| Some(block.to_be_bytes().to_vec());
        self.restart((key(blocks.start), key(blocks.end)));
    }
}

/// The scan's own part.
///
/// # Safety
/// `scan` was made by [`begin`] and has not ended.
pub unsafe fn state<'s>(scan: TableScanDesc) -> &'s mut State {
    // SAFETY: the caller's promise.
    unsafe { &mut *(*scan.cast::<Scan>()).state }
}

#[pg_guard]
unsafe extern "C-unwind" fn drop_state(scan: *mut c_void) {
    // SAFETY: the state is a box that is dropped once.
    unsafe {
        let scan = &mut *scan.cast::<Scan>();
        if !scan.state.is_null() {
            drop(Box::from_raw(scan.state));
            scan.state = std::ptr::null_mut();
        }
    }
}

/// Starts a scan.
#[pg_guard]
pub unsafe extern "C-unwind" fn begin(
    rel: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    nkeys: i32,
    key: *mut pg_sys::ScanKeyData,
    parallel: pg_sys::ParallelTableScanDesc,
    flags: u32,
) -> TableScanDesc {
    // SAFETY: the server's arguments; what is allocated lives as long as the context that is current.
    unsafe {
        let _ = link::process();
        if flags & pg_sys::ScanOptions::SO_TYPE_ANALYZE != 0 {
            prefetch::analyze_begins(rel);
        }
        pg_sys::RelationIncrementReferenceCount(rel);
        let scan = pg_sys::palloc0(size_of::<Scan>()).cast::<Scan>();
        let base = &mut (*scan).base;
        base.rs_rd = rel;
        base.rs_snapshot = snapshot;
        base.rs_nkeys = nkeys;
        base.rs_flags = flags;
        base.rs_parallel = parallel;
        if nkeys > 0 {
            base.rs_key = pg_sys::palloc(size_of::<pg_sys::ScanKeyData>() * nkeys as usize).cast();
            if !key.is_null() {
                std::ptr::copy_nonoverlapping(key, base.rs_key, nkeys as usize);
            }
        }
        let converted = if snapshot.is_null() { Snapshot::Now } else { convert(snapshot) };
        let dirty = (converted == Snapshot::Dirty).then(DirtyScan::default);
        let tree = tree_of(rel);
        let state = State {
            tree,
            snapshot: converted,
            running: None,
            ahead: Ahead::default(),
            dirty,
            last: None,
            counted: NO_BLOCK,
            range: (None, None),
            chunks: Chunks::default(),
            pending: Vec::new(),
            neighbours: Neighbours::default(),
            at: 0,
            block: None,
            blocks: 0,
            fits_cache: flags & pg_sys::ScanOptions::SO_TYPE_SEQSCAN != 0 && fits_cache(tree),
        };
        (*scan).state = Box::into_raw(Box::new(state));
        (*scan).callback.func = Some(drop_state);
        (*scan).callback.arg = scan.cast();
        pg_sys::MemoryContextRegisterResetCallback(pg_sys::CurrentMemoryContext, &raw mut (*scan).callback);
        let scans_all = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_TYPE_SAMPLESCAN;
        if flags & scans_all != 0 {
            lock_whole(rel, snapshot);
        }
        if flags & pg_sys::ScanOptions::SO_TYPE_SEQSCAN != 0 {
            count_scan(rel);
        }
        scan.cast()
    }
}

/// Notes for serializable transactions that any row may be read.
unsafe fn lock_whole(rel: pg_sys::Relation, snapshot: pg_sys::Snapshot) {
    if !snapshot.is_null() {
        // SAFETY: both live as long as the scan.
        unsafe { externs::guarded(|| externs::PredicateLockRelation(rel, snapshot)) };
    }
}

/// Whether a scan may fill the cache with the table: up to half of it.
fn fits_cache(tree: TreeId) -> bool {
    let bytes = numbers::extent(link::lsm(), tree).or_raise().bytes;
    bytes <= shmem::cache_bytes() as u64 / 2
}

/// `pgstat_count_heap_scan`.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn count_scan(rel: pg_sys::Relation) {
    // SAFETY: the relation is open.
    unsafe {
        if let Some(counts) = counts(rel) {
            counts.t_numscans += 1;
        }
    }
}

/// Counts a block that reading has come to.
///
/// # Safety
/// `rel` is an open relation.
#[inline]
pub unsafe fn count_block(rel: pg_sys::Relation) {
    // SAFETY: the caller's promise.
    super::counts::block(unsafe { counts(rel) });
}

/// The relation's counters of this transaction, when it is counted.
///
/// # Safety
/// `rel` is an open relation.
#[inline]
pub unsafe fn counts<'c>(rel: pg_sys::Relation) -> Option<&'c mut pg_sys::PgStat_TableCounts> {
    // SAFETY: the caller's promise; as the server's macro does.
    unsafe {
        if (*rel).pgstat_info.is_null() {
            if !(*rel).pgstat_enabled {
                return None;
            }
            pg_sys::pgstat_assoc_relation(rel);
        }
        Some(&mut (*(*rel).pgstat_info).t_counts)
    }
}

/// Ends a scan.
#[pg_guard]
pub unsafe extern "C-unwind" fn end(scan: TableScanDesc) {
    // SAFETY: the server's argument. The callback of the context finds nothing left to drop.
    unsafe {
        drop_state(scan.cast());
        pg_sys::RelationDecrementReferenceCount((*scan).rs_rd);
        if (*scan).rs_flags & pg_sys::ScanOptions::SO_TEMP_SNAPSHOT != 0 {
            pg_sys::UnregisterSnapshot((*scan).rs_snapshot);
        }
    }
}

/// Starts a scan over.
#[pg_guard]
pub unsafe extern "C-unwind" fn rescan(
    scan: TableScanDesc,
    key: *mut pg_sys::ScanKeyData,
    _set_params: bool,
    _allow_strat: bool,
    _allow_sync: bool,
    _allow_pagemode: bool,
) {
    // SAFETY: the server's arguments.
    unsafe {
        let base = &mut *scan;
        if !key.is_null() && base.rs_nkeys > 0 {
            std::ptr::copy_nonoverlapping(key, base.rs_key, base.rs_nkeys as usize);
        }
        let state = state(scan);
        state.restart((None, None));
        state.pending.clear();
        (state.at, state.block, state.ahead.places) = (0, None, None);
        state.chunks = Chunks::default();
        if base.rs_flags & pg_sys::ScanOptions::SO_TYPE_SEQSCAN != 0 {
            count_scan(base.rs_rd);
        }
    }
}

/// The next row into `slot`; false at the end.
///
/// # Safety
/// Called by the server.
pub unsafe extern "C-unwind" fn next(
    scan: TableScanDesc,
    direction: ScanDirection::Type,
    slot: *mut TupleTableSlot,
) -> bool {
    // A row that was read ahead needs no guard: nothing in here panics or raises.
    // SAFETY: the server's arguments.
    unsafe {
        let (rel, state) = ((*scan).rs_rd, state(scan));
        let goes_on = state.running.as_ref().is_some_and(|(running, _)| Some(*running) == way(direction));
        if (*scan).rs_nkeys == 0
            && goes_on
            && !(*rel).pgstat_info.is_null()
            && slot::has_nothing_to_free(slot)
            && let Some(tuple) = state.ahead.take()
        {
            slot::show(slot, (*rel).rd_id, tuple);
            let counts = &mut (*(*rel).pgstat_info).t_counts;
            counts.t_tuples_returned += 1;
            if is_new_block(state, slot) {
                super::counts::block(Some(counts));
            }
            return true;
        }
        next_guarded(scan, direction, slot)
    }
}

/// The engine's name for a direction.
#[inline]
const fn way(direction: ScanDirection::Type) -> Option<Direction> {
    match direction {
        ScanDirection::ForwardScanDirection => Some(Direction::Forward),
        ScanDirection::BackwardScanDirection => Some(Direction::Backward),
        _ => None,
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn next_guarded(
    scan: TableScanDesc,
    direction: ScanDirection::Type,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        loop {
            let there = if state(scan).dirty.is_some() {
                dirty_scan::advance(scan, slot)
            } else if (*scan).rs_parallel.is_null() {
                advance(scan, direction, slot)
            } else {
                parallel::advance(scan, slot)
            };
            if !there {
                ((*(*slot).tts_ops).clear.expect("every kind of slot has it"))(slot);
                return false;
            }
            if (*scan).rs_nkeys == 0 || matches_keys(scan, slot) {
                if let Some(counts) = counts((*scan).rs_rd) {
                    counts.t_tuples_returned += 1;
                }
                return true;
            }
        }
    }
}

unsafe fn matches_keys(scan: TableScanDesc, slot: *mut TupleTableSlot) -> bool {
    // SAFETY: keys are those of `begin`.
    unsafe {
        let keys = std::slice::from_raw_parts_mut((*scan).rs_key, (*scan).rs_nkeys as usize);
        keys.iter_mut().all(|key| {
            let Some(value) = super::columns::attribute(slot, i32::from(key.sk_attno)) else { return false };
            if key.sk_flags & pg_sys::SK_ISNULL as i32 != 0 {
                return false;
            }
            let passed = pg_sys::FunctionCall2Coll(&raw mut key.sk_func, key.sk_collation, value, key.sk_argument);
            passed.value() != 0
        })
    }
}

/// The next row of the engine's scan into `slot`.
///
/// # Safety
/// As [`next`].
#[inline]
pub unsafe fn advance(scan: TableScanDesc, direction: ScanDirection::Type, slot: *mut TupleTableSlot) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(wanted) = way(direction) else { return false };
        let (rel, state) = ((*scan).rs_rd, state(scan));
        if state.running.as_ref().is_none_or(|(direction, _)| *direction != wanted) {
            state.forget_ahead();
            start(state, wanted);
        }
        let tuple = match state.ahead.take() {
            Some(tuple) => Some(tuple),
            None => {
                slot::clear(slot);
                read_ahead(state, rel, (*scan).rs_snapshot);
                state.ahead.take()
            }
        };
        let Some(tuple) = tuple else {
            // At its end a scan can be turned around, and begins with the row at that end.
            (state.running, state.last) = (None, None);
            return false;
        };
        slot::show(slot, (*rel).rd_id, tuple);
        if is_new_block(state, slot) {
            count_block(rel);
        }
        true
    }
}

/// Whether the row in `slot` is in another block than the one before.
#[inline]
unsafe fn is_new_block(state: &mut State, slot: *mut TupleTableSlot) -> bool {
    // SAFETY: the slot is live.
    let block = unsafe { (*slot).tts_tid.ip_blkid };
    let is_new = (block.bi_hi, block.bi_lo) != (state.counted.bi_hi, state.counted.bi_lo);
    state.counted = block;
    is_new
}

/// Reads the next rows; none at the end.
#[inline(never)]
unsafe fn read_ahead(state: &mut State, rel: pg_sys::Relation, snapshot: pg_sys::Snapshot) {
    state.forget_ahead();
    let Some((_, rows)) = &mut state.running else { return };
    let (status, mut passed) = (Status::new(snapshot), Vec::new());
    while state.ahead.is_empty() {
        link::check_for_interrupts();
        if rows.put_more(&status, &mut passed, &mut state.ahead).or_raise() == 0 {
            break;
        }
    }
    if !passed.is_empty() && !snapshot.is_null() {
        // SAFETY: both live as long as the scan.
        unsafe { super::fetch::note_passed(rel, snapshot, &passed) };
    }
}

fn start(state: &mut State, direction: Direction) {
    let (mut from, mut to) = state.range.clone();
    if let Some(last) = state.last {
        match direction {
            Direction::Forward => {
                let mut after = last.key().to_vec();
                after.push(0);
                from = Some(after);
            }
            Direction::Backward => to = Some(last.key().to_vec()),
        }
    }
    let range = KeyRange { from: from.as_deref(), to: to.as_deref() };
    let mut rows = link::process().store.scan(state.tree, range, direction, state.snapshot.clone()).or_raise();
    if state.fits_cache {
        rows.fill_cache();
    }
    state.running = Some((direction, rows));
}

/// Restricts a scan to ctids from `from` to `to`, both included.
#[pg_guard]
pub unsafe extern "C-unwind" fn set_tid_range(scan: TableScanDesc, from: ItemPointer, to: ItemPointer) {
    // SAFETY: the server's arguments.
    unsafe {
        let pair = |pointer: &pg_sys::ItemPointerData| {
            let block = (u32::from(pointer.ip_blkid.bi_hi) << 16) | u32::from(pointer.ip_blkid.bi_lo);
            (block, pointer.ip_posid)
        };
        let (first, last) = (pair(&*from), pair(&*to));
        let (rel, snapshot, state) = ((*scan).rs_rd, (*scan).rs_snapshot, state(scan));
        state.ahead.places = None;
        // Rows are read ahead of their return, so that each row's own lock would come too late.
        lock_whole(rel, snapshot);
        if first > last {
            // Nothing: a range of keys without any.
            state.restart((Some(Vec::new()), Some(Vec::new())));
            return;
        }
        let key = |block: u32| block.to_be_bytes().to_vec();
        state.restart((Some(key(first.0)), last.0.checked_add(1).map(key)));
        state.ahead.places = Some((first, last));
    }
}

/// The next row in the range of ctids.
#[pg_guard]
pub unsafe extern "C-unwind" fn next_in_tid_range(
    scan: TableScanDesc,
    direction: ScanDirection::Type,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe { next(scan, direction, slot) }
}
