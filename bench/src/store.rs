//! What the benchmark asks of a store, and the adapters of the stores it knows.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;

#[cfg(feature = "fjall")]
pub mod fjall;
pub mod ours;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;

/// The name of the engine that the others are compared with.
pub const OURS: &str = "ssd-engine";

/// Names of the stores in this build, ours first.
pub const STORES: &[&str] = &[
    OURS,
    #[cfg(feature = "rocksdb")]
    "rocksdb",
    #[cfg(feature = "fjall")]
    "fjall",
];

/// Memory and I/O settings that all stores get alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Block cache.
    pub cache_bytes: u64,
    /// One memtable; each store has [`MEMTABLES`] of them.
    pub memtable_bytes: u64,
    /// Bypass the page cache, where the store can.
    pub direct: bool,
}

/// Memtables of each store: the active one and those that wait for their flush.
pub const MEMTABLES: usize = 4;

/// Background threads of each store.
pub const BACKGROUND_THREADS: usize = 2;

/// An ordered store of bytes, used by many threads at once.
pub trait Store: Sized + Send + Sync {
    /// Opens the store in `dir`, creating it when missing.
    ///
    /// # Errors
    /// The store's own.
    fn open(dir: &Path, settings: &Settings) -> Result<Self>;

    /// Writes a row. `durable`: returns when it is on stable storage; otherwise it survives the process alone.
    ///
    /// # Errors
    /// The store's own.
    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> Result<()>;

    /// Shows the value of `key` to `see`, with as few copies as the store allows (`scratch` is there for one); whether
    /// there is such a row.
    ///
    /// # Errors
    /// The store's own.
    fn get(&self, key: &[u8], scratch: &mut Vec<u8>, see: impl FnOnce(&[u8])) -> Result<bool>;

    /// Shows up to `rows` rows from `start` on to `see`; returns their count.
    ///
    /// # Errors
    /// The store's own.
    fn scan(&self, start: &[u8], rows: usize, see: impl FnMut(&[u8], &[u8])) -> Result<usize>;

    /// Flushes the memtables and waits until no background work is left.
    ///
    /// # Errors
    /// The store's own.
    fn settle(&self) -> Result<()>;
}
