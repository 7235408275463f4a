//! fjall's optimistic transactions: serializable, a commit fails when what was read has changed.

use std::path::Path;

use fjall::{
    KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, OptimisticWriteTx, PersistMode, Readable,
};

use super::{Outcome, Stop, Txn, TxnStore};
use crate::Result;
use crate::store::{BACKGROUND_THREADS, Settings};

/// An open database with one keyspace.
pub struct Fjall {
    db: OptimisticTxDatabase,
    rows: OptimisticTxKeyspace,
}

/// Its transaction.
pub struct FjallTxn<'a> {
    rows: &'a OptimisticTxKeyspace,
    txn: OptimisticWriteTx,
}

impl TxnStore for Fjall {
    type Txn<'a> = FjallTxn<'a>;

    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let builder =
            OptimisticTxDatabase::builder(dir).cache_size(settings.cache_bytes).worker_threads(BACKGROUND_THREADS);
        let db = builder.open()?;
        let memtable_bytes = settings.memtable_bytes;
        let rows = db.keyspace("rows", || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes))?;
        Ok(Self { db, rows })
    }

    fn begin(&self, durable: bool) -> Result<Self::Txn<'_>> {
        let mode = if durable { PersistMode::SyncData } else { PersistMode::Buffer };
        Ok(FjallTxn { rows: &self.rows, txn: self.db.write_tx()?.durability(Some(mode)) })
    }
}

impl Txn for FjallTxn<'_> {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let value = self.txn.get(self.rows, key).map_err(failure)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn get_for_update(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        self.get(key)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.txn.insert(self.rows, key, value);
        Ok(())
    }

    fn commit(self) -> Outcome<()> {
        self.txn.commit().map_err(failure)?.map_err(|_| Stop::Conflict)
    }
}

fn failure(error: fjall::Error) -> Stop {
    Stop::Failure(error.into())
}
