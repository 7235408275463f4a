//! SSD-first LSM storage engine whose state lives in one region that threads and processes can share.

pub mod base;
pub mod cache;
pub mod db;
pub mod env;
pub mod error;
pub mod format;
#[doc(hidden)]
pub mod fuzz;
pub mod lsm;
pub mod manifest;
pub mod mem;
pub mod mvcc;
pub mod options;
pub mod sst;
pub mod wal;

pub use base::ids::TreeId;
pub use db::batch::WriteBatch;
pub use db::engine::Engine;
pub use db::repair::{RepairReport, plan_repair, repair};
pub use db::scan::TreeScan;
pub use db::snapshot::Snapshot;
pub use db::transaction::{Transaction, TransactionOptions, TransactionScan};
pub use db::transactions::RowTree;
pub use db::tree::Tree;
pub use db::verify::{Problem, VerifyEvent, VerifyReport, verify};
pub use error::{Class, ConflictKind, Error, Result};
pub use mvcc::row_locks::Mode as RowLockMode;
pub use mvcc::txn::{Isolation, LockMode, PreparedTxn, Savepoint};
pub use options::{Durability, Options, WriteOptions};
