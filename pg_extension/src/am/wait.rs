//! Waiting for whoever stands in the way of a change or a lock, in the order in which those who wait have come.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, LockTupleMode, LockWaitPolicy, XLTW_Oper};
use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::mvcc::row_locks::{Mode, lock_hash};

use super::relation::tree_of;
use crate::error::{self, OrRaise};
use crate::link;
use crate::ops::tid::Tid;
use crate::shmem::Lock;
use crate::xact::ids::narrow;
use crate::xact::status::Status;

/// The engine's mode.
#[must_use]
pub const fn mode_of(mode: LockTupleMode::Type) -> Mode {
    match mode {
        LockTupleMode::LockTupleKeyShare => Mode::KeyShare,
        LockTupleMode::LockTupleShare => Mode::Share,
        LockTupleMode::LockTupleNoKeyExclusive => Mode::NoKeyUpdate,
        _ => Mode::Update,
    }
}

const fn heavy(mode: Mode) -> pg_sys::LOCKMODE {
    (match mode {
        Mode::KeyShare => pg_sys::AccessShareLock,
        Mode::Share => pg_sys::RowShareLock,
        Mode::NoKeyUpdate => pg_sys::ExclusiveLock,
        Mode::Update => pg_sys::AccessExclusiveLock,
    }) as pg_sys::LOCKMODE
}

/// Whether this transaction has any lock on the row.
fn holds_lock(tree: TreeId, tid: Tid) -> bool {
    let locks = link::writer().store.locks();
    let hash = lock_hash(&tid.root.full_key(tree));
    let held = Lock::Row(locks.latch_number(hash)).with(|| locks.in_the_way(hash, Mode::KeyShare, &Status::now()));
    held.or_raise().1
}

/// A place in the queue for one version.
pub struct Queue {
    rel: pg_sys::Relation,
    mode: Mode,
    operation: XLTW_Oper::Type,
    policy: LockWaitPolicy::Type,
    /// The version whose lock in the server's table is held.
    held: Option<Tid>,
}

impl Queue {
    /// For whoever wants to lock in `mode` a version of `rel`, which stays open.
    #[must_use]
    pub const fn new(
        rel: pg_sys::Relation,
        mode: Mode,
        operation: XLTW_Oper::Type,
        policy: LockWaitPolicy::Type,
    ) -> Self {
        Self { rel, mode, operation, policy, held: None }
    }

    /// Waits until `on` has ended; false when the policy says not to wait.
    ///
    /// Who has a lock on the row already does not stand in line: whoever is first there may be waiting for this one to end.
    pub fn wait(&mut self, tid: Tid, on: TxnId) -> bool {
        // SAFETY: the relation is open.
        let has_lock = holds_lock(unsafe { tree_of(self.rel) }, tid);
        if self.held != Some(tid) && !has_lock {
            self.leave();
            if !self.stand_in_line(tid) {
                return false;
            }
        }
        let mut pointer = tid.encode();
        // SAFETY: guarded; the relation is open.
        unsafe {
            match self.policy {
                LockWaitPolicy::LockWaitBlock => {
                    pg_sys::XactLockTableWait(narrow(on), self.rel, &raw mut pointer, self.operation);
                    true
                }
                _ => {
                    let free = pg_sys::ConditionalXactLockTableWait(narrow(on));
                    self.refuse(free)
                }
            }
        }
    }

    fn stand_in_line(&mut self, tid: Tid) -> bool {
        let mut pointer = tid.encode();
        // SAFETY: guarded; the relation is open.
        unsafe {
            if self.policy == LockWaitPolicy::LockWaitBlock {
                pg_sys::LockTuple(self.rel, &raw mut pointer, heavy(self.mode));
            } else {
                let got = pg_sys::ConditionalLockTuple(self.rel, &raw mut pointer, heavy(self.mode));
                if !self.refuse(got) {
                    return false;
                }
            }
        }
        self.held = Some(tid);
        true
    }

    /// Passes `free` on; raises the error when the policy asks for one.
    fn refuse(&self, free: bool) -> bool {
        if !free && self.policy == LockWaitPolicy::LockWaitError {
            // SAFETY: the relation is open.
            let name = unsafe { std::ffi::CStr::from_ptr((*(*self.rel).rd_rel).relname.data.as_ptr()) };
            error::fail(
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
                format!("could not obtain lock on row in relation \"{}\"", name.to_string_lossy()),
                "",
            );
        }
        free
    }

    /// Leaves the line.
    pub fn leave(&mut self) {
        if let Some(tid) = self.held.take() {
            let mut pointer = tid.encode();
            // SAFETY: taken in `stand_in_line`.
            unsafe { pg_sys::UnlockTuple(self.rel, &raw mut pointer, heavy(self.mode)) };
        }
    }
}
