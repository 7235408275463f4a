//! What one child process is told to do, and what it reports: plain data, passed as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::KEY_LEN;
use crate::store::Settings;

/// Which of the existing rows an operation picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// Each with the same chance.
    Uniform,
    /// Scrambled Zipfian with exponent 0.99.
    Zipf,
}

/// The workloads of YCSB's core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ycsb {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads alone.
    C,
    /// 95 % reads of the latest rows, 5 % inserts.
    D,
    /// 95 % scans of 1 to 100 rows, 5 % inserts.
    E,
    /// Half reads, half reads followed by an update of the same row.
    F,
}

/// What a child does with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Write all rows in key order, then settle.
    FillSeq,
    /// Write all rows in random order, then settle.
    FillRandom,
    /// Overwrite as many rows as there are, picked uniformly, then settle; the settling counts.
    Overwrite,
    /// Read rows.
    Read(Pick),
    /// Seek to a row and read fifty.
    Scan(Pick),
    /// Read rows while one more thread overwrites [`WRITER_RATE`] rows per second.
    ReadWhileWriting(Pick),
    /// Write new rows, each durable before the next.
    Durable,
    /// One of YCSB's mixes.
    Ycsb(Ycsb),
    /// Transactions.
    Txn(TxnStep),
}

/// What a child does with a store that has transactions. Every row has a balance, whose sum no step changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxnStep {
    /// Write all rows in key order, a thousand in each transaction.
    Load,
    /// Move money between two accounts: read both for update, write both.
    Bank {
        /// Which accounts.
        pick: Pick,
        /// Each commit is durable.
        durable: bool,
    },
    /// Four operations on different rows, each a read or a read and an update.
    Mix {
        /// Which rows.
        pick: Pick,
        /// How many of a hundred operations write.
        write_percent: u64,
        /// Each commit is durable.
        durable: bool,
    },
}

/// Rows of each scan of [`Step::Scan`].
pub const SCAN_ROWS: usize = 50;

/// Overwrites per second beside the readers of [`Step::ReadWhileWriting`]: the same load for every store, so that the
/// readers are what is compared.
pub const WRITER_RATE: u64 = 20_000;

/// One run: a step on a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The store's name.
    pub store: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What to do.
    pub step: Step,
    /// Rows that the data set has when full; the ids from 0 on.
    pub rows: u64,
    /// Bytes of each value.
    pub value_len: usize,
    /// Threads that do it.
    pub threads: usize,
    /// How long steps without a count of their own go on.
    pub seconds: f64,
    /// Read through everything first, so that what fits the cache is in it. Otherwise the files leave the page cache.
    pub warm: bool,
    /// Memory and I/O of the store.
    pub settings: Settings,
    /// A memory cgroup to enter.
    pub cgroup: Option<PathBuf>,
    /// Chooses ids and values; the same for all stores.
    pub seed: u64,
}

impl Spec {
    /// Bytes of one row.
    #[must_use]
    pub const fn row_len(&self) -> u64 {
        (KEY_LEN + self.value_len) as u64
    }
}

/// What one run measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Operations.
    pub ops: u64,
    /// Transactions that had to be run again; not among `ops`.
    #[serde(default)]
    pub conflicts: u64,
    /// Time they took; with settling where the step counts it.
    pub seconds: f64,
    /// Time that settling took.
    pub settle_seconds: f64,
    /// Latency of an operation, microseconds.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p95_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
    /// See `p50_us`.
    pub p999_us: f64,
    /// See `p50_us`.
    pub max_us: f64,
    /// Processor time of all threads, background work included.
    pub cpu_seconds: f64,
    /// Bytes of keys and values written.
    pub user_bytes: u64,
    /// Bytes read from the device.
    pub device_read: u64,
    /// Bytes written to the device, or to the page cache on their way there.
    pub device_written: u64,
    /// Part of `device_written` that never got there, because the file was gone before the kernel wrote it out.
    pub device_cancelled: u64,
    /// Bytes that the store's files take on disk at the end.
    pub space_bytes: u64,
    /// Bytes of the live rows.
    pub live_bytes: u64,
    /// Bytes written to the host's log; `None` for stores that have one of their own.
    #[serde(default)]
    pub wal_bytes: Option<u64>,
    /// Most resident memory of the process.
    pub rss_max_bytes: u64,
}

impl Measured {
    /// Operations per second.
    #[must_use]
    pub fn ops_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.ops as f64 / self.seconds } else { 0.0 }
    }
}
