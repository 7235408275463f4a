//! Options of an engine, validated once at open.
//!
//! Every default works on a laptop and on a server; each field says what it trades. Sizes are in bytes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, MEMTABLES_MAX};
use crate::cache::Policy as CachePolicy;
use crate::env::Env;
use crate::error::{Error, Result};

/// How the engine is set up. `Options::default()` needs no change to work.
///
/// ```
/// use ssd_engine::Options;
///
/// let options = Options { cache_bytes: 1 << 30, direct_io: false, ..Options::default() };
/// options.validate()?;
/// # Ok::<(), ssd_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    /// Create the directory when it holds no engine yet; otherwise opening a missing engine is an error.
    pub create_if_missing: bool,
    /// Refuse to open an engine that exists.
    pub error_if_exists: bool,
    /// Size of one memtable. Larger ones absorb more overwrites and make fewer, larger compactions.
    pub memtable_bytes: usize,
    /// Number of memtables: one active, the others waiting for their flush. At least 2.
    pub memtables: usize,
    /// Size of the block cache. Zero turns it off.
    pub cache_bytes: usize,
    /// Which blocks the cache gives up first.
    pub cache_policy: CachePolicy,
    /// Largest block before compression; also the size of a cache frame. A power of two, 4 KiB to 64 KiB. Small ones
    /// suit point reads, large ones scans and compression.
    pub block_bytes: usize,
    /// Compress blocks with LZ4 where that saves at least an eighth.
    pub compress: bool,
    /// Bits of Bloom filter per key; 10 gives 1 % false positives, 0 turns filters off.
    pub filter_bits_per_key: u8,
    /// Target size of an SST.
    pub target_file_bytes: u64,
    /// Size target of the first level below L0; 0 makes it eight memtables.
    pub base_level_bytes: u64,
    /// Largest factor between the sizes of neighbouring levels. A small one writes less and takes more space.
    pub level_multiplier: u32,
    /// Background threads. Zero starts none: the host calls [`Engine::run_next_job`](crate::Engine::run_next_job).
    pub background_threads: usize,
    /// Bytes per second that flushes and compactions may write together; `None` is no limit.
    pub background_bytes_per_second: Option<u64>,
    /// Size of a log segment.
    pub log_segment_bytes: u64,
    /// Size of the log's ring in memory. A power of two, at least 64 KiB.
    pub log_ring_bytes: usize,
    /// Compress log records with LZ4.
    pub log_compress: bool,
    /// Finished log segments kept for reuse.
    pub log_recycle: usize,
    /// Copy each finished log segment to this directory before it is reused or removed.
    pub log_archive: Option<PathBuf>,
    /// Bypass the page cache where the file system allows it.
    pub direct_io: bool,
    /// Compactions stop when less than this would be left on the disk; writes are refused at a quarter of it.
    pub disk_reserve_bytes: u64,
    /// How long a write waits for a stalled flush before it fails; `None` waits for as long as it takes.
    pub stall_timeout: Option<Duration>,
    /// How long a transaction waits for another before it looks for a deadlock.
    pub deadlock_timeout: Duration,
    /// Snapshots and scans that may be open at once.
    pub snapshots: usize,
    /// Row locks that memory has room for, 32 bytes each; more of them are kept in a tree, which is slower.
    pub row_locks: usize,
    /// The world: `None` takes the best backend of this machine.
    pub env: Option<Arc<dyn Env>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create_if_missing: true,
            error_if_exists: false,
            memtable_bytes: 64 << 20,
            memtables: 4,
            cache_bytes: 256 << 20,
            cache_policy: CachePolicy::Clock,
            block_bytes: 8 << 10,
            compress: true,
            filter_bits_per_key: 10,
            target_file_bytes: 64 << 20,
            base_level_bytes: 0,
            level_multiplier: 10,
            background_threads: 2,
            background_bytes_per_second: None,
            log_segment_bytes: 64 << 20,
            log_ring_bytes: 16 << 20,
            log_compress: false,
            log_recycle: 2,
            log_archive: None,
            direct_io: true,
            disk_reserve_bytes: 256 << 20,
            stall_timeout: None,
            deadlock_timeout: Duration::from_secs(1),
            snapshots: 1024,
            row_locks: 64 << 10,
            env: None,
        }
    }
}

/// Smallest memtable: a batch of a few large entries must fit.
const MEMTABLE_BYTES_MIN: usize = 64 << 10;
/// Far more memory than any machine has, and far less than what overflows when parts of the region are added up.
const CACHE_BYTES_MAX: u64 = 16 << 40;
/// Offsets in a memtable are 32 bits.
const MEMTABLE_BYTES_MAX: usize = (4 << 30) - (1 << 20);

impl Options {
    /// Checks every field.
    ///
    /// ```
    /// let error = ssd_engine::Options { memtables: 0, ..Default::default() }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "option memtables is 0");
    /// assert_eq!(error.hint(), "Set memtables to a value from 2 to 15.");
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage, naming the first field that is out of range and what it may be.
    pub fn validate(&self) -> Result<()> {
        let in_range = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::usage(
                format!("option {name} is {value}"),
                format!("Set {name} to a value from {min} to {max}."),
            ))
        };
        let power_of_two = |name: &str, value: usize| {
            if value.is_power_of_two() {
                return Ok(());
            }
            Err(Error::usage(format!("option {name} is {value}"), format!("Set {name} to a power of two.")))
        };
        in_range("memtable_bytes", self.memtable_bytes as u64, MEMTABLE_BYTES_MIN as u64, MEMTABLE_BYTES_MAX as u64)?;
        in_range("memtables", self.memtables as u64, 2, MEMTABLES_MAX as u64)?;
        in_range("cache_bytes", self.cache_bytes as u64, 0, CACHE_BYTES_MAX)?;
        in_range("block_bytes", self.block_bytes as u64, BLOCK_SIZE_MIN as u64, BLOCK_SIZE_MAX as u64)?;
        power_of_two("block_bytes", self.block_bytes)?;
        in_range("filter_bits_per_key", self.filter_bits_per_key.into(), 0, 32)?;
        in_range("target_file_bytes", self.target_file_bytes, self.block_bytes as u64, 16 << 30)?;
        in_range("level_multiplier", self.level_multiplier.into(), 2, 100)?;
        in_range("background_threads", self.background_threads as u64, 0, 256)?;
        in_range("log_segment_bytes", self.log_segment_bytes, 16 << 10, 64 << 30)?;
        in_range("log_ring_bytes", self.log_ring_bytes as u64, 64 << 10, 1 << 30)?;
        power_of_two("log_ring_bytes", self.log_ring_bytes)?;
        if !self.log_segment_bytes.is_multiple_of(4096) {
            return Err(Error::usage(
                format!("option log_segment_bytes is {}", self.log_segment_bytes),
                "Set log_segment_bytes to a multiple of 4096.",
            ));
        }
        if self.log_archive.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return Err(Error::usage(
                "option log_archive is an empty path",
                "Set it to a directory beside the engine's, or to None to archive nothing.",
            ));
        }
        in_range("snapshots", self.snapshots as u64, 1, 1 << 20)?;
        in_range("row_locks", self.row_locks as u64, 1 << 10, 1 << 30)?;
        if self.background_bytes_per_second == Some(0) {
            return Err(Error::usage(
                "option background_bytes_per_second is 0",
                "Set it to None for no limit; a limit of 0 would stop every flush.",
            ));
        }
        Ok(())
    }
}

/// Whether a write waits for stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// The write survives the death of the process, not of the machine. The default, as in RocksDB.
    #[default]
    Process,
    /// The write survives the death of the machine: the call returns after the log is synced.
    Machine,
}

/// How one write is done.
///
/// ```
/// use ssd_engine::{Durability, WriteOptions};
///
/// assert_eq!(WriteOptions::default().durability, Durability::Process);
/// assert_eq!(WriteOptions::SYNC.durability, Durability::Machine);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// What the write survives once the call has returned.
    pub durability: Durability,
}

impl WriteOptions {
    /// Wait until the write is on stable storage.
    pub const SYNC: Self = Self { durability: Durability::Machine };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Options)) -> String {
        let mut options = Options::default();
        change(&mut options);
        let error = options.validate().unwrap_err();
        format!("{error} ({})", error.hint())
    }

    #[test]
    fn absurd_options_say_what_to_change() {
        Options::default().validate().unwrap();
        assert_eq!(refused(|o| o.memtables = 1), "option memtables is 1 (Set memtables to a value from 2 to 15.)");
        assert_eq!(
            refused(|o| o.block_bytes = 5000),
            "option block_bytes is 5000 (Set block_bytes to a power of two.)"
        );
        assert!(refused(|o| o.block_bytes = 128 << 10).contains("from 4096 to 65536"));
        assert!(refused(|o| o.log_ring_bytes = 100).contains("log_ring_bytes"));
        assert!(refused(|o| o.background_bytes_per_second = Some(0)).contains("no limit"));
    }
}
