//! Layer 3: the log. Records in one byte stream, appended to a shared ring and written from it to segment files.
//!
//! Positions ([`Lsn`]) count bytes since the first record ever. `append` copies a record into the ring, which is the file
//! mapping `LOGBUF`: from then on it survives the death of the process. `flush` writes the ring's contents into segments
//! and syncs them: from then on it survives the death of the machine. See docs/formats/wal.md for the bytes and
//! docs/decisions/0001-log-ring-in-a-shared-mapping.md for the reasons.
//!
//! Invariants:
//! 1. `durable <= written`, `durable <= insert <= filled`, `written <= filled`, and `filled` is at most the ring's size
//!    beyond `written` rounded down to a block. `insert` and `durable` are record boundaries.
//! 2. A position is used once: whatever stood at or beyond the end that recovery found is gone before a new record is
//!    placed there. So no record of an earlier life of the engine can be met again.
//! 3. A file has a segment's name only when its header and full length are on stable storage, and segment n exists before
//!    segment n + 1 does.
//! 4. After a failed write or sync, or the death of a process that held a lock of the log, nothing is appended or flushed
//!    until the engine is opened again.
//!
//! Files: [`log_record`](crate::format::log_record) the bytes; `shared` the words in the region; `ring` the mapping;
//! `segments` names, creation and recycling; `stream` reading; `recover` replay and its verdict; `begin` what happens
//! between recovery and the first append; `file_log` append and flush; `archive` copies of finished segments; `check` the
//! integrity check.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::ids::{Lsn, SeqNo};
use crate::base::limits::IO_ALIGN;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::format::log_buffer::{RING_LEN_MAX, RING_LEN_MIN};

mod archive;
mod begin;
pub mod check;
mod file_log;
mod recover;
mod ring;
mod segments;
mod shared;
mod stream;

#[cfg(test)]
mod tests;

pub use file_log::FileLog;
pub use recover::{Ending, Record, Recovered};
pub use segments::{BUFFER_NAME, parse_segment_name, segment_name};
pub use shared::LogShared;

/// How a log is kept. The same for every process that uses it.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Data bytes of a segment: a multiple of 4 KiB. Fixed when the log is created.
    pub segment_bytes: u64,
    /// Size of the ring: a power of two from 64 KiB to 1 GiB.
    pub ring_bytes: usize,
    /// Whether payloads of 256 bytes and more are compressed when that saves 12 %.
    pub compress: bool,
    /// How many segments that replay no longer needs are kept for reuse; the others are removed.
    pub recycle: usize,
    /// Where finished segments are copied before they are reused or removed.
    pub archive_dir: Option<PathBuf>,
    /// Whether segments bypass the page cache.
    pub direct: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            ring_bytes: 16 << 20,
            compress: false,
            recycle: 2,
            archive_dir: None,
            direct: true,
        }
    }
}

/// Where a log is and how it is kept.
#[derive(Clone)]
pub struct LogPlace {
    /// The world it lives in.
    pub env: Arc<dyn Env>,
    /// Directory of the segments and of `LOGBUF`.
    pub dir: PathBuf,
    /// The engine it belongs to.
    pub uuid: [u8; 16],
    /// How it is kept.
    pub options: LogOptions,
}

impl LogPlace {
    /// Refuses options that no log can be kept with.
    fn validate(&self) -> Result<()> {
        let LogOptions { segment_bytes, ring_bytes, .. } = self.options;
        if segment_bytes == 0 || !segment_bytes.is_multiple_of(IO_ALIGN as u64) || segment_bytes > 1 << 40 {
            return Err(Error::usage(
                format!("log segment size {segment_bytes} is not a multiple of 4096 up to 1 TiB"),
                "Use the default of 64 MiB.",
            ));
        }
        if !ring_bytes.is_power_of_two() || !(RING_LEN_MIN..=RING_LEN_MAX).contains(&ring_bytes) {
            return Err(Error::usage(
                format!("log buffer size {ring_bytes} is not a power of two from 64 KiB to 1 GiB"),
                "Use the default of 16 MiB.",
            ));
        }
        Ok(())
    }
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first of the sequence numbers that the record took.
    pub first: SeqNo,
    /// How many records were appended before this one since the log was opened: 0, 1, 2, … in the order of the log.
    pub ticket: u64,
    /// Where the next record goes; what to `flush` to make this one durable.
    pub end: Lsn,
}

/// Counters since the log was opened, over all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Records appended.
    pub records: u64,
    /// Bytes of the log that they take, with headers and after compression.
    pub appended_bytes: u64,
    /// Bytes of their payloads, before compression.
    pub payload_bytes: u64,
    /// Bytes written to segments, with headers and rewritten tails.
    pub written_bytes: u64,
    /// Writes to segments.
    pub writes: u64,
    /// Syncs of segments, alone or as part of a write.
    pub syncs: u64,
    /// Segments made anew, because one was needed at once.
    pub segments_created: u64,
    /// Segments made from a spare: one that was no longer needed, or one that was made ahead.
    pub segments_recycled: u64,
    /// Segments copied to the archive.
    pub segments_archived: u64,
}

/// A host's log: [`FileLog`], or the write-ahead log of the database that the engine is part of. What such a database sees to
/// by itself, when to write out, to truncate and to close, is provided here as nothing to do.
pub trait Log: Send + Sync {
    /// Appends one batch record: takes `count` sequence numbers and the next ticket and places the record, all in one
    /// short critical section.
    ///
    /// # Errors
    /// Usage when the payload is longer than
    /// [`PAYLOAD_LEN_MAX`](crate::format::log_record::PAYLOAD_LEN_MAX) or `count` exceeds 32 bits. I/O when the ring is
    /// full and the disk has no space for another segment: nothing was appended, and it may be tried again. Closed after
    /// an earlier failure of the log.
    fn append(&self, payload: &[u8], count: u64) -> Result<Appended>;

    /// Returns when everything below `upto` is on stable storage.
    ///
    /// # Errors
    /// I/O when the disk has no space for another segment: nothing is lost, and it may be tried again. Any other failure,
    /// now or earlier, closes the log: what was not durable by then may or may not survive.
    fn flush(&self, upto: Lsn) -> Result<()>;

    /// Where the next record would go. A record whose append has not returned may lie at or beyond it.
    fn position(&self) -> Lsn;

    /// Everything below is on stable storage.
    fn durable(&self) -> Lsn;

    /// Tells the log that replay will never need records below `lsn`: segments wholly below are archived, then recycled
    /// or removed.
    ///
    /// # Errors
    /// I/O; whatever could not be done is done by the next call.
    fn truncate_below(&self, lsn: Lsn) -> Result<()> {
        let _ = lsn;
        Ok(())
    }

    /// Writes out (without sync) what has piled up in the ring and does what else is best done ahead of need: true if
    /// there was something. A background job calls it when [`should_write`](Self::should_write).
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    fn write_out(&self) -> Result<bool> {
        Ok(false)
    }

    /// Whether [`write_out`](Self::write_out) has enough to do to be worth a job.
    fn should_write(&self) -> bool {
        false
    }

    /// Counters.
    fn stats(&self) -> LogStats {
        LogStats::default()
    }

    /// Makes everything durable and closes the log for all processes. The next recovery then knows at once that nothing
    /// is missing, and that damage to any record is damage.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); closed when it is closed already.
    fn close(&self) -> Result<()> {
        Ok(())
    }
}
