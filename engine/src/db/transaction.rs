//! A transaction over trees of rows.
//!
//! ```text
//!   begin ──► active ──────────────────────────► commit ──► committed
//!               │  a conflict        rollback_to    │ conflict
//!               ▼                        ▲          ▼
//!             failed ────────────────────┘       rolled back
//!               └── commit (refused), abort, drop ──► rolled back
//! ```
//! As in Postgres, a conflict fails the transaction: it does nothing more until it rolls back, as a whole or to a savepoint.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::TxnId;
use crate::base::key::full_key;
use crate::db::core::Core;
use crate::db::transactions::{HeldLock, RowTree, Transactions, encode_locks};
use crate::error::{Class, ConflictKind, Error, Result};
use crate::format::row_version::{RowKind, Stamp};
use crate::mvcc::conflict::Conflict;
use crate::mvcc::row_locks::{Mode, lock_hash};
use crate::mvcc::rows::{NewVersion, Row, RowStore, Session};
use crate::mvcc::snapshot::Snapshot;
use crate::mvcc::txn::{ActiveSnapshot, Isolation, LockMode, LockObject, Savepoint, Txn};
use crate::options::Durability;

mod patience;
mod scan;

use self::patience::Patience;
pub use self::scan::TransactionScan;

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TransactionOptions {
    /// What it sees of others.
    pub isolation: Isolation,
    /// It may not write; a serializable one is then cheaper.
    pub read_only: bool,
    /// How long it waits for a row or a lock before it fails; `None`: as long as it takes.
    pub lock_timeout: Option<Duration>,
    /// How long a statement may take before it fails; `None`: as long as it takes. A call is a statement, a scan until it is
    /// dropped, and all calls between [`Transaction::begin_statement`] and [`Transaction::end_statement`] are one.
    pub statement_timeout: Option<Duration>,
}

/// A transaction. It belongs to one thread at a time; dropped without [`commit`](Self::commit), it rolls back.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use ssd_engine::{Durability, Engine, Isolation, Options};
///
/// let engine = Engine::open(dir.path(), Options::default())?;
/// let accounts = engine.row_tree("accounts")?;
/// let mut txn = engine.begin(Isolation::RepeatableRead)?;
/// txn.put(&accounts, b"alice", b"90")?;
/// txn.put(&accounts, b"bob", b"110")?;
/// txn.commit(Durability::Machine)?;
///
/// let mut txn = engine.begin(Isolation::Serializable)?;
/// assert_eq!(txn.get(&accounts, b"bob")?.as_deref(), Some(&b"110"[..]));
/// # Ok::<(), ssd_engine::Error>(())
/// ```
pub struct Transaction {
    core: Arc<Core>,
    shared: Arc<Transactions>,
    txn: Txn,
    patience: Patience,
    failed: bool,
    /// For a prepare: what would have to be locked again.
    row_locks: Vec<HeldLock>,
}

/// How many of its latest locks a write looks through for that of its row: who locks a row changes it soon.
const REMEMBERED_LOCKS: usize = 16;

/// What a write does when it comes to the row.
enum Write<'a> {
    Put(&'a [u8]),
    Insert(&'a [u8]),
    Delete,
}

impl Transaction {
    pub(crate) fn begin(core: &Arc<Core>, options: TransactionOptions) -> Result<Self> {
        let TransactionOptions { isolation, read_only, lock_timeout, statement_timeout } = options;
        let (core, shared) = (Arc::clone(core), Arc::clone(core.transactions()?));
        let txn = shared.manager.begin(isolation, read_only);
        let patience = Patience::new(lock_timeout, statement_timeout);
        Ok(Self { core, shared, txn, patience, failed: false, row_locks: Vec::new() })
    }

    fn rows(&self) -> &RowStore {
        &self.shared.rows
    }

    /// A call about `tree` begins.
    fn begin_call(&mut self, tree: &RowTree) -> Result<()> {
        if self.failed {
            return Err(failed());
        }
        if !Arc::ptr_eq(&tree.core, &self.core) {
            return Err(Error::usage(
                "tree is of another engine",
                "Open the tree in the engine that began the transaction.",
            ));
        }
        self.txn.record().check_active()?;
        let begun = self.patience.call(&*self.core.lsm.env);
        self.noted(begun)
    }

    /// Begins a statement of several calls, which together may take as long as
    /// [`statement_timeout`](TransactionOptions::statement_timeout) says. Ends the one before.
    pub fn begin_statement(&mut self) {
        self.patience.open(&*self.core.lsm.env);
    }

    /// Ends the statement: each call is one of its own again.
    pub const fn end_statement(&mut self) {
        self.patience.close();
    }

    /// Fails the transaction when what it did ended in a conflict.
    fn noted<R>(&mut self, result: Result<R>) -> Result<R> {
        if result.as_ref().is_err_and(|error| error.class() == Class::Conflict) {
            self.failed = true;
        }
        result
    }

    /// What the present command sees. Whoever looks under the row's latch, in a transaction that reads what is committed,
    /// needs no snapshot of its own: nobody else writes the row meanwhile. Without the latch a writer could add a version
    /// and commit between the walk over the versions and the question for its state, and a part of it would be seen.
    fn read_snapshot(&mut self, latched: bool) -> Result<(Snapshot, Option<ActiveSnapshot>)> {
        if latched && self.txn.record().isolation() == Isolation::ReadCommitted {
            return Ok((Snapshot::Now, None));
        }
        let active = self.txn.snapshot()?;
        Ok((Snapshot::At(active.view().clone()), Some(active)))
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// Conflict (serializable only), I/O, corruption; usage when the transaction has failed.
    pub fn get(&mut self, tree: &RowTree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.begin_call(tree)?;
        let result = self.get_row(tree, key);
        self.noted(result)
    }

    fn get_row(&mut self, tree: &RowTree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let (snapshot, _held) = self.read_snapshot(false)?;
        self.txn.on_read_key(tree.id, key)?;
        let mut row = Row::default();
        let found = self.rows().fetch(tree.id, key, &snapshot, &self.txn, &mut row)?;
        row.passed.iter().try_for_each(|&writer| self.txn.on_read_newer(writer))?;
        Ok(found.then(|| row.version().payload.to_vec()))
    }

    /// Sets `key` to `value`, whether or not it has one.
    ///
    /// # Errors
    /// Conflict: somebody else has changed the row since the snapshot, or waiting for whoever is changing it ended in a
    /// deadlock or time-out. I/O, corruption, closed; usage when the transaction has failed or may not write.
    pub fn put(&mut self, tree: &RowTree, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(tree, key, &Write::Put(value)).map(drop)
    }

    /// Sets `key` to `value` if it has none; whether it had none. Above read committed that is a question to the snapshot, and
    /// when it says none, a row that others have put there or removed since is a conflict.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn insert(&mut self, tree: &RowTree, key: &[u8], value: &[u8]) -> Result<bool> {
        self.write(tree, key, &Write::Insert(value))
    }

    /// Removes `key`; whether it was there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, tree: &RowTree, key: &[u8]) -> Result<bool> {
        self.write(tree, key, &Write::Delete)
    }

    fn write(&mut self, tree: &RowTree, key: &[u8], write: &Write<'_>) -> Result<bool> {
        self.begin_call(tree)?;
        crate::db::batch::check_lengths(key, write.value())?;
        let result = self.write_row(tree, key, write);
        self.noted(result)
    }

    fn write_row(&mut self, tree: &RowTree, key: &[u8], write: &Write<'_>) -> Result<bool> {
        let txn = self.txn.write_id()?;
        let (snapshot, _held) = self.read_snapshot(true)?;
        if !matches!(write, Write::Put(_)) {
            // The answer tells whether the row is there. Before the row is looked at, or a writer in between is missed.
            self.txn.on_read_key(tree.id, key)?;
        }
        if let Write::Put(value) = *write
            && self.has_locked(tree, key, Mode::of(RowKind::Put))
        {
            let session = Session { stamp: self.stamp(txn), snapshot: &snapshot, status: &self.txn };
            self.rows().put_locked(
                &session,
                tree.id,
                key,
                NewVersion { kind: RowKind::Put, number: 0, payload: value },
            )?;
            self.txn.on_write(tree.id, key)?;
            self.txn.next_command()?;
            return Ok(true);
        }
        let asks_snapshot = matches!(write, Write::Insert(_)) && matches!(snapshot, Snapshot::At(_));
        if asks_snapshot && self.is_seen(tree, key, &snapshot)? {
            return Ok(false);
        }
        let done = loop {
            let session = Session { stamp: self.stamp(txn), snapshot: &snapshot, status: &self.txn };
            let conflict = write.attempt(self.rows(), &session, tree, key)?;
            match conflict {
                Conflict::None => break true,
                Conflict::BeingModified { by } => self.wait_for(by, key)?,
                Conflict::Invisible => break false,
                // What is committed by now has the row.
                Conflict::Updated { .. } if matches!(write, Write::Insert(_)) && !asks_snapshot => break false,
                Conflict::Updated { .. } | Conflict::Deleted { .. } => return Err(concurrent_update()),
                // Each write is a command of its own, so nothing later than the present one has written.
                Conflict::SelfModified { .. } => return Err(concurrent_update()),
            }
        };
        if done {
            self.txn.on_write(tree.id, key)?;
            self.txn.next_command()?;
        }
        Ok(done)
    }

    /// Whether the snapshot has the row. Its answer is a read: who is writing the row, or has written it since, is noted.
    fn is_seen(&self, tree: &RowTree, key: &[u8], snapshot: &Snapshot) -> Result<bool> {
        let mut row = Row::default();
        let seen = self.rows().fetch(tree.id, key, snapshot, &self.txn, &mut row)?;
        row.passed.iter().try_for_each(|&writer| self.txn.on_read_newer(writer))?;
        Ok(seen)
    }

    fn wait_for(&self, by: TxnId, key: &[u8]) -> Result<()> {
        let wait = |timeout| self.txn.wait_for(&[by], &Txn::row_text(key), timeout);
        self.patience.wait(&*self.core.lsm.env, wait)
    }

    /// Locks the row under `key` until the transaction ends (or rolls back to a savepoint from before); whether there is one.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn lock(&mut self, tree: &RowTree, key: &[u8], mode: Mode) -> Result<bool> {
        self.begin_call(tree)?;
        let result = self.lock_row(tree, key, mode, None);
        self.noted(result)
    }

    /// Locks the row under `key` as [`lock`](Self::lock) does, and returns its value, which stays as it is until the
    /// transaction ends or changes it. A row that was locked so is put without being looked at again.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use ssd_engine::{Durability, Engine, Isolation, Options, RowLockMode};
    /// # let engine = Engine::open(dir.path(), Options::default())?;
    /// # let accounts = engine.row_tree("accounts")?;
    /// # engine.transact(Isolation::ReadCommitted, Durability::Process, |txn| txn.put(&accounts, b"alice", &[7]))?;
    /// let mut txn = engine.begin(Isolation::ReadCommitted)?;
    /// if let Some(mut balance) = txn.get_locked(&accounts, b"alice", RowLockMode::NoKeyUpdate)? {
    ///     balance[0] += 1;
    ///     txn.put(&accounts, b"alice", &balance)?;
    /// }
    /// txn.commit(Durability::Process)?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn get_locked(&mut self, tree: &RowTree, key: &[u8], mode: Mode) -> Result<Option<Vec<u8>>> {
        self.begin_call(tree)?;
        let mut row = Row::default();
        let result = self.lock_row(tree, key, mode, Some(&mut row));
        if !self.noted(result)? {
            return Ok(None);
        }
        if mode == Mode::KeyShare {
            // Such a lock passes over an update in progress, and a read takes note of whom it passes over.
            return self.get(tree, key);
        }
        Ok(Some(row.version().payload.to_vec()))
    }

    fn lock_row(&mut self, tree: &RowTree, key: &[u8], mode: Mode, mut row: Option<&mut Row>) -> Result<bool> {
        let txn = self.txn.write_id()?;
        let (snapshot, _held) = self.read_snapshot(true)?;
        self.txn.on_read_key(tree.id, key)?;
        loop {
            let session = Session { stamp: self.stamp(txn), snapshot: &snapshot, status: &self.txn };
            match self.rows().lock(&session, tree.id, key, mode, row.as_deref_mut())? {
                Conflict::None => {
                    let hash = lock_hash(&full_key(tree.id, key));
                    self.row_locks.push(HeldLock { hash, owner: txn, mode });
                    return Ok(true);
                }
                // A key share passes over a row that somebody else is inserting.
                Conflict::Invisible => return self.is_seen(tree, key, &snapshot).map(|_| false),
                Conflict::BeingModified { by } => self.wait_for(by, key)?,
                Conflict::Updated { .. } | Conflict::Deleted { .. } | Conflict::SelfModified { .. } => {
                    return Err(concurrent_update());
                }
            }
        }
    }

    fn stamp(&self, txn: TxnId) -> Stamp {
        Stamp { txn, command: self.txn.record().command() }
    }

    /// Whether one of the latest locks is of this row and as strong as `mode`. Locks of a savepoint that was rolled back are
    /// not among them.
    fn has_locked(&self, tree: &RowTree, key: &[u8], mode: Mode) -> bool {
        if self.row_locks.is_empty() {
            return false;
        }
        let hash = lock_hash(&full_key(tree.id, key));
        self.row_locks.iter().rev().take(REMEMBERED_LOCKS).any(|lock| lock.hash == hash && lock.mode >= mode)
    }

    /// Locks the tree as a whole, in one of Postgres's table modes, until the transaction ends.
    ///
    /// # Errors
    /// Conflict: a deadlock, or a time-out. Usage, closed.
    pub fn lock_tree(&mut self, tree: &RowTree, mode: LockMode) -> Result<()> {
        self.begin_call(tree)?;
        let Self { core, txn, patience, .. } = self;
        let result = patience.wait(&*core.lsm.env, |timeout| txn.lock_table(LockObject(tree.id.0), mode, timeout));
        self.noted(result)
    }

    /// Marks a place to roll back to.
    ///
    /// # Errors
    /// Usage: the transaction has failed or ended.
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        if self.failed {
            return Err(failed());
        }
        self.txn.set_savepoint()
    }

    /// Forgets a savepoint; what was done since stays.
    ///
    /// # Errors
    /// Usage: there is no such savepoint; the transaction has failed or ended.
    pub fn release(&mut self, savepoint: Savepoint) -> Result<()> {
        if self.failed {
            return Err(failed());
        }
        self.txn.release_savepoint(savepoint)
    }

    /// Takes back everything since `savepoint`, which stays; a failed transaction goes on from there.
    ///
    /// # Errors
    /// Usage: there is no such savepoint; the transaction has ended.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.txn.rollback_to(savepoint)?;
        self.failed = false;
        let record = self.txn.record();
        self.row_locks.retain(|lock| record.is_own(lock.owner));
        Ok(())
    }

    /// Commits: everybody sees all of it from now on, or, after an error, nobody any of it. (After an I/O error of a durable
    /// commit, which of the two is known when the engine is opened again; it is shut for writing until then.)
    ///
    /// # Errors
    /// Conflict: it could not be serialized. Usage: it has failed. I/O, closed.
    pub fn commit(mut self, durability: Durability) -> Result<()> {
        if self.failed {
            self.txn.rollback();
            return Err(failed());
        }
        self.txn.commit(durability)
    }

    /// Prepares the transaction under `name`: it survives the death of the machine, and is ended later by
    /// [`Engine::commit_prepared`](crate::Engine::commit_prepared) or
    /// [`Engine::rollback_prepared`](crate::Engine::rollback_prepared), from whichever process has the engine open then.
    ///
    /// # Errors
    /// Usage: the name is in use, empty or too long. Conflict: it could not be serialized. I/O, closed.
    pub fn prepare(mut self, name: &[u8]) -> Result<()> {
        if self.failed {
            return Err(failed());
        }
        let row_locks = encode_locks(&self.row_locks);
        self.txn.prepare(name, &row_locks, &[])
    }

    /// Rolls back. Dropping does the same.
    pub fn abort(mut self) {
        self.txn.rollback();
    }

    /// The transaction as the manager knows it.
    #[must_use]
    pub const fn txn(&self) -> &Txn {
        &self.txn
    }
}

impl Write<'_> {
    fn value(&self) -> &[u8] {
        match self {
            Self::Put(value) | Self::Insert(value) => value,
            Self::Delete => &[],
        }
    }

    fn attempt(&self, rows: &RowStore, session: &Session<'_>, tree: &RowTree, key: &[u8]) -> Result<Conflict> {
        let kind = if matches!(self, Self::Delete) { RowKind::Tombstone } else { RowKind::Put };
        let new = NewVersion { kind, number: 0, payload: self.value() };
        match self {
            Self::Put(_) => rows.put(session, tree.id, key, new),
            // The snapshot has no row; none may have come and gone since either.
            Self::Insert(_) if matches!(session.snapshot, Snapshot::At(_)) => rows.put(session, tree.id, key, new),
            Self::Insert(_) => rows.insert(session, tree.id, key, new),
            Self::Delete => rows.change(session, tree.id, key, new),
        }
    }
}

fn failed() -> Error {
    Error::usage(
        "current transaction is aborted, commands are ignored until it is rolled back",
        "Roll back, as a whole or to a savepoint.",
    )
}

fn concurrent_update() -> Error {
    Error::conflict(ConflictKind::Serialization, "could not serialize access due to concurrent update")
}
