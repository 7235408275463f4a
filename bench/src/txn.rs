//! What the benchmark asks of a store with transactions, and the adapters of the stores it knows.

use std::path::Path;

use crate::Result;
use crate::store::{OURS, Settings};

pub mod drive;
#[cfg(feature = "fjall")]
pub mod fjall;
pub mod ours;
pub mod plan;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;

/// The engine with serializable transactions, beside itself with read committed ones.
pub const OURS_SERIALIZABLE: &str = "ssd-engine-serializable";

/// Names of the stores in this build, ours first.
pub const STORES: &[&str] = &[
    OURS,
    #[cfg(feature = "rocksdb")]
    "rocksdb",
    #[cfg(feature = "fjall")]
    "fjall",
    OURS_SERIALIZABLE,
];

/// Why a transaction did not go on.
pub enum Stop {
    /// It met another one; it may go through when it is run again.
    Conflict,
    /// Anything else.
    Failure(Box<dyn std::error::Error + Send + Sync>),
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Stop {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::Failure(error)
    }
}

/// Result of what may stop a transaction.
pub type Outcome<T> = std::result::Result<T, Stop>;

/// An ordered store of bytes with transactions, used by many threads at once.
pub trait TxnStore: Sized + Send + Sync {
    /// A transaction.
    type Txn<'a>: Txn
    where
        Self: 'a;

    /// Opens the store in `dir`, creating it when missing.
    ///
    /// # Errors
    /// The store's own.
    fn open(dir: &Path, settings: &Settings) -> Result<Self>;

    /// Begins a transaction. `durable`: its commit returns when it is on stable storage; otherwise it survives the
    /// process alone.
    ///
    /// # Errors
    /// The store's own.
    fn begin(&self, durable: bool) -> Result<Self::Txn<'_>>;
}

/// A transaction; dropped without a commit, it rolls back.
pub trait Txn {
    /// The value of `key`.
    ///
    /// # Errors
    /// See [`Stop`].
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>>;

    /// The newest value of `key`, which nobody else changes until this transaction has ended: by a lock, or by the
    /// failure of one of the two.
    ///
    /// # Errors
    /// See [`Stop`].
    fn get_for_update(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>>;

    /// Writes a row.
    ///
    /// # Errors
    /// See [`Stop`].
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()>;

    /// Ends the transaction for good.
    ///
    /// # Errors
    /// See [`Stop`]; it has rolled back then.
    fn commit(self) -> Outcome<()>;
}
