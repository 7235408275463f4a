//! Counters of an engine, shared by its processes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mem::process::thread_hint;
use crate::shared_struct;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All counters, in the order they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The counter's name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// Batches written.
    BatchesWritten => "batches_written",
    /// Bytes of batches written.
    BytesWritten => "bytes_written",
    /// Microseconds that writers were slowed by.
    StallMicros => "stall_us",
    /// Times a writer waited for a free memtable.
    MemtableWaits => "memtable_waits",
    /// Memtables flushed.
    Flushes => "flushes",
    /// Bytes of SSTs written by flushes.
    FlushBytes => "flush_bytes",
    /// Merging compactions run.
    Compactions => "compactions",
    /// Pieces of merges that were cut up.
    CompactionPieces => "compaction_pieces",
    /// Bytes of SSTs read by compactions.
    CompactionReadBytes => "compaction_read_bytes",
    /// Bytes of SSTs written by compactions.
    CompactionWriteBytes => "compaction_write_bytes",
    /// Files moved to the next level without rewriting.
    FilesMoved => "files_moved",
    /// Files dropped without reading.
    FilesDropped => "files_dropped",
    /// Files removed from the directory.
    FilesRemoved => "files_removed",
    /// Bytes appended to manifests.
    ManifestBytes => "manifest_bytes",
    /// Log records applied at the last recovery.
    RecordsReplayed => "records_replayed",
    /// Background jobs that failed.
    JobErrors => "job_errors",
}

/// Counters are spread over this many lines so that threads do not share one.
const SHARDS: usize = 8;
const COUNTERS: usize = 16;

const _: () = assert!(Counter::ALL.len() <= COUNTERS);

shared_struct! {
    /// The counters.
    pub struct Stats {
        shards: [[AtomicU64; COUNTERS]; SHARDS],
    }
}

impl Stats {
    /// Adds `by` to `counter`.
    #[inline]
    pub fn add(&self, counter: Counter, by: u64) {
        self.shards[thread_hint() as usize % SHARDS][counter as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// The counter's value.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.shards.iter().map(|shard| shard[counter as usize].load(Ordering::Relaxed)).sum()
    }
}
