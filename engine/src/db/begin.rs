//! Transactions of an engine: begin, run with retries, end prepared ones, vacuum.

use std::sync::Arc;
use std::time::Duration;

use crate::db::engine::Engine;
use crate::db::transaction::{Transaction, TransactionOptions};
use crate::db::transactions::{RowTree, is_system_name, reserved_name};
use crate::error::{Class, Error, Result};
use crate::lsm::row_host::TreeKind;
use crate::mvcc::txn::{Isolation, PreparedTxn};
use crate::options::Durability;

/// Times that [`Engine::transact`] tries before it gives up.
const TRIES_MAX: u32 = 100;
/// Pause before the second try; it doubles up to [`PAUSE_MAX`], and each time a random part of it is waited.
const PAUSE_MIN: Duration = Duration::from_micros(100);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_millis(20);

impl Engine {
    /// The tree of rows called `name`, created when it does not exist. Rows are read and written by transactions only.
    ///
    /// # Errors
    /// Usage: a tree of this name holds plain values, the name is reserved or too long, or this process has only attached
    /// to the engine. I/O, corruption, closed.
    pub fn row_tree(&self, name: impl AsRef<[u8]>) -> Result<RowTree> {
        let name = name.as_ref();
        if is_system_name(name) {
            return Err(reserved_name(name));
        }
        self.core.transactions()?;
        let id = self.lsm().open_tree(name, TreeKind::Rows)?;
        Ok(RowTree { id, core: Arc::clone(&self.core) })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As [`row_tree`](Self::row_tree).
    pub fn begin(&self, isolation: Isolation) -> Result<Transaction> {
        self.begin_with(TransactionOptions { isolation, ..TransactionOptions::default() })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As [`row_tree`](Self::row_tree).
    pub fn begin_with(&self, options: TransactionOptions) -> Result<Transaction> {
        self.lsm().check_not_closed()?;
        Transaction::begin(&self.core, options)
    }

    /// Runs `work` in a transaction and commits it; after a conflict again, from the start, until it goes through.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use ssd_engine::{Durability, Engine, Isolation, Options};
    /// # let engine = Engine::open(dir.path(), Options::default())?;
    /// let counters = engine.row_tree("counters")?;
    /// let visits = engine.transact(Isolation::Serializable, Durability::Process, |txn| {
    ///     let old = txn.get(&counters, b"visits")?.map_or(0, |v| u64::from_le_bytes(v.try_into().unwrap()));
    ///     txn.put(&counters, b"visits", &(old + 1).to_le_bytes())?;
    ///     Ok(old + 1)
    /// })?;
    /// assert_eq!(visits, 1);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `work` or the commit returned, other than a conflict; the conflict, when a hundred tries ended in one.
    pub fn transact<R>(
        &self,
        isolation: Isolation,
        durability: Durability,
        mut work: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        let mut pause = PAUSE_MIN;
        let mut tries = 1;
        loop {
            let mut txn = self.begin(isolation)?;
            let outcome = match work(&mut txn) {
                Ok(value) => txn.commit(durability).map(|()| value),
                Err(error) => {
                    txn.abort();
                    Err(error)
                }
            };
            match outcome {
                Err(error) if error.class() == Class::Conflict && tries < TRIES_MAX => {
                    let env = &self.lsm().env;
                    let part = env.random() % (pause.as_micros() as u64 + 1);
                    env.sleep(Duration::from_micros(part));
                    pause = (pause * 2).min(PAUSE_MAX);
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// How many transactions wait for others at this moment: for rows or for locks of trees.
    ///
    /// # Errors
    /// As [`row_tree`](Self::row_tree).
    pub fn waiting_transactions(&self) -> Result<usize> {
        Ok(self.core.transactions()?.manager.waiting())
    }

    /// The prepared transactions, by name.
    ///
    /// # Errors
    /// As [`row_tree`](Self::row_tree).
    pub fn prepared(&self) -> Result<Vec<PreparedTxn>> {
        Ok(self.core.transactions()?.manager.prepared())
    }

    /// Commits a prepared transaction.
    ///
    /// # Errors
    /// Usage: there is none of this name. Conflict: somebody else is ending it. I/O, closed.
    pub fn commit_prepared(&self, name: &[u8], durability: Durability) -> Result<()> {
        self.core.transactions()?.manager.commit_prepared(name, durability)
    }

    /// Rolls a prepared transaction back.
    ///
    /// # Errors
    /// As [`commit_prepared`](Self::commit_prepared).
    pub fn rollback_prepared(&self, name: &[u8], durability: Durability) -> Result<()> {
        self.core.transactions()?.manager.rollback_prepared(name, durability)
    }

    /// Frees what nobody can read any more: old versions of rows, rolled-back ones, and the records of commits that no row
    /// names. Background work does the same as it goes along; this does all of it now, and is long on large engines.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn vacuum(&self) -> Result<()> {
        let Some(transactions) = self.core.open_transactions() else { return self.compact() };
        // Marks the present; what the compaction leaves behind then tells which records nobody can ask for.
        transactions.manager.trim_status()?;
        self.compact()?;
        transactions.manager.trim_status().map(drop)
    }
}

/// The error of a process that cannot have transactions.
pub(crate) fn only_attached() -> Error {
    Error::usage("transactions are managed by the process that opened the engine", "Begin them in that process.")
}
