//! What flushes and compactions ask about trees of rows: which versions may go is decided by transactions, and those are
//! known above this layer.

use crate::base::ids::TxnId;
use crate::error::{Error, Result};

/// What a tree's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TreeKind {
    /// Bytes; of a key's versions the newest counts.
    Values,
    /// Versions of rows ([`row_version`](crate::format::row_version)), judged by their writers.
    Rows,
    /// Row locks that memory had no room for; each ends with the transaction whose id ends its key.
    Locks,
}

impl TreeKind {
    /// The kind as the manifest keeps it.
    #[must_use]
    pub fn to_options(self) -> Vec<u8> {
        match self {
            Self::Values => Vec::new(),
            Self::Rows => vec![1],
            Self::Locks => vec![2],
        }
    }

    /// Reads the kind from what the manifest keeps.
    ///
    /// # Errors
    /// Usage for a kind that this version of the engine does not know.
    pub fn from_options(options: &[u8]) -> Result<Self> {
        match options {
            [] => Ok(Self::Values),
            [1] => Ok(Self::Rows),
            [2] => Ok(Self::Locks),
            _ => Err(Error::usage(
                "tree has options that this version of the engine does not know",
                "Open it with the version of the engine that created it, or a newer one.",
            )),
        }
    }
}

/// What becomes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueVerdict {
    /// It stays; with its writer, as long as that matters.
    Keep(Option<TxnId>),
    /// It stays in another, frozen form, which was appended to the caller's buffer.
    Freeze,
    /// Nobody can read it.
    Drop,
}

/// Judges the versions of rows for one job, in the order of internal keys.
pub trait ValueRule {
    /// The next version belongs to another row.
    fn next_row(&mut self);

    /// Judges the next older version of the row. `bottommost`: nothing below may have data for its key.
    ///
    /// # Errors
    /// Corruption-like messages for bytes that are no version (the caller knows the file), I/O of the host.
    fn judge(&mut self, value: &[u8], bottommost: bool, out: &mut Vec<u8>) -> Result<ValueVerdict>;

    /// Whether a transaction runs, or is prepared.
    ///
    /// # Errors
    /// I/O of the host.
    fn is_running(&mut self, txn: TxnId) -> Result<bool>;
}

/// Knows the transactions.
pub trait RowHost: Send + Sync {
    /// A rule for a job that begins now.
    ///
    /// # Errors
    /// I/O of the host.
    fn rule(&self) -> Result<Box<dyn ValueRule + '_>>;

    /// Does a piece of the host's own background work; whether there was any. Called when the engine has nothing to do.
    ///
    /// # Errors
    /// I/O: it may be tried again.
    fn run_next_job(&self) -> Result<bool> {
        Ok(false)
    }

    /// Makes every end of a transaction that a rule may have heard of survive the death of the machine. A job calls it after
    /// its last question and before its outputs count: what is dropped or frozen cannot be had back, so a commit or rollback
    /// that it was for must not be forgotten.
    ///
    /// # Errors
    /// I/O of the host.
    fn make_ends_stable(&self) -> Result<()>;
}
