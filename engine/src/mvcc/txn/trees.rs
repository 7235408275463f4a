//! The two trees in which the transaction manager keeps what must outlive it. The bytes: `format::txn_record`.
//!
//! Every change is one batch, so it is there as a whole or not at all.

use std::sync::Arc;

use crate::base::ids::{Lsn, TreeId, TxnId};
use crate::base::key::{Kind, full_key, prefix_successor};
use crate::error::{Error, Result};
use crate::format::batch::{Op, push_op};
use crate::format::txn_record::{COMMITTED, NEXT_ID_KEY, PreparedRecord, decode_next_id, encode_next_id, status_key};
use crate::lsm::Lsm;
use crate::lsm::merge::Direction;
use crate::lsm::scan::Scan;
use crate::options::Durability;

/// Where the transaction manager keeps its records: two trees of values that are nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemTrees {
    /// Which ids have committed.
    pub status: TreeId,
    /// Transactions that wait for their second phase.
    pub prepared: TreeId,
}

/// Reads and writes the two trees.
pub(super) struct Store {
    lsm: Arc<Lsm>,
    trees: SystemTrees,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    count: u64,
}

impl Batch {
    fn push(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        push_op(&mut self.bytes, Op { kind, key, value });
        self.count += 1;
    }
}

impl Store {
    pub(super) const fn new(lsm: Arc<Lsm>, trees: SystemTrees) -> Self {
        Self { lsm, trees }
    }

    pub(super) const fn lsm(&self) -> &Arc<Lsm> {
        &self.lsm
    }

    fn status(&self, id: TxnId) -> Vec<u8> {
        full_key(self.trees.status, &status_key(id))
    }

    fn prepared(&self, name: &[u8]) -> Vec<u8> {
        full_key(self.trees.prepared, name)
    }

    fn has(&self, key: &[u8]) -> Result<bool> {
        self.lsm.get(key, None, &mut Vec::new())
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<()> {
        self.lsm.write(&batch.bytes, batch.count, durability)
    }

    fn corrupt(&self, what: String) -> Error {
        Error::corruption(&self.lsm.dir, 0, what)
    }

    /// Where the log ends now.
    pub(super) fn log_position(&self) -> Lsn {
        self.lsm.log().position()
    }

    /// The number from which on no id was ever handed out.
    pub(super) fn next_id(&self) -> Result<TxnId> {
        let mut value = Vec::new();
        if !self.lsm.get(&full_key(self.trees.status, NEXT_ID_KEY), None, &mut value)? {
            return Ok(TxnId(1));
        }
        decode_next_id(&value)
            .map_err(|why| self.corrupt(format!("{} (status of transactions): {why}", self.trees.status)))
    }

    /// Makes it stable that ids below `next` may be in use.
    pub(super) fn write_next_id(&self, next: TxnId) -> Result<()> {
        let mut batch = Batch::default();
        batch.push(Kind::Put, &full_key(self.trees.status, NEXT_ID_KEY), &encode_next_id(next));
        self.write(&batch, Durability::Machine)
    }

    /// Whether `id` has a commit record.
    pub(super) fn is_committed(&self, id: TxnId) -> Result<bool> {
        self.has(&self.status(id))
    }

    /// Writes the commit records of `ids`; the prepared transaction `name`, when there is one, is gone with that.
    pub(super) fn commit(&self, ids: &[TxnId], name: Option<&[u8]>, durability: Durability) -> Result<()> {
        let mut batch = Batch::default();
        for &id in ids {
            batch.push(Kind::Put, &self.status(id), COMMITTED);
        }
        if let Some(name) = name {
            batch.push(Kind::Delete, &self.prepared(name), &[]);
        }
        self.write(&batch, durability)
    }

    /// Forgets the commit records of all ids below `bound`.
    pub(super) fn forget_below(&self, bound: TxnId) -> Result<()> {
        let mut batch = Batch::default();
        batch.push(Kind::RangeDelete, &self.status(TxnId(0)), &self.status(bound));
        self.write(&batch, Durability::Process)
    }

    /// Whether there is a prepared transaction of this name.
    pub(super) fn is_prepared(&self, name: &[u8]) -> Result<bool> {
        self.has(&self.prepared(name))
    }

    /// Makes a prepared transaction stable.
    pub(super) fn prepare(&self, name: &[u8], record: &PreparedRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.push(Kind::Put, &self.prepared(name), &record.encode());
        self.write(&batch, Durability::Machine)
    }

    /// Forgets a prepared transaction, which was rolled back.
    pub(super) fn forget_prepared(&self, name: &[u8], durability: Durability) -> Result<()> {
        let mut batch = Batch::default();
        batch.push(Kind::Delete, &self.prepared(name), &[]);
        self.write(&batch, durability)
    }

    /// All prepared transactions, by name.
    pub(super) fn all_prepared(&self) -> Result<Vec<(Vec<u8>, PreparedRecord)>> {
        let from = self.prepared(&[]);
        let (skip, to) = (from.len(), prefix_successor(&from));
        let mut scan = Scan::new(Arc::clone(&self.lsm), from, to, Direction::Forward, None)?;
        let mut found = Vec::new();
        while let Some((key, value)) = scan.next_row()? {
            let name = key[skip..].to_vec();
            let record = PreparedRecord::decode(value)
                .map_err(|why| self.corrupt(format!("{}, \"{}\": {why}", self.trees.prepared, name.escape_ascii())))?;
            found.push((name, record));
        }
        Ok(found)
    }
}
