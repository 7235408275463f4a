//! The engine of this project: read committed with row locks, or serializable.

use std::path::Path;

use ssd_engine::{Class, Durability, Engine, Error, Isolation, RowLockMode, RowTree, Transaction};

use super::{Outcome, Stop, Txn, TxnStore};
use crate::Result;
use crate::store::{Settings, ours};

/// An open engine with one tree of rows.
pub struct Ours<const SERIALIZABLE: bool> {
    engine: Engine,
    rows: RowTree,
}

/// Its transaction.
pub struct OurTxn<'a, const SERIALIZABLE: bool> {
    rows: &'a RowTree,
    txn: Transaction,
    durability: Durability,
}

impl<const SERIALIZABLE: bool> TxnStore for Ours<SERIALIZABLE> {
    type Txn<'a> = OurTxn<'a, SERIALIZABLE>;

    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let engine = Engine::open(dir, ours::options(settings)?)?;
        let rows = engine.row_tree("rows")?;
        Ok(Self { engine, rows })
    }

    fn begin(&self, durable: bool) -> Result<Self::Txn<'_>> {
        let isolation = if SERIALIZABLE { Isolation::Serializable } else { Isolation::ReadCommitted };
        let durability = if durable { Durability::Machine } else { Durability::Process };
        Ok(OurTxn { rows: &self.rows, txn: self.engine.begin(isolation)?, durability })
    }
}

impl<const SERIALIZABLE: bool> Txn for OurTxn<'_, SERIALIZABLE> {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        self.txn.get(self.rows, key).map_err(stop)
    }

    fn get_for_update(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        if SERIALIZABLE {
            // It needs no lock: one of two that change the same row fails.
            return self.get(key);
        }
        self.txn.get_locked(self.rows, key, RowLockMode::NoKeyUpdate).map_err(stop)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.txn.put(self.rows, key, value).map_err(stop)
    }

    fn commit(self) -> Outcome<()> {
        self.txn.commit(self.durability).map_err(stop)
    }
}

fn stop(error: Error) -> Stop {
    if error.class() == Class::Conflict { Stop::Conflict } else { Stop::Failure(error.into()) }
}
