//! Non-modifying operations on single versions.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, ItemPointer, TableScanDesc, TupleTableSlot};
use ssd_engine::base::ids::TxnId;
use ssd_engine::format::row_version::Stamp;
use ssd_engine::mvcc::snapshot::Snapshot;

use super::last;
use super::relation::tree_of;
use super::slot;
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::read::{self, Found};
use crate::ops::tid::Tid;
use crate::xact::ids::narrow;
use crate::xact::snapshot::{convert, is_serializable};
use crate::xact::status::Status;

/// Notes for serializable transactions that a read has passed over versions of these writers.
///
/// # Safety
/// Both are live.
pub unsafe fn note_passed(rel: pg_sys::Relation, snapshot: pg_sys::Snapshot, writers: &[TxnId]) {
    // SAFETY: guarded; the caller's promise.
    unsafe {
        if !externs::guarded(|| externs::CheckForSerializableConflictOutNeeded(rel, snapshot)) {
            return;
        }
        for writer in writers {
            let top = pg_sys::SubTransGetTopmostTransaction(narrow(*writer));
            externs::guarded(|| externs::CheckForSerializableConflictOut(rel, top, snapshot));
        }
    }
}

/// Notes for serializable transactions that a version was read, and what was passed over for it.
///
/// # Safety
/// Both are live.
pub unsafe fn note_read(rel: pg_sys::Relation, snapshot: pg_sys::Snapshot, tid: Tid, found: &Found) {
    // SAFETY: guarded; the caller's promise.
    unsafe {
        if !is_serializable() {
            return;
        }
        lock_read(rel, snapshot, tid, found.stamp);
        note_passed(rel, snapshot, &found.passed);
    }
}

/// Notes for serializable transactions that the version at `tid`, which `stamp` wrote, was read.
///
/// # Safety
/// Both are live.
unsafe fn lock_read(rel: pg_sys::Relation, snapshot: pg_sys::Snapshot, tid: Tid, stamp: Option<Stamp>) {
    let mut place = tid.encode();
    let writer = stamp.map_or(pg_sys::InvalidTransactionId, |stamp| narrow(stamp.txn));
    // SAFETY: guarded; the caller's promise.
    unsafe { externs::guarded(|| externs::PredicateLockTID(rel, &raw mut place, snapshot, writer)) };
}

/// Whether everybody sees what `writer`, who has committed, has written.
///
/// # Safety
/// `rel` is an open relation.
#[must_use]
pub unsafe fn is_seen_by_all(rel: pg_sys::Relation, writer: TxnId) -> bool {
    // SAFETY: guarded; the caller's promise.
    unsafe { pg_sys::GlobalVisTestIsRemovableXid(pg_sys::GlobalVisTestFor(rel), narrow(writer)) }
}

/// The version that `snapshot` sees and that is at `tid` exactly; whether there is one.
#[pg_guard]
pub unsafe extern "C-unwind" fn row_version(
    rel: pg_sys::Relation,
    tid: ItemPointer,
    snapshot: pg_sys::Snapshot,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let Some(tid) = Tid::decode(&*tid) else { return false };
        let (lsm, tree) = (link::lsm(), tree_of(rel));
        let mut found = Found::default();
        let status = Status::new(snapshot);
        let there = match convert(snapshot) {
            Snapshot::Any => last::exact(tree, tid, &status).map(|kept| found = kept).is_some(),
            Snapshot::Dirty => read::fetch_dirty(lsm, (tree, tid.root), &status, &mut found).or_raise().is_some(),
            other => read::fetch(lsm, (tree, tid.root), &other, &status, &mut found).or_raise(),
        };
        if !there || found.number != tid.number {
            return false;
        }
        note_read(rel, snapshot, tid, &found);
        slot::store_found(slot, (*rel).rd_id, tid.root, &found);
        last::keep(tree, tid.root, found);
        true
    }
}

/// Whether a scan may ask for `tid`.
#[pg_guard]
pub unsafe extern "C-unwind" fn tid_valid(scan: TableScanDesc, tid: ItemPointer) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let rel = (*scan).rs_rd;
        let blocks = super::planner::blocks(rel);
        let pointer = &*tid;
        let block = (u32::from(pointer.ip_blkid.bi_hi) << 16) | u32::from(pointer.ip_blkid.bi_lo);
        pointer.ip_posid != 0 && u64::from(block) < blocks
    }
}

/// Moves `tid` on to the newest version of the row that the scan's snapshot sees.
#[pg_guard]
pub unsafe extern "C-unwind" fn latest_tid(scan: TableScanDesc, tid: ItemPointer) {
    // SAFETY: the server's arguments.
    unsafe {
        let (rel, snapshot) = ((*scan).rs_rd, (*scan).rs_snapshot);
        let (lsm, tree, status) = (link::lsm(), tree_of(rel), Status::new(snapshot));
        let Some(mut at) = Tid::decode(&*tid) else { return };
        let converted = convert(snapshot);
        let mut found = Found::default();
        loop {
            if read::fetch(lsm, (tree, at.root), &converted, &status, &mut found).or_raise() {
                if read::is_as_new(lsm, (tree, at.root), found.number, at.number, &status).or_raise() {
                    *tid = Tid { root: at.root, number: found.number }.encode();
                }
                return;
            }
            match read::moved_to(lsm, tree, at.root, &status).or_raise() {
                Some(root) => at = Tid::of_root(root),
                None => return,
            }
        }
    }
}

/// Whether the version in `slot` counts for `snapshot`.
#[pg_guard]
pub unsafe extern "C-unwind" fn satisfies_snapshot(
    rel: pg_sys::Relation,
    slot: *mut TupleTableSlot,
    snapshot: pg_sys::Snapshot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let Some(tid) = Tid::decode(&(*slot).tts_tid) else { return false };
        let (lsm, tree, status) = (link::lsm(), tree_of(rel), Status::new(snapshot));
        let mut found = Found::default();
        let there = match convert(snapshot) {
            Snapshot::Any => return true,
            Snapshot::Dirty => read::fetch_dirty(lsm, (tree, tid.root), &status, &mut found).or_raise().is_some(),
            other => read::fetch(lsm, (tree, tid.root), &other, &status, &mut found).or_raise(),
        };
        there && found.number == tid.number
    }
}
