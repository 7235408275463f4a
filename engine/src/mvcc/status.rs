//! What the host knows of transactions.

use crate::base::ids::TxnId;
use crate::error::Result;
use crate::mvcc::snapshot::TxnSnapshot;

/// How far a transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxnState {
    /// It runs, or is prepared.
    InProgress,
    /// It has committed.
    Committed,
    /// It has rolled back, or its process died before it committed.
    Aborted,
}

/// Answers about transactions. The answers of one moment fit together: whoever was seen committed stays so, and nobody
/// leaves *in progress* before the effects of its end can be read.
pub trait TxnStatus {
    /// Whether `txn` is the asking transaction itself or one of its savepoints that was not rolled back.
    fn is_own(&self, txn: TxnId) -> bool;

    /// How far `txn` has come.
    ///
    /// # Errors
    /// I/O, corruption: what is written down of ended transactions could not be read.
    fn state(&self, txn: TxnId) -> Result<TxnState>;

    /// How `txn` has ended, which had ended when the reader's snapshot was taken: a host need not look who runs.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    fn end(&self, txn: TxnId) -> Result<TxnState> {
        self.state(txn)
    }

    /// Whether `txn` ran when `snapshot` was taken (or began later). Hosts whose snapshots leave out savepoints' ids map
    /// them to their transaction first.
    fn ran_at(&self, txn: TxnId, snapshot: &TxnSnapshot) -> bool {
        snapshot.ran(txn)
    }
}
