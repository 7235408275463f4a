//! A transaction at work: begins, writes, sets savepoints, commits or rolls back.
//!
//! The order of an end, which `mvcc::status` asks for:
//!
//! ```text
//!   judged by SSI ─► records written (and synced) ─► states changed and left the running set ─► waiters woken
//!      │ fails           │ not written                  under one lock
//!      └► rolled back ◄──┘
//!                        │ written, but not known to be synced
//!                        └► in doubt: it runs for ever, and nobody waits any more
//! ```
//! A rollback writes nothing and begins with the third step. Whoever is dropped while active rolls back.

use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Condvar;

use crate::base::ids::{CommandId, TreeId, TxnId};
use crate::error::{Error, Result};
use crate::mvcc::snapshot::TxnSnapshot;
use crate::mvcc::status::{TxnState, TxnStatus};
use crate::mvcc::txn::lock_mode::Modes;
use crate::mvcc::txn::lock_queue::LockObject;
use crate::mvcc::txn::record::{Isolation, Missing, Phase, Record, Savepoint};
use crate::mvcc::txn::running::{LocalTxn, SnapshotKey};
use crate::mvcc::txn::{LockMode, TxnManager};
use crate::options::Durability;

/// A transaction snapshot that garbage collection respects. Clones share the registration, which ends with the last.
#[derive(Clone)]
pub struct ActiveSnapshot {
    view: TxnSnapshot,
    registration: Arc<Registration>,
}

struct Registration {
    manager: Arc<TxnManager>,
    key: SnapshotKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.manager.running.release_snapshot(self.key);
    }
}

impl ActiveSnapshot {
    /// What it sees.
    #[must_use]
    pub const fn view(&self) -> &TxnSnapshot {
        &self.view
    }

    /// The same moment, a later command.
    #[must_use]
    pub fn at_command(&self, command: CommandId) -> Self {
        Self { view: self.view.at_command(command), registration: Arc::clone(&self.registration) }
    }
}

impl std::ops::Deref for ActiveSnapshot {
    type Target = TxnSnapshot;

    fn deref(&self) -> &TxnSnapshot {
        &self.view
    }
}

/// A transaction. Dropped while active, it rolls back.
pub struct Txn {
    pub(super) manager: Arc<TxnManager>,
    pub(super) local: LocalTxn,
    pub(super) record: Record,
    pub(super) bell: Arc<Condvar>,
    /// A table lock that was asked for and not noted yet.
    pub(super) asked: Option<(LockObject, LockMode)>,
    snapshot: Option<ActiveSnapshot>,
}

impl TxnManager {
    /// Begins a transaction.
    pub fn begin(self: &Arc<Self>, isolation: Isolation, read_only: bool) -> Txn {
        Txn {
            manager: Arc::clone(self),
            local: self.running.start(),
            record: Record::new(isolation, read_only),
            bell: Arc::new(Condvar::new()),
            asked: None,
            snapshot: None,
        }
    }

    /// Registers a snapshot of what is committed now.
    #[must_use]
    pub fn snapshot(self: &Arc<Self>, command: CommandId) -> ActiveSnapshot {
        let (view, key, _) = self.running.take_snapshot(command);
        ActiveSnapshot { view, registration: Arc::new(Registration { manager: Arc::clone(self), key }) }
    }

    /// The last two steps of an end: `ids` and locks are those of `local`.
    pub(super) fn finish(
        &self,
        local: LocalTxn,
        ids: &[TxnId],
        locks: &[(u64, u8)],
        end: TxnState,
        serializable: bool,
    ) {
        if serializable {
            // Together, so that the numbers of commits are in the order in which snapshots see them.
            let mut ssi = self.ssi.lock();
            let number = self.running.leave(ids, end);
            match end {
                TxnState::Committed => ssi.committed(local, number),
                TxnState::Aborted | TxnState::InProgress => ssi.aborted(local),
            }
        } else if !ids.is_empty() {
            self.running.leave(ids, end);
        }
        if !ids.is_empty() || !locks.is_empty() {
            self.lobby.lock().leave(local, ids, &lock_list(locks), true);
        }
    }
}

fn lock_list(locks: &[(u64, u8)]) -> Vec<(LockObject, Modes)> {
    locks.iter().map(|&(object, bits)| (LockObject(object), Modes(bits))).collect()
}

impl Txn {
    /// The transactions it is one of.
    #[must_use]
    pub const fn manager(&self) -> &Arc<TxnManager> {
        &self.manager
    }

    /// Its own record.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// How messages of others name it.
    #[must_use]
    pub fn party(&self) -> super::Party {
        self.record.id().map_or(super::Party::Reader(self.local), super::Party::Id)
    }

    fn is_serializable(&self) -> bool {
        self.record.isolation() == Isolation::Serializable
    }

    /// The snapshot for the present command: a new one in read committed, otherwise the transaction's only one. Call it once
    /// for a command.
    ///
    /// # Errors
    /// Usage: it has ended.
    pub fn snapshot(&mut self) -> Result<ActiveSnapshot> {
        self.record.check_active()?;
        let command = self.record.command();
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| self.record.isolation() != Isolation::ReadCommitted) {
            return Ok(snapshot.at_command(command));
        }
        let (view, key) = if self.is_serializable() {
            let mut ssi = self.manager.ssi.lock();
            let (view, key, number) = self.manager.running.take_snapshot(command);
            ssi.begin(self.local, number, self.record.is_read_only());
            (view, key)
        } else {
            let (view, key, _) = self.manager.running.take_snapshot(command);
            (view, key)
        };
        let registration = Arc::new(Registration { manager: Arc::clone(&self.manager), key });
        let taken = ActiveSnapshot { view, registration };
        self.snapshot = Some(taken.clone());
        Ok(taken)
    }

    /// The id that a write carries now; the first time for the transaction, or for a savepoint, it is handed out.
    ///
    /// # Errors
    /// Usage: it is read-only or has ended. I/O: ids could not be reserved.
    pub fn write_id(&mut self) -> Result<TxnId> {
        self.record.check_active()?;
        if let Some(id) = self.record.write_id() {
            return Ok(id);
        }
        if self.record.is_read_only() {
            return Err(Error::usage("cannot write in a read-only transaction", "Begin one that is not read-only."));
        }
        if self.is_serializable() && self.snapshot.is_none() {
            self.snapshot()?;
        }
        while self.record.missing_id() != Missing::Nothing {
            self.take_id()?;
        }
        Ok(self.record.write_id().expect("the missing ids were just given"))
    }

    /// Hands out the id that is missing. It has an owner before anybody can find it in a row.
    pub(super) fn take_id(&mut self) -> Result<TxnId> {
        let id = self.manager.allocate_id()?;
        self.manager.lobby.lock().own(self.local, id);
        if self.is_serializable() {
            self.manager.ssi.lock().own(self.local, id);
        }
        self.record.give_id(id);
        Ok(id)
    }

    /// The next command begins: it sees the writes of those before it.
    ///
    /// # Errors
    /// As [`Record::next_command`].
    pub fn next_command(&mut self) -> Result<CommandId> {
        self.record.next_command()
    }

    /// Sets a savepoint inside those that are set.
    ///
    /// # Errors
    /// Usage: it has ended.
    pub fn set_savepoint(&mut self) -> Result<Savepoint> {
        self.record.set_savepoint()
    }

    /// Forgets `savepoint` and those inside it; what they have done belongs to what is around.
    ///
    /// # Errors
    /// Usage: there is no such savepoint; the transaction has ended.
    pub fn release_savepoint(&mut self, savepoint: Savepoint) -> Result<()> {
        self.record.release(savepoint)
    }

    /// Takes back everything since `savepoint`: its ids are aborted at once, its table locks released.
    ///
    /// # Errors
    /// As [`release_savepoint`](Self::release_savepoint).
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let undone = self.record.rollback_to(savepoint)?;
        if !undone.ids.is_empty() {
            self.manager.running.leave(&undone.ids, TxnState::Aborted);
        }
        if !undone.ids.is_empty() || !undone.locks.is_empty() {
            self.manager.lobby.lock().leave(self.local, &undone.ids, &lock_list(&undone.locks), false);
        }
        Ok(())
    }

    /// Commits. When the call returns an error the transaction has rolled back, or is in doubt ([`Phase`]).
    ///
    /// # Errors
    /// Conflict: it could not be serialized. Usage: it has ended. I/O, closed: as `Lsm::write`.
    pub fn commit(&mut self, durability: Durability) -> Result<()> {
        self.record.check_active()?;
        if self.is_serializable() {
            let judged = self.manager.ssi.lock().before_commit(self.local);
            if let Err(error) = judged {
                self.end(Phase::Aborted);
                return Err(error);
            }
        }
        let ids = self.record.ids();
        if let Some(&first) = ids.first()
            && let Err(error) = self.manager.store.commit(&ids, None, durability)
        {
            // In one batch: the first is there when all are. What cannot be read may be there.
            let written = self.manager.store.is_committed(first).unwrap_or(true);
            self.end(if written { Phase::InDoubt } else { Phase::Aborted });
            return Err(error);
        }
        self.end(Phase::Committed);
        Ok(())
    }

    /// Rolls back; fine when it has ended already.
    pub fn rollback(&mut self) {
        if self.record.phase() == Phase::Active {
            self.end(Phase::Aborted);
        }
    }

    pub(super) fn end(&mut self, phase: Phase) {
        if self.asked.is_some() {
            self.stop_waiting();
        }
        self.record.end(phase);
        let (ids, locks) = (self.record.ids(), self.record.locks());
        let state = match phase {
            Phase::Committed => Some(TxnState::Committed),
            Phase::Aborted => Some(TxnState::Aborted),
            Phase::Prepared | Phase::InDoubt | Phase::Active => None,
        };
        match state {
            Some(state) => self.manager.finish(self.local, &ids, locks, state, self.is_serializable()),
            None if phase == Phase::InDoubt => self.manager.close(),
            None => {}
        }
        self.snapshot = None;
        self.manager.running.stop(self.local);
    }

    /// About to read a key. Before the read, or a writer in between is missed.
    ///
    /// # Errors
    /// Conflict: it can no longer be serialized and must roll back.
    #[inline]
    pub fn on_read_key(&self, tree: TreeId, key: &[u8]) -> Result<()> {
        if !self.is_serializable() {
            return Ok(());
        }
        self.manager.ssi.lock().on_read_key(self.local, tree, key)
    }

    /// About to read the keys from `from` to before `to`, or to the end of the tree.
    ///
    /// # Errors
    /// As [`on_read_key`](Self::on_read_key).
    #[inline]
    pub fn on_read_range(&self, tree: TreeId, from: &[u8], to: Option<&[u8]>) -> Result<()> {
        if !self.is_serializable() {
            return Ok(());
        }
        self.manager.ssi.lock().on_read_range(self.local, tree, from, to)
    }

    /// A version was passed over because `writer` had not committed before the snapshot.
    ///
    /// # Errors
    /// As [`on_read_key`](Self::on_read_key).
    #[inline]
    pub fn on_read_newer(&self, writer: TxnId) -> Result<()> {
        if !self.is_serializable() {
            return Ok(());
        }
        self.manager.ssi.lock().on_read_newer(self.local, writer)
    }

    /// A version of a key was written. After the write, or a reader in between is missed.
    ///
    /// # Errors
    /// As [`on_read_key`](Self::on_read_key).
    #[inline]
    pub fn on_write(&self, tree: TreeId, key: &[u8]) -> Result<()> {
        if !self.is_serializable() {
            return Ok(());
        }
        self.manager.ssi.lock().on_write(self.local, tree, key)
    }

    /// A text for messages about what is waited for: a row by its key.
    #[must_use]
    pub fn row_text(key: &[u8]) -> impl Display {
        format!("row '{}'", key.escape_ascii())
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        self.rollback();
    }
}

impl TxnStatus for Txn {
    #[inline]
    fn is_own(&self, txn: TxnId) -> bool {
        self.record.is_own(txn)
    }

    #[inline]
    fn state(&self, txn: TxnId) -> Result<TxnState> {
        self.manager.state(txn)
    }
}

impl std::fmt::Debug for Txn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Txn").field("local", &self.local).field("record", &self.record).finish_non_exhaustive()
    }
}
