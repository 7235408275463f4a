//! The log's words in the region, and the failure that closes the log for every process.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::segments::segment_name;
use crate::error::Error;
use crate::mem::lock::{Event, FutexLock};
use crate::shared_struct;

shared_struct! {
    /// What the processes that use one log share beside its files. Zeroed: a log that was not opened yet.
    pub struct LogShared {
        // Changed by each append, together.
        /// Held while a record is placed.
        pub(super) lock: FutexLock,
        /// A [`Failure`], once there is one.
        pub(super) failed: AtomicU32,
        /// Where the next record goes.
        pub(super) insert: AtomicU64,
        /// The ring holds bytes up to here: `insert`, or more while a record larger than the ring is being placed.
        pub(super) filled: AtomicU64,
        pub(super) next_seqno: AtomicU64,
        pub(super) ticket: AtomicU64,
        pub(super) payload_bytes: AtomicU64,
        /// `insert` when the log was opened.
        pub(super) start: AtomicU64,
        pub(super) line_end: AtomicU64,

        // Changed by whoever writes to segments.
        /// The right to write to segments; held over I/O, and by waiters only in sleep.
        pub(super) claim: FutexLock,
        /// Happens when `durable` moved or the claim became free.
        pub(super) progress: Event,
        /// Segments hold bytes up to here.
        pub(super) written: AtomicU64,
        /// And have been synced up to here, a record boundary.
        pub(super) durable: AtomicU64,
        /// Number of the segment to be created next.
        pub(super) next_segment: AtomicU64,
        pub(super) written_bytes: AtomicU64,
        pub(super) writes: AtomicU64,
        pub(super) syncs: AtomicU64,
        pub(super) line_end_2: AtomicU64,

        // Changed once per segment, or once in all.
        /// The right to archive and to retire segments; held over I/O.
        pub(super) trim: FutexLock,
        /// Operating system's error number of the failure, or 0.
        pub(super) failed_os: AtomicU32,
        /// Segment that failed, or 0.
        pub(super) failed_segment: AtomicU64,
        /// Segments below this number have been archived.
        pub(super) archived_below: AtomicU64,
        pub(super) created: AtomicU64,
        pub(super) recycled: AtomicU64,
        pub(super) archived: AtomicU64,
    }
}

/// Why the log is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Failure {
    Write = 1,
    Sync = 2,
    Create = 3,
    OwnerDied = 4,
    Incomplete = 5,
    Closed = 6,
}

impl LogShared {
    /// Closes the log; the first failure stays. Returns what to tell the caller.
    #[cold]
    pub(super) fn fail(&self, failure: Failure, segment: u64, source: Option<&std::io::Error>) -> Error {
        let os = source.and_then(std::io::Error::raw_os_error).map_or(0, i32::cast_unsigned);
        if self.failed.load(Ordering::Acquire) == 0 {
            self.failed_os.store(os, Ordering::Relaxed);
            self.failed_segment.store(segment, Ordering::Relaxed);
        }
        let _ = self.failed.compare_exchange(0, failure as u32, Ordering::AcqRel, Ordering::Acquire);
        self.progress.notify();
        self.failure().unwrap_or_else(|| Error::Closed(String::new()))
    }

    /// The failure that closed the log, as every later call reports it.
    #[cold]
    pub(super) fn failure(&self) -> Option<Error> {
        let failed = self.failed.load(Ordering::Acquire);
        let name = || segment_name(self.failed_segment.load(Ordering::Relaxed));
        let mut text = match failed {
            0 => return None,
            1 => format!("could not write log segment {}", name()),
            2 => format!("could not sync log segment {}", name()),
            3 => format!("could not create log segment {}", name()),
            4 => "a process died while it was changing the log".to_owned(),
            5 => "a record could not be written completely".to_owned(),
            _ => return Some(Error::Closed("the log was closed".to_owned())),
        };
        let os = self.failed_os.load(Ordering::Relaxed);
        if os != 0 {
            text.push_str(&format!(" ({})", std::io::Error::from_raw_os_error(os.cast_signed())));
        }
        text.push_str("; open the engine again");
        Some(Error::Closed(text))
    }

    /// Whether the log was closed in good order.
    pub(super) fn is_closed(&self) -> bool {
        self.failed.load(Ordering::Acquire) == Failure::Closed as u32
    }

    /// Whether the log is closed.
    #[inline]
    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) != 0
    }
}

const _: () = assert!(std::mem::offset_of!(LogShared, claim) == 64);
const _: () = assert!(std::mem::offset_of!(LogShared, trim) == 128);
