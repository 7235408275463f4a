//! Commit in two phases: a transaction is prepared under a name, and committed or rolled back by that name later, also after
//! the engine was opened again.
//!
//! ```text
//!              prepare                       commit_prepared
//!   (active) ───────────► BUSY ─► PREPARED ──────► BUSY ─► gone, committed
//!                          │         ▲ │ rollback_prepared
//!              not written │    open │ └─────────► BUSY ─► gone, aborted
//!                          ▼         │                │ not written
//!                     rolled back   crash            (back to PREPARED)
//! ```
//! 1. A name that is busy or prepared cannot be given again.
//! 2. A prepared transaction has an entry in the prepared tree; its ids run, and it holds its table locks. Its row locks are
//!    bytes of whoever keeps row locks.
//! 3. The entry goes in the batch that commits, so there is no moment with both or neither.

use std::collections::BTreeMap;

use crate::base::ids::TxnId;
use crate::error::{ConflictKind, Error, Result};
use crate::format::txn_record::PreparedRecord;
use crate::mvcc::status::TxnState;
use crate::mvcc::txn::TxnManager;
use crate::mvcc::txn::lock_mode::Modes;
use crate::mvcc::txn::lock_queue::LockObject;
use crate::mvcc::txn::record::{Isolation, Phase};
use crate::mvcc::txn::running::LocalTxn;
use crate::mvcc::txn::transaction::Txn;
use crate::options::Durability;

/// Longest name of a prepared transaction: Postgres's.
pub const NAME_LEN_MAX: usize = 200;

/// Prepared transactions by name; `None` while one is busy.
#[derive(Debug, Default)]
pub(super) struct Prepared(BTreeMap<Vec<u8>, Option<Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    local: LocalTxn,
    record: PreparedRecord,
}

/// A prepared transaction, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTxn {
    /// The name it was given.
    pub name: Vec<u8>,
    /// Its id.
    pub id: TxnId,
    /// The ids of its savepoints, ascending.
    pub parts: Vec<TxnId>,
    /// Its row locks, as they were given.
    pub row_locks: Vec<u8>,
    /// What the host wanted to be kept.
    pub payload: Vec<u8>,
}

fn in_use(name: &[u8]) -> Error {
    Error::usage(
        format!("transaction identifier \"{}\" is already in use", name.escape_ascii()),
        "Commit or roll back the prepared transaction of this name first, or use another name.",
    )
}

fn unknown(name: &[u8]) -> Error {
    Error::usage(
        format!("prepared transaction with identifier \"{}\" does not exist", name.escape_ascii()),
        "List the prepared transactions; this one may have ended already.",
    )
}

fn is_busy(name: &[u8]) -> Error {
    let what = format!("prepared transaction with identifier \"{}\" is busy", name.escape_ascii());
    Error::conflict(ConflictKind::InUse, what)
}

impl TxnManager {
    /// Brings back what was prepared when the engine was open last.
    pub(super) fn restore_prepared(&self) -> Result<()> {
        for (name, record) in self.store.all_prepared()? {
            // It names a transaction, but reads no more.
            let local = self.running.start();
            self.running.stop(local);
            let ids = ids_of(&record);
            self.running.resume(&ids);
            let mut lobby = self.lobby.lock();
            ids.iter().for_each(|&id| lobby.own(local, id));
            for &(object, modes) in &record.locks {
                lobby.waits().locks().restore(local, LockObject(object), Modes(modes));
            }
            drop(lobby);
            if record.serializable {
                self.ssi.lock().restore(local, &ids, &record.reads, record.wrote);
            }
            self.prepared.lock().0.insert(name, Some(Entry { local, record }));
        }
        Ok(())
    }

    /// The prepared transactions, by name.
    #[must_use]
    pub fn prepared(&self) -> Vec<PreparedTxn> {
        let prepared = self.prepared.lock();
        let entries = prepared.0.iter().filter_map(|(name, entry)| Some((name, &entry.as_ref()?.record)));
        entries
            .map(|(name, record)| PreparedTxn {
                name: name.clone(),
                id: record.id,
                parts: record.parts.clone(),
                row_locks: record.row_locks.clone(),
                payload: record.payload.clone(),
            })
            .collect()
    }

    fn take_prepared(&self, name: &[u8]) -> Result<Entry> {
        let mut prepared = self.prepared.lock();
        let entry = prepared.0.get_mut(name).ok_or_else(|| unknown(name))?;
        entry.take().ok_or_else(|| is_busy(name))
    }

    /// Commits a prepared transaction.
    ///
    /// # Errors
    /// Usage: there is none of this name. Conflict: somebody else is about to end it. I/O, closed: it stays prepared, or
    /// its outcome is unknown until the engine is opened again.
    pub fn commit_prepared(&self, name: &[u8], durability: Durability) -> Result<()> {
        self.end_prepared(name, TxnState::Committed, |record| {
            self.store.commit(&ids_of(record), Some(name), durability)
        })
    }

    /// Rolls a prepared transaction back.
    ///
    /// # Errors
    /// As [`commit_prepared`](Self::commit_prepared).
    pub fn rollback_prepared(&self, name: &[u8], durability: Durability) -> Result<()> {
        self.end_prepared(name, TxnState::Aborted, |_| self.store.forget_prepared(name, durability))
    }

    fn end_prepared(
        &self,
        name: &[u8],
        end: TxnState,
        write: impl FnOnce(&PreparedRecord) -> Result<()>,
    ) -> Result<()> {
        let entry = self.take_prepared(name)?;
        if let Err(error) = write(&entry.record) {
            if self.store.is_prepared(name).unwrap_or(false) {
                self.prepared.lock().0.insert(name.to_vec(), Some(entry));
            } else {
                // Written, and perhaps not stable: nobody may act on it.
                self.close();
            }
            return Err(error);
        }
        let record = &entry.record;
        self.finish(entry.local, &ids_of(record), &record.locks, end, record.serializable);
        self.prepared.lock().0.remove(name);
        Ok(())
    }
}

fn ids_of(record: &PreparedRecord) -> Vec<TxnId> {
    std::iter::once(record.id).chain(record.parts.iter().copied()).collect()
}

impl Txn {
    /// Prepares the transaction under `name`, stable when the call returns; this record of it has ended then. `row_locks`:
    /// what whoever keeps its row locks needs to have them again; `payload` is the host's.
    ///
    /// # Errors
    /// Usage: the name is in use, empty or too long (the transaction stays active); it has ended. Conflict: it could not be
    /// serialized, and has rolled back. I/O, closed: it has rolled back, or is in doubt.
    pub fn prepare(&mut self, name: &[u8], row_locks: &[u8], payload: &[u8]) -> Result<()> {
        self.record.check_active()?;
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Err(Error::usage(
                format!("transaction identifier has {} bytes", name.len()),
                format!("An identifier has 1 to {NAME_LEN_MAX} bytes."),
            ));
        }
        if self.record.id().is_none() {
            self.take_id()?;
        }
        {
            let mut prepared = self.manager.prepared.lock();
            if prepared.0.contains_key(name) {
                return Err(in_use(name));
            }
            prepared.0.insert(name.to_vec(), None);
        }
        let result = self.prepare_busy(name, row_locks, payload);
        let mut prepared = self.manager.prepared.lock();
        match result {
            Ok(entry) => {
                prepared.0.insert(name.to_vec(), Some(entry));
                Ok(())
            }
            Err(error) => {
                prepared.0.remove(name);
                Err(error)
            }
        }
    }

    fn prepare_busy(&mut self, name: &[u8], row_locks: &[u8], payload: &[u8]) -> Result<Entry> {
        let serializable = self.record.isolation() == Isolation::Serializable;
        if serializable {
            let judged = self.manager.ssi.lock().before_commit(self.local);
            if let Err(error) = judged {
                self.end(Phase::Aborted);
                return Err(error);
            }
        }
        let mut locks: BTreeMap<u64, u8> = BTreeMap::new();
        for &(object, bit) in self.record.locks() {
            *locks.entry(object).or_default() |= bit;
        }
        let ids = self.record.ids();
        let record = PreparedRecord {
            serializable,
            wrote: !self.record.is_read_only(),
            id: ids[0],
            parts: ids[1..].to_vec(),
            locks: locks.into_iter().collect(),
            reads: if serializable { self.manager.ssi.lock().trees_read(self.local) } else { Vec::new() },
            row_locks: row_locks.to_vec(),
            payload: payload.to_vec(),
        };
        if let Err(error) = self.manager.store.prepare(name, &record) {
            let written = self.manager.store.is_prepared(name).unwrap_or(true);
            self.end(if written { Phase::InDoubt } else { Phase::Aborted });
            return Err(error);
        }
        self.end(Phase::Prepared);
        Ok(Entry { local: self.local, record })
    }
}
