//! Scans of a transaction.

use std::ops::{Bound, RangeBounds};

use super::Transaction;
use crate::base::ids::TxnId;
use crate::db::transactions::RowTree;
use crate::error::Result;
use crate::lsm::merge::Direction;
use crate::mvcc::row_scan::{KeyRange, RowScan};
use crate::mvcc::txn::ActiveSnapshot;

/// Rows between two looks at the clock, where the statement's time is limited.
const ROWS_UNCHECKED: u64 = 64;

/// Rows of one tree, as pairs of key and value.
pub struct TransactionScan<'t> {
    txn: &'t mut Transaction,
    scan: RowScan,
    /// Writers that the last step passed over.
    passed: Vec<TxnId>,
    /// Rows that were returned.
    rows: u64,
    /// Keeps what the scan sees from being collected.
    _held: Option<ActiveSnapshot>,
}

impl TransactionScan<'_> {
    /// The next row, without a copy; `None` at the end.
    ///
    /// # Errors
    /// Conflict (serializable, or a statement that takes too long), I/O, corruption.
    pub fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let Self { txn, scan, passed, rows, .. } = self;
        if rows.is_multiple_of(ROWS_UNCHECKED) {
            let goes_on = txn.patience.check(&*txn.core.lsm.env);
            txn.noted(goes_on)?;
        }
        *rows += 1;
        let row = scan.next(&txn.txn, passed)?;
        let noted = passed.drain(..).try_for_each(|writer| txn.txn.on_read_newer(writer));
        txn.noted(noted)?;
        Ok(row.map(|row| (row.key, row.version.payload)))
    }
}

impl Iterator for TransactionScan<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).transpose()
    }
}

impl Transaction {
    /// The rows with keys in `range`, ascending: those of the moment of this call, or of the transaction's snapshot.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn scan<K: AsRef<[u8]>>(&mut self, tree: &RowTree, range: impl RangeBounds<K>) -> Result<TransactionScan<'_>> {
        self.scan_in(tree, &range, Direction::Forward)
    }

    /// As [`scan`](Self::scan), descending.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn scan_backward<K: AsRef<[u8]>>(
        &mut self,
        tree: &RowTree,
        range: impl RangeBounds<K>,
    ) -> Result<TransactionScan<'_>> {
        self.scan_in(tree, &range, Direction::Backward)
    }

    fn scan_in<K: AsRef<[u8]>>(
        &mut self,
        tree: &RowTree,
        range: &impl RangeBounds<K>,
        direction: Direction,
    ) -> Result<TransactionScan<'_>> {
        self.begin_call(tree)?;
        // The successor of a key is the key with a zero byte behind it.
        let after = |key: &K| [key.as_ref(), &[0]].concat();
        let from = match range.start_bound() {
            Bound::Included(key) => Some(key.as_ref().to_vec()),
            Bound::Excluded(key) => Some(after(key)),
            Bound::Unbounded => None,
        };
        let to = match range.end_bound() {
            Bound::Included(key) => Some(after(key)),
            Bound::Excluded(key) => Some(key.as_ref().to_vec()),
            Bound::Unbounded => None,
        };
        let (snapshot, held) = self.read_snapshot(false)?;
        let read = self.txn.on_read_range(tree.id, from.as_deref().unwrap_or_default(), to.as_deref());
        self.noted(read)?;
        let range = KeyRange { from: from.as_deref(), to: to.as_deref() };
        let scan = self.rows().scan(tree.id, range, direction, snapshot)?;
        Ok(TransactionScan { txn: self, scan, passed: Vec::new(), rows: 0, _held: held })
    }
}
