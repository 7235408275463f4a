//! Updating and deleting rows.

use pgrx::pg_guard;
use pgrx::pg_sys::{
    self, ItemPointer, LockTupleMode, LockWaitPolicy, TM_FailureData, TM_Result, TupleTableSlot, XLTW_Oper,
};
use ssd_engine::base::ids::{CommandId, TreeId};
use ssd_engine::format::row_version::Stamp;
use ssd_engine::mvcc::row_locks::{Mode, lock_hash};
use ssd_engine::mvcc::snapshot::Snapshot;

use super::columns::{self, HeapRow};
use super::counts;
use super::fetch;
use super::identity;
use super::insert::{has_external, prepare, wants_toast};
use super::last;
use super::relation::{is_logged, tree_of};
use super::wait::Queue;
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::guc;
use crate::link;
use crate::ops::change::{self, Next, Verdict, Wish, judge, next_tid};
use crate::ops::laps;
use crate::ops::numbers;
use crate::ops::read::{self, Found};
use crate::ops::tid::{Root, Tid};
use crate::ops::tuple;
use crate::ops::write::{Batch, Moved};
use crate::shmem::Lock;
use crate::wal::note::Action;
use crate::xact::commands;
use crate::xact::ids::{current, narrow};
use crate::xact::snapshot::{convert, is_serializable};
use crate::xact::status::Status;

/// Who writes now.
pub(super) fn stamp(cid: u32) -> Stamp {
    Stamp { txn: current(), command: CommandId(cid) }
}

/// Notes in `slot` where its row went and who wrote it.
pub(super) unsafe fn written(rel: pg_sys::Relation, slot: *mut TupleTableSlot, tid: Tid, stamp: Option<Stamp>) {
    // SAFETY: the server's arguments.
    unsafe {
        (*slot).tts_tid = tid.encode();
        (*slot).tts_tableOid = (*rel).rd_id;
        super::slot::note_written(slot, tid, stamp);
    }
}

/// Fills in what stands in the way.
pub(super) unsafe fn fail(tmfd: *mut TM_FailureData, tid: Tid, by: Stamp, next: Next, own: bool) -> TM_Result::Type {
    // SAFETY: the server's argument.
    let tmfd = unsafe { &mut *tmfd };
    tmfd.xmax = narrow(by.txn);
    tmfd.cmax = if own { by.command.0 } else { u32::MAX };
    tmfd.traversed = false;
    tmfd.ctid = next_tid(tid, next).unwrap_or(tid).encode();
    if let Next::Moved(Moved { other_partition: true, .. }) = next {
        tmfd.ctid = other_partition();
    }
    match next {
        _ if own => TM_Result::TM_SelfModified,
        Next::Version(_) | Next::Moved(Moved { to: Some(_), .. } | Moved { other_partition: true, .. }) => {
            TM_Result::TM_Updated
        }
        Next::Moved(_) | Next::Deleted => TM_Result::TM_Deleted,
    }
}

/// The ctid that says that a row has moved to another partition.
const fn other_partition() -> pg_sys::ItemPointerData {
    pg_sys::ItemPointerData { ip_blkid: pg_sys::BlockIdData { bi_hi: 0xFFFF, bi_lo: 0xFFFF }, ip_posid: 0xFFFD }
}

/// One try at a change under the row's latch.
pub(super) enum Tried {
    /// It is written.
    Done,
    /// This stands in the way.
    Not(Verdict),
}

/// A change of one version.
pub(super) struct Change<'c> {
    pub(super) tree: TreeId,
    pub(super) tid: Tid,
    /// The version as it was read before.
    pub(super) known: Option<&'c Found>,
    pub(super) wish: Wish<'c>,
    pub(super) crosscheck: pg_sys::Snapshot,
    pub(super) wait: bool,
}

impl Change<'_> {
    /// Judges and calls `write` when nothing is in the way, under the latch; waits for whoever is, and tries again. `write` says
    /// whether there was room.
    ///
    /// # Safety
    /// The relation is open.
    pub(super) unsafe fn run(
        &self,
        queue: &mut Queue,
        tmfd: *mut TM_FailureData,
        write: &mut dyn FnMut(&Found) -> ssd_engine::Result<Result<(), ssd_engine::lsm::control::MemtableList>>,
    ) -> TM_Result::Type {
        let process = link::writer();
        let (lsm, locks) = (process.store.lsm(), process.store.locks());
        let hash = lock_hash(&self.tid.root.full_key(self.tree));
        let mut found = Found::default();
        loop {
            lsm.admit_write(256).or_raise();
            let mut full = None;
            let tried = Lock::Row(locks.latch_number(hash)).with(|| {
                let verdict = judge(lsm, locks, (self.tree, self.tid), &self.wish, self.known, &mut found)?;
                if !matches!(verdict, Verdict::Free { .. }) {
                    return Ok(Tried::Not(verdict));
                }
                if !self.crosscheck.is_null() && !self.passes_crosscheck()? {
                    let by = found.stamp.unwrap_or(Stamp { txn: current(), command: CommandId(0) });
                    return Ok(Tried::Not(Verdict::Changed(by, Next::Version(self.tid.number))));
                }
                full = write(&found)?.err();
                Ok(Tried::Done)
            });
            match tried.or_raise() {
                Tried::Done => match full {
                    Some(list) => lsm.rotate(list).or_raise(),
                    None => return TM_Result::TM_Ok,
                },
                // SAFETY: the caller's promise.
                Tried::Not(verdict) => match unsafe { self.refused(verdict, tmfd) } {
                    Ok(result) => return result,
                    Err(on) if !self.wait => {
                        // SAFETY: the server's argument.
                        unsafe { (*tmfd).xmax = narrow(on) };
                        return TM_Result::TM_BeingModified;
                    }
                    Err(on) => {
                        queue.wait(self.tid, on);
                    }
                },
            }
        }
    }

    unsafe fn refused(
        &self,
        verdict: Verdict,
        tmfd: *mut TM_FailureData,
    ) -> Result<TM_Result::Type, ssd_engine::base::ids::TxnId> {
        // SAFETY: the server's argument.
        unsafe {
            match verdict {
                Verdict::Free { .. } => Ok(TM_Result::TM_Ok),
                Verdict::Invisible | Verdict::SelfChangedBefore => Ok(TM_Result::TM_Invisible),
                Verdict::SelfModified(by, next) => Ok(fail(tmfd, self.tid, by, next, true)),
                Verdict::Changed(by, next) => Ok(fail(tmfd, self.tid, by, next, false)),
                Verdict::Wait { on, .. } => Err(on),
            }
        }
    }

    fn passes_crosscheck(&self) -> ssd_engine::Result<bool> {
        let status = Status::new(self.crosscheck);
        // SAFETY: the server's snapshot.
        let snapshot: Snapshot = unsafe { convert(self.crosscheck) };
        let mut seen = Found::default();
        let there = read::fetch(link::lsm(), (self.tree, self.tid.root), &snapshot, &status, &mut seen)?;
        Ok(there && seen.number == self.tid.number)
    }
}

/// Deletes a version.
#[pg_guard]
pub unsafe extern "C-unwind" fn delete(
    rel: pg_sys::Relation,
    tid: ItemPointer,
    cid: u32,
    _snapshot: pg_sys::Snapshot,
    crosscheck: pg_sys::Snapshot,
    wait: bool,
    tmfd: *mut TM_FailureData,
    changing_partition: bool,
) -> TM_Result::Type {
    // SAFETY: the server's arguments.
    unsafe {
        let Some(place) = Tid::decode(&*tid) else { return TM_Result::TM_Invisible };
        let (lsm, tree, logged) = (link::writer().store.lsm(), tree_of(rel), is_logged(rel));
        let (status, stamp) = (Status::now(), stamp(cid));
        check_conflict_in(rel, Some(place));
        let wish = Wish { command: cid, mode: Mode::Update, is_lock: false, status: &status };
        // A version does not change, so it is known before its row is latched; if there is none, nothing will be written.
        let before = if identity::is_decodable(rel) {
            last::exact(tree, place, &status)
        } else {
            last::kept(tree, place, &status)
        };
        let change = Change { tree, tid: place, known: before.as_ref(), wish, crosscheck, wait };
        let mut queue = Queue::new(rel, Mode::Update, XLTW_Oper::XLTW_Delete, LockWaitPolicy::LockWaitBlock);
        let mut batch = Batch::default();
        let full = place.root.full_key(tree);
        let mut kept = None;
        if identity::is_decodable(rel)
            && let Some(before) = &before
        {
            kept = Some(identity::of_deleted(rel, HeapRow::new(rel, place, &before.row).tuple()));
        }
        let mut old = Vec::new();
        let result = change.run(&mut queue, tmfd, &mut |found| {
            batch.clear();
            let combined = commands::combine(found.stamp, cid);
            if changing_partition || combined.is_some() {
                let moved = Moved { other_partition: changing_partition, ..Moved::NOWHERE };
                batch.moved_combined(&full, stamp, moved, combined);
            } else {
                batch.tombstone(&full, stamp);
            }
            if let Some(kept) = &kept {
                identity::note(&mut batch, rel, Action::Delete, kept);
            }
            let written = batch.try_write(lsm, logged)?;
            old.clone_from(&found.row);
            Ok(written)
        });
        queue.leave();
        if result == TM_Result::TM_Ok {
            let mut row = HeapRow::new(rel, place, &old);
            let old = row.tuple();
            if has_external(old) {
                externs::guarded(|| externs::heap_toast_delete(rel, old, false));
            }
            pg_sys::pgstat_count_heap_delete(rel);
        }
        result
    }
}

/// Tells serializable transactions that a row is about to be changed, or one to be inserted.
pub(super) unsafe fn check_conflict_in(rel: pg_sys::Relation, tid: Option<Tid>) {
    if !is_serializable() {
        return;
    }
    let mut place = tid.map(Tid::encode);
    let block = tid.map_or(pg_sys::InvalidBlockNumber, |tid| tid.root.block);
    let place = place.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: guarded; the relation is open.
    unsafe { externs::guarded(|| externs::CheckForSerializableConflictIn(rel, place, block)) };
}

/// Updates a version to the row in `slot`.
#[pg_guard]
pub unsafe extern "C-unwind" fn update(
    rel: pg_sys::Relation,
    tid: ItemPointer,
    slot: *mut TupleTableSlot,
    cid: u32,
    _snapshot: pg_sys::Snapshot,
    crosscheck: pg_sys::Snapshot,
    wait: bool,
    tmfd: *mut TM_FailureData,
    lock_mode: *mut LockTupleMode::Type,
    update_indexes: *mut bool,
) -> TM_Result::Type {
    // SAFETY: the server's arguments.
    unsafe {
        *update_indexes = false;
        let Some(place) = Tid::decode(&*tid) else { return TM_Result::TM_Invisible };
        let process = link::writer();
        let (lsm, locks) = (process.store.lsm(), process.store.locks());
        let (tree, logged) = (tree_of(rel), is_logged(rel));
        let (status, stamp) = (Status::now(), stamp(cid));
        check_conflict_in(rel, Some(place));
        let Some(before) = last::exact(tree, place, &status) else { return TM_Result::TM_Invisible };
        let mut old = HeapRow::new(rel, place, &before.row);
        let old = old.tuple();
        let changed = columns::changed(rel, old, slot);
        let (mode, server_mode) = modes_of_update(changed.key);
        *lock_mode = server_mode;
        let wish = Wish { command: cid, mode, is_lock: false, status: &status };
        let change = Change { tree, tid: place, known: Some(&before), wish, crosscheck, wait };
        let mut queue = Queue::new(rel, mode, XLTW_Oper::XLTW_Update, LockWaitPolicy::LockWaitBlock);
        let full = place.root.full_key(tree);
        let (given, free) = super::slot::heap_tuple(slot);
        if wants_toast(rel, given, old) {
            // Moving wide values out writes: nobody may change the row meanwhile.
            let result = change.run(&mut queue, tmfd, &mut |_| {
                locks.add(lock_hash(&full), stamp.txn, mode, &status)?;
                Ok(Ok(()))
            });
            if result != TM_Result::TM_Ok {
                queue.leave();
                return result;
            }
        }
        if free {
            pg_sys::heap_freetuple(given);
        }
        let row = prepare(rel, slot, old, 0);
        let moves = changed.indexed || !stays(rel, place, &status);
        let mut batch = Batch::default();
        let combined = commands::combine(before.stamp, cid);
        let new = if moves {
            let to = numbers::take_near(lsm, tree, place.root, row.size).or_raise();
            put_moved(&mut batch, tree, (place.root, to, changed.key), (stamp, combined), &row.payload)
        } else {
            put_in_place(&mut batch, (tree, place), (stamp, combined), row.payload)
        };
        if identity::is_decodable(rel) {
            let kept = identity::of_updated(rel, old, slot);
            identity::note(&mut batch, rel, Action::Update, &kept);
        }
        let (mut holders, mut was_locked) = (Vec::new(), false);
        let result = change.run(&mut queue, tmfd, &mut |_| {
            let hash = lock_hash(&full);
            if moves {
                holders = change::holders(locks, tree, place.root, &status)?;
            }
            was_locked = locks.in_the_way(hash, Mode::KeyShare, &status)?.1;
            batch.try_write(lsm, logged)
        });
        queue.leave();
        if result == TM_Result::TM_Ok {
            carry_locks(locks, tree, new.root, &holders);
            written(rel, slot, new, Some(stamp));
            if was_locked {
                super::slot::note_locker(slot, stamp);
            }
            *update_indexes = moves;
            counts::updated(rel, !moves);
        }
        result
    }
}

/// Whether the version after `place` may be written under the same key, where no index is concerned.
unsafe fn stays(rel: pg_sys::Relation, place: Tid, status: &Status) -> bool {
    // SAFETY: the relation is open.
    unsafe {
        let seen_by_all = |writer| fetch::is_seen_by_all(rel, writer);
        guc::UPDATE_IN_PLACE.get() && laps::may_go_on(link::lsm(), tree_of(rel), place, status, &seen_by_all).or_raise()
    }
}

/// How an update locks its row, for us and for the server: what foreign keys may refer to needs more.
const fn modes_of_update(changes_key: bool) -> (Mode, LockTupleMode::Type) {
    if changes_key {
        (Mode::Update, LockTupleMode::LockTupleExclusive)
    } else {
        (Mode::NoKeyUpdate, LockTupleMode::LockTupleNoKeyExclusive)
    }
}

/// A new row at `to`, and the end of the one at `from`, which says where to; the new one's place.
fn put_moved(
    batch: &mut Batch,
    tree: TreeId,
    (from, to, key_changed): (Root, Root, bool),
    (stamp, combined): (Stamp, Option<u32>),
    row: &[u8],
) -> Tid {
    let moved = Moved { to: Some(to), key_changed, other_partition: false };
    batch.put(&to.full_key(tree), 0, stamp, row);
    batch.moved_combined(&from.full_key(tree), stamp, moved, combined);
    Tid::of_root(to)
}

/// The version after `place` of the same row; its place.
fn put_in_place(
    batch: &mut Batch,
    (tree, place): (TreeId, Tid),
    (stamp, combined): (Stamp, Option<u32>),
    mut row: Vec<u8>,
) -> Tid {
    let number = laps::next(place.number);
    if let Some(command) = combined {
        tuple::add_combined(&mut row, command);
    }
    batch.put(&place.root.full_key(tree), number, stamp, &row);
    Tid { root: place.root, number }
}

/// Locks the row's new place for those who hold its old one.
fn carry_locks(
    locks: &ssd_engine::mvcc::row_locks::RowLocks,
    tree: TreeId,
    to: Root,
    holders: &[(ssd_engine::base::ids::TxnId, Mode)],
) {
    if holders.is_empty() {
        return;
    }
    let hash = lock_hash(&to.full_key(tree));
    let status = Status::now();
    let added = Lock::Row(locks.latch_number(hash))
        .with(|| holders.iter().try_for_each(|&(txn, mode)| locks.add(hash, txn, mode, &status)));
    added.or_raise();
}

/// For callers outside.
pub(super) fn add_lock(root: Root, tree: TreeId, mode: Mode, stamp: Stamp) {
    let locks = link::writer().store.locks();
    carry_locks(locks, tree, root, &[(stamp.txn, mode)]);
}
