//! RocksDB's TransactionDB: pessimistic locks, the settings of the side-by-side benchmark.

use std::path::Path;

use ::rocksdb::{ErrorKind, Transaction, TransactionDB, TransactionDBOptions, TransactionOptions, WriteOptions};

use super::{Outcome, Stop, Txn, TxnStore};
use crate::Result;
use crate::store::{Settings, rocksdb};

/// An open TransactionDB.
pub struct RocksDb {
    db: TransactionDB,
}

impl TxnStore for RocksDb {
    type Txn<'a> = Transaction<'a, TransactionDB>;

    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let db = TransactionDB::open(&rocksdb::options(settings)?, &TransactionDBOptions::default(), dir)?;
        Ok(Self { db })
    }

    fn begin(&self, durable: bool) -> Result<Self::Txn<'_>> {
        let mut write = WriteOptions::default();
        write.set_sync(durable);
        Ok(self.db.transaction_opt(&write, &TransactionOptions::default()))
    }
}

impl Txn for Transaction<'_, TransactionDB> {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Transaction::get(self, key).map_err(stop)
    }

    fn get_for_update(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Transaction::get_for_update(self, key, true).map_err(stop)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        Transaction::put(self, key, value).map_err(stop)
    }

    fn commit(self) -> Outcome<()> {
        Transaction::commit(self).map_err(stop)
    }
}

fn stop(error: ::rocksdb::Error) -> Stop {
    match error.kind() {
        ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::TryAgain | ErrorKind::Aborted => Stop::Conflict,
        _ => Stop::Failure(error.into()),
    }
}
