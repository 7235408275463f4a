//! Locking a row: in a version, or in its newest one, wherever that is by now.

use pgrx::PgSqlErrorCode;
use pgrx::pg_guard;
use pgrx::pg_sys::{
    self, ItemPointer, LockTupleMode, LockWaitPolicy, TM_FailureData, TM_Result, TupleTableSlot, XLTW_Oper,
};
use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::format::row_version::Stamp;
use ssd_engine::mvcc::row_locks::lock_hash;

use super::modify::{add_lock, fail, stamp};
use super::relation::tree_of;
use super::slot;
use super::wait::{Queue, mode_of};
use crate::error::{self, OrRaise};
use crate::link;
use crate::ops::change::{self, Next, Onward, Verdict, Wish, judge, next_tid};
use crate::ops::read::{self, Found};
use crate::ops::tid::Tid;
use crate::ops::write::Moved;
use crate::shmem::Lock;
use crate::xact::ids::narrow;
use crate::xact::status::Status;

/// Locks the version at `tid`, or with the flag for it, the newest version of its row; that goes to `slot` and `tid`.
#[pg_guard]
pub unsafe extern "C-unwind" fn tuple(
    rel: pg_sys::Relation,
    tid: ItemPointer,
    _snapshot: pg_sys::Snapshot,
    slot: *mut TupleTableSlot,
    cid: u32,
    mode: LockTupleMode::Type,
    policy: LockWaitPolicy::Type,
    flags: u8,
    tmfd: *mut TM_FailureData,
) -> TM_Result::Type {
    // SAFETY: the server's arguments.
    unsafe {
        (*tmfd).traversed = false;
        let Some(mut place) = Tid::decode(&*tid) else { return TM_Result::TM_Invisible };
        let tree = tree_of(rel);
        let find_last = u32::from(flags) & pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION != 0;
        let stamp = stamp(cid);
        let mode = mode_of(mode);
        let mut queue = Queue::new(rel, mode, XLTW_Oper::XLTW_Lock, policy);
        let mut locker = Locker { tree, cid, stamp, mode, found: Found::default() };
        let result = loop {
            match locker.attempt_onward(place) {
                Verdict::Free { .. } => break TM_Result::TM_Ok,
                Verdict::Invisible | Verdict::SelfChangedBefore => break TM_Result::TM_Invisible,
                Verdict::SelfModified(by, next) => break fail(tmfd, place, by, next, true),
                Verdict::Changed(by, next) => {
                    let result = fail(tmfd, place, by, next, false);
                    if !find_last {
                        break result;
                    }
                    if matches!(next, Next::Moved(Moved { other_partition: true, .. })) {
                        other_partition();
                    }
                    let Some(next) = next_tid(place, next) else { break TM_Result::TM_Deleted };
                    (*tmfd).traversed = true;
                    match newest(tree, next, cid) {
                        Newest::Here(newest) => place = newest,
                        Newest::OwnLater(by) => {
                            (*tmfd).xmax = narrow(by.txn);
                            (*tmfd).cmax = by.command.0;
                            break TM_Result::TM_SelfModified;
                        }
                        Newest::Gone => break TM_Result::TM_Deleted,
                        Newest::OtherPartition => other_partition(),
                        Newest::Writing(on) => {
                            if !queue.wait(next, on) {
                                (*tmfd).xmax = narrow(on);
                                break TM_Result::TM_WouldBlock;
                            }
                        }
                    }
                }
                Verdict::Wait { on, .. } => {
                    if !queue.wait(place, on) {
                        (*tmfd).xmax = narrow(on);
                        break TM_Result::TM_WouldBlock;
                    }
                }
            }
        };
        queue.leave();
        // Also a version that this transaction may not lock: ON CONFLICT looks at who wrote it.
        if result != TM_Result::TM_WouldBlock && !locker.found.row.is_empty() {
            slot::store_found(slot, (*rel).rd_id, place.root, &locker.found);
            if result == TM_Result::TM_Ok {
                *tid = place.encode();
            }
        }
        result
    }
}

fn other_partition() -> ! {
    error::fail(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        "tuple to be locked was already moved to another partition due to concurrent update",
        "",
    );
}

/// Where a row's chain of versions leads by now.
enum Newest {
    /// To this version.
    Here(Tid),
    /// To the row's end.
    Gone,
    /// To another table.
    OtherPartition,
    /// To a version that a running transaction has just written.
    Writing(TxnId),
    /// To one that this transaction wrote, with a command that does not see it.
    OwnLater(Stamp),
}

/// The newest committed version from `from` on.
fn newest(tree: TreeId, from: Tid, cid: u32) -> Newest {
    use ssd_engine::format::row_version::RowKind;
    use ssd_engine::mvcc::status::{TxnState, TxnStatus};
    let status = Status::now();
    let lsm = link::lsm();
    let mut root = from.root;
    loop {
        let mut found: Option<(RowKind, u16, Option<Moved>)> = None;
        let (mut writing, mut own_later) = (None, None);
        let walked = read::walk(lsm, &root.full_key(tree), &mut |version| {
            if let Some(stamp) = version.stamp
                && !status.is_own(stamp.txn)
            {
                match status.state(stamp.txn)? {
                    TxnState::Aborted => return Ok(std::ops::ControlFlow::Continue(())),
                    TxnState::InProgress => {
                        writing = Some(stamp.txn);
                        return Ok(std::ops::ControlFlow::Continue(()));
                    }
                    TxnState::Committed => {}
                }
            }
            own_later = version
                .stamp
                .filter(|stamp| version.kind.is_row() && status.is_own(stamp.txn) && stamp.command.0 >= cid);
            let to = match version.kind {
                RowKind::Moved => Some(Moved::decode(version.payload)?),
                _ => None,
            };
            found = Some((version.kind, version.number, to));
            Ok(std::ops::ControlFlow::Break(()))
        });
        walked.or_raise();
        if let Some(stamp) = own_later {
            return Newest::OwnLater(stamp);
        }
        match (found, writing) {
            (Some((kind, number, _)), _) if kind.is_row() => return Newest::Here(Tid { root, number }),
            (Some((RowKind::Moved, _, Some(Moved { other_partition: true, .. }))), _) => return Newest::OtherPartition,
            (Some((RowKind::Moved, _, Some(Moved { to: Some(to), .. }))), _) => root = to,
            (None, Some(on)) => return Newest::Writing(on),
            _ => return Newest::Gone,
        }
    }
}

/// Who locks, and what the last try found.
struct Locker {
    tree: TreeId,
    cid: u32,
    stamp: Stamp,
    mode: ssd_engine::mvcc::row_locks::Mode,
    found: Found,
}

impl Locker {
    /// Locks the version at `tid` unless something is in the way.
    fn attempt(&mut self, tid: Tid) -> Verdict {
        let store = &link::writer().store;
        let (lsm, locks) = (store.lsm(), store.locks());
        let hash = lock_hash(&tid.root.full_key(self.tree));
        let status = Status::now();
        let wish = Wish { command: self.cid, mode: self.mode, is_lock: true, status: &status };
        let found = &mut self.found;
        found.row.clear();
        let verdict = Lock::Row(locks.latch_number(hash)).with(|| {
            let verdict = judge(lsm, locks, (self.tree, tid), &wish, None, found)?;
            if matches!(verdict, Verdict::Free { .. }) {
                let (_, held) = locks.in_the_way(hash, self.mode, &status)?;
                if !held {
                    locks.add(hash, self.stamp.txn, self.mode, &status)?;
                }
            }
            Ok(verdict)
        });
        verdict.or_raise()
    }

    /// Locks the version at `tid`, and, when somebody has moved the row meanwhile and kept its key, the row where it is now.
    fn attempt_onward(&mut self, tid: Tid) -> Verdict {
        let verdict = self.attempt(tid);
        let Verdict::Free { successor: Some(next @ Next::Moved(Moved { to: Some(root), .. })) } = verdict else {
            return verdict;
        };
        let status = Status::now();
        let wish = Wish { command: self.cid, mode: self.mode, is_lock: true, status: &status };
        match change::onward(link::lsm(), self.tree, root, &wish).or_raise() {
            Onward::Free => {
                add_lock(root, self.tree, self.mode, self.stamp);
                verdict
            }
            Onward::Wait(on) => Verdict::Wait { on, is_lock: false },
            Onward::Changed => Verdict::Changed(self.found.newer.unwrap_or(self.stamp), next),
        }
    }
}
