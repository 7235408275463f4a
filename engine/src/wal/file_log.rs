//! The log in files: append, flush, write-out and truncation.
//!
//! Two locks, both in the region: `lock` orders appends and is held while a record is copied into the ring; `claim` is the
//! right to write to segments and is held over I/O. Whoever holds `claim` never asks for `lock`; an appender that finds
//! the ring full asks for `claim` while it holds `lock`, and so the others wait in `lock`, asleep.
//!
//! Group commit has no leader that others queue behind: whoever gets the claim writes and syncs all records there are and
//! tells everybody at once; whoever is covered returns without having held anything.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::ring::Ring;
use super::shared::{Failure, LogShared};
use super::{Appended, Log, LogPlace, LogStats};
use crate::base::checksum::Checksum;
use crate::base::ids::{Lsn, SeqNo};
use crate::base::limits::IO_ALIGN;
use crate::env::File;
use crate::error::{Error, Result};
use crate::format::log_buffer::Mark;
use crate::format::log_record::{
    HEADER_LEN, LogId, PAYLOAD_LEN_MAX, RECORD_ALIGN, RecordHeader, RecordKind, record_len,
};
use crate::mem::aligned::AlignedBuf;
use crate::mem::lock::LockGuard;
use crate::mem::region::{Part, Region};

mod segments_ahead;

const BLOCK: u64 = IO_ALIGN as u64;

/// Longest write to a segment: large enough for full speed, small enough that waiting appenders get room soon.
const WRITE_LEN: u64 = 1 << 20;

/// Up to this length a flush is one write that is stable when it returns; longer ones write in pieces and sync once.
const SYNC_WRITE_LEN: u64 = 256 << 10;

/// Shortest payload worth compressing.
const COMPRESS_LEN: usize = 256;

/// A waiter looks this often whether whoever holds the claim is alive.
const PATIENCE: Duration = Duration::from_millis(100);

/// The log in files. One per process and log; all methods may be called from any thread.
pub struct FileLog {
    pub(super) place: LogPlace,
    region: Region,
    part: Part<LogShared>,
    id: LogId,
    ring: Ring,
    writer: Mutex<Writer>,
    /// After a failure in the background, work ahead of need is not asked for before the log gets here.
    patience_until: AtomicU64,
}

/// What only the holder of the claim uses; so the mutex around it is always free.
struct Writer {
    buf: AlignedBuf,
    files: Vec<(u64, Arc<dyn File>)>,
}

/// Segments that a process keeps open: the one being written, the one before it and one ahead.
const OPEN_SEGMENTS: usize = 3;

/// What a thread compresses payloads with.
struct Compressor {
    table: lz4_flex::block::CompressTable,
    out: Vec<u8>,
}

thread_local! {
    static COMPRESSOR: RefCell<Compressor> =
        RefCell::new(Compressor { table: lz4_flex::block::CompressTable::small(), out: Vec::new() });
}

/// A thread keeps this much room for compressed payloads; what a longer one needed is given back.
const COMPRESSOR_LEN_MAX: usize = 1 << 20;

const fn block_floor(lsn: Lsn) -> Lsn {
    Lsn(lsn.0 & !(BLOCK - 1))
}

/// A payload as the log stores it.
#[derive(Clone, Copy)]
struct Stored<'a> {
    bytes: &'a [u8],
    raw_len: usize,
    compressed: bool,
}

impl FileLog {
    pub(super) fn new(place: LogPlace, region: &Region, part: Part<LogShared>, ring: Ring) -> Self {
        let id = LogId::of(place.uuid);
        let writer = Mutex::new(Writer { buf: AlignedBuf::zeroed(0), files: Vec::new() });
        Self { place, region: region.clone(), part, id, ring, writer, patience_until: AtomicU64::new(0) }
    }

    /// The words in the region.
    #[inline]
    pub(super) fn shared(&self) -> &LogShared {
        &self.region.part(self.part)[0]
    }

    /// The sequence number that the next record takes first.
    #[must_use]
    pub fn next_seqno(&self) -> SeqNo {
        SeqNo(self.shared().next_seqno.load(Ordering::Acquire))
    }

    fn lock_appends(&self) -> Result<LockGuard<'_>> {
        let shared = self.shared();
        shared.lock.lock().map_err(|_| shared.fail(Failure::OwnerDied, 0, None))
    }

    fn lock_claim(&self) -> Result<LockGuard<'_>> {
        let shared = self.shared();
        shared.claim.lock().map_err(|_| shared.fail(Failure::OwnerDied, 0, None))
    }

    /// Does `work` with the claim that `held` is, then gives it back and tells those who wait for it.
    fn with_claim<R>(&self, held: LockGuard<'_>, work: impl FnOnce(&mut Writer) -> Result<R>) -> Result<R> {
        let shared = self.shared();
        let result = match shared.is_failed().then(|| shared.failure()).flatten() {
            Some(failure) => Err(failure),
            None => work(&mut self.writer.lock()),
        };
        drop(held);
        shared.progress.notify();
        result
    }

    fn append_compressed(&self, payload: &[u8], count: u32) -> Result<Appended> {
        let plain = Stored { bytes: payload, raw_len: payload.len(), compressed: false };
        COMPRESSOR.with_borrow_mut(|Compressor { table, out }| {
            let room = lz4_flex::block::get_maximum_output_size(payload.len());
            if out.len() < room {
                out.resize(room, 0);
            }
            let stored = match lz4_flex::block::compress_into_with_table(payload, out, table) {
                Ok(len) if len <= payload.len() / 100 * 88 => Stored { bytes: &out[..len], compressed: true, ..plain },
                // Too long, or (which cannot happen) out of room: the payload itself will do.
                _ => plain,
            };
            let placed = self.place_record(RecordKind::Batch, stored, count);
            if out.len() > COMPRESSOR_LEN_MAX {
                *out = Vec::new();
            }
            placed
        })
    }

    /// Places a record in the ring: the one place where positions, sequence numbers and tickets are given out.
    fn place_record(&self, kind: RecordKind, stored: Stored<'_>, count: u32) -> Result<Appended> {
        let payload_checksum = Checksum::of(stored.bytes);
        let stored_len = stored.bytes.len() as u32;
        let guard = self.lock_appends()?;
        let shared = self.shared();
        if let Some(failure) = shared.is_failed().then(|| shared.failure()).flatten() {
            return Err(failure);
        }
        let header = RecordHeader {
            kind,
            compressed: stored.compressed,
            lsn: Lsn(shared.insert.load(Ordering::Relaxed)),
            first: SeqNo(shared.next_seqno.load(Ordering::Relaxed)),
            count,
            synced: self.durable(),
            stored_len,
            raw_len: stored.raw_len as u32,
            payload_checksum,
        };
        let (head, end) = (header.encode(self.id), header.end());
        if self.has_room(end) {
            self.ring.put(header.lsn, &head);
            self.ring.put(header.lsn.plus(HEADER_LEN as u64), stored.bytes);
        } else {
            self.place_slowly(header.lsn, end, &head, stored.bytes)?;
        }
        let ticket = shared.ticket.load(Ordering::Relaxed);
        shared.next_seqno.store(header.first.0 + u64::from(count), Ordering::Release);
        if kind != RecordKind::Noop {
            shared.ticket.store(ticket + 1, Ordering::Relaxed);
        }
        let payload_bytes = shared.payload_bytes.load(Ordering::Relaxed) + stored.raw_len as u64;
        shared.payload_bytes.store(payload_bytes, Ordering::Relaxed);
        shared.filled.store(end.0, Ordering::Release);
        shared.insert.store(end.0, Ordering::Release);
        drop(guard);
        Ok(Appended { first: header.first, ticket, end })
    }

    /// Whether the ring may hold bytes up to `end`: the block that `written` is in will be written again.
    #[inline]
    fn has_room(&self, end: Lsn) -> bool {
        end.since(block_floor(self.written())) <= self.ring.len()
    }

    /// Places a record that does not fit beside what the ring holds. The caller holds the append lock.
    #[cold]
    fn place_slowly(&self, lsn: Lsn, end: Lsn, head: &[u8], stored: &[u8]) -> Result<()> {
        if end.since(lsn) + BLOCK <= self.ring.len() {
            self.make_room(end)?;
            self.ring.put(lsn, head);
            self.ring.put(lsn.plus(head.len() as u64), stored);
            return Ok(());
        }
        // Larger than the ring. Part of it will be in segments before all of it is in the ring, and cannot be taken back:
        // so the space for all of it comes first.
        let held = self.lock_claim()?;
        self.with_claim(held, |_| self.create_segments(self.place.segment_of(Lsn(end.0 - 1))))?;
        let placed = self.place_in_pieces(lsn, head).and_then(|at| self.place_in_pieces(at, stored));
        placed.map(drop).inspect_err(|_| {
            self.shared().fail(Failure::Incomplete, 0, None);
        })
    }

    fn place_in_pieces(&self, mut at: Lsn, mut bytes: &[u8]) -> Result<Lsn> {
        let shared = self.shared();
        while !bytes.is_empty() {
            let step = (self.ring.len() / 4).min(bytes.len() as u64);
            if !self.has_room(at.plus(step.next_multiple_of(RECORD_ALIGN as u64))) {
                self.make_room(at.plus(step.next_multiple_of(RECORD_ALIGN as u64)))?;
            }
            let (piece, rest) = bytes.split_at(step as usize);
            self.ring.put(at, piece);
            at = at.plus(step.next_multiple_of(RECORD_ALIGN as u64));
            shared.filled.store(at.0, Ordering::Release);
            bytes = rest;
        }
        Ok(at)
    }

    /// Writes out until the ring may hold bytes up to `end`.
    fn make_room(&self, end: Lsn) -> Result<()> {
        let held = self.lock_claim()?;
        self.with_claim(held, |writer| {
            while !self.has_room(end) {
                self.write_piece(writer, Lsn(self.shared().filled.load(Ordering::Acquire)), false)?;
            }
            Ok(())
        })
    }

    /// Writes the next piece of what is not written yet, no further than `target`; stable when `sync`.
    fn write_piece(&self, writer: &mut Writer, target: Lsn, sync: bool) -> Result<()> {
        let shared = self.shared();
        let from = block_floor(self.written());
        let number = self.place.segment_of(from);
        let to = target.min(from.plus(WRITE_LEN)).min(self.place.segment_start(number + 1));
        let file = self.segment(writer, number)?;
        let len = to.since(from) as usize;
        writer.buf.resize(len.next_multiple_of(IO_ALIGN));
        self.ring.get(from, &mut writer.buf[..len]);
        writer.buf[len..].fill(0);
        let offset = self.place.file_offset(from);
        let (done, failure) = if sync {
            (file.write_sync_at(&writer.buf, offset), Failure::Sync)
        } else {
            (file.write_at(&writer.buf, offset), Failure::Write)
        };
        done.map_err(|error| self.fail(failure, number, error))?;
        // The mark first: once `written` has moved, appends may replace what the ring held below it.
        self.ring.mark(Mark::Written, to);
        shared.written.store(to.0, Ordering::Release);
        shared.written_bytes.fetch_add(writer.buf.len() as u64, Ordering::Relaxed);
        shared.writes.fetch_add(1, Ordering::Relaxed);
        shared.syncs.fetch_add(u64::from(sync), Ordering::Relaxed);
        Ok(())
    }

    /// Writes everything below `target`, which is not beyond `filled`.
    fn write_to(&self, writer: &mut Writer, target: Lsn) -> Result<()> {
        while self.written() < target {
            self.write_piece(writer, target, false)?;
        }
        Ok(())
    }

    #[inline]
    fn written(&self) -> Lsn {
        Lsn(self.shared().written.load(Ordering::Acquire))
    }

    /// Makes every record appended so far durable.
    fn write_and_sync(&self, writer: &mut Writer) -> Result<()> {
        let shared = self.shared();
        let target = self.position();
        let (written, durable) = (self.written(), self.durable());
        if target <= durable {
            return Ok(());
        }
        let from = block_floor(written);
        let last = self.place.segment_of(Lsn(target.0 - 1));
        let short = target.since(from) <= SYNC_WRITE_LEN && self.place.segment_of(from) == last;
        if short && written == durable {
            self.write_piece(writer, target, true)?;
        } else {
            self.write_to(writer, target)?;
            for number in self.place.segment_of(durable)..=last {
                let file = self.segment(writer, number)?;
                file.sync().map_err(|error| self.fail(Failure::Sync, number, error))?;
                shared.syncs.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.ring.mark(Mark::Durable, target);
        shared.durable.store(target.0, Ordering::Release);
        Ok(())
    }

    /// Segment `number`, open for writing, created when it does not exist.
    fn segment(&self, writer: &mut Writer, number: u64) -> Result<Arc<dyn File>> {
        if let Some((_, file)) = writer.files.iter().find(|&&(open, _)| open == number) {
            return Ok(file.clone());
        }
        self.create_segments(number)?;
        let file = self.place.open_segment(number, true)?;
        if writer.files.len() == OPEN_SEGMENTS {
            writer.files.remove(0);
        }
        writer.files.push((number, file.clone()));
        Ok(file)
    }

    /// Closes the log because of `error`, and hands it on.
    #[cold]
    fn fail(&self, failure: Failure, segment: u64, error: Error) -> Error {
        let source = if let Error::Io { source, .. } = &error { Some(source) } else { None };
        self.shared().fail(failure, segment, source);
        tracing::error!(%error, segment, "the log is closed");
        error
    }
}

impl Log for FileLog {
    fn append(&self, payload: &[u8], count: u64) -> Result<Appended> {
        let Ok(count) = u32::try_from(count) else {
            return Err(Error::usage(format!("a batch of {count} entries"), "Write fewer than 4 billion at once."));
        };
        if payload.len() > PAYLOAD_LEN_MAX {
            let message = format!("a batch of {} bytes, at most {PAYLOAD_LEN_MAX} are allowed", payload.len());
            return Err(Error::usage(message, "Split the batch."));
        }
        if self.place.options.compress && payload.len() >= COMPRESS_LEN {
            return self.append_compressed(payload, count);
        }
        let stored = Stored { bytes: payload, raw_len: payload.len(), compressed: false };
        self.place_record(RecordKind::Batch, stored, count)
    }

    fn flush(&self, upto: Lsn) -> Result<()> {
        let shared = self.shared();
        if upto > self.position() {
            let message = format!("log flush up to {upto}, beyond its end {}", self.position());
            return Err(Error::usage(message, "Flush up to the end of a record."));
        }
        loop {
            let seen = shared.progress.current();
            if self.durable() >= upto {
                return Ok(());
            }
            if let Some(failure) = shared.failure() {
                return Err(failure);
            }
            let held = match shared.claim.try_lock() {
                Some(held) => held,
                None => {
                    shared.progress.wait(seen, PATIENCE);
                    if shared.progress.current() != seen {
                        continue;
                    }
                    // Nothing happened for long. Waiting in the lock finds out whether its owner is alive.
                    self.lock_claim()?
                }
            };
            if self.durable() < upto {
                self.with_claim(held, |writer| self.write_and_sync(writer))?;
            }
        }
    }

    #[inline]
    fn position(&self) -> Lsn {
        Lsn(self.shared().insert.load(Ordering::Acquire))
    }

    #[inline]
    fn durable(&self) -> Lsn {
        Lsn(self.shared().durable.load(Ordering::Acquire))
    }

    fn truncate_below(&self, lsn: Lsn) -> Result<()> {
        let lsn = lsn.min(self.position());
        self.flush(lsn)?;
        let shared = self.shared();
        let _held = shared.trim.lock().map_err(|_| shared.fail(Failure::OwnerDied, 0, None))?;
        let number = self.place.segment_of(lsn);
        self.archive_below(number)?;
        self.retire_below(number)
    }

    fn write_out(&self) -> Result<bool> {
        let done = self.work_ahead();
        if done.is_err() {
            // Background work is not asked for again at once: whoever needs it done now does it and gets the error.
            let later = self.position().plus(self.ring.len() / 4);
            self.patience_until.store(later.0, Ordering::Relaxed);
        }
        done
    }

    fn should_write(&self) -> bool {
        let shared = self.shared();
        let position = self.position();
        if shared.is_failed() || position.0 < self.patience_until.load(Ordering::Relaxed) {
            return false;
        }
        let waiting = position.since(self.written());
        waiting >= self.ring.len() / 4 || self.wants_segment() || self.wants_archive()
    }

    /// The next recovery then knows at once that nothing is missing, and that damage to any record is damage. A disk that has
    /// no space for the record that says so leaves the log as safe as a crash would.
    fn close(&self) -> Result<()> {
        if self.shared().is_closed() {
            return Ok(());
        }
        self.flush(self.position())?;
        let none = Stored { bytes: &[], raw_len: 0, compressed: false };
        let noop =
            self.place_record(RecordKind::Noop, none, 0).and_then(|noop| self.flush(noop.end).map(|()| noop.end));
        let end = match noop {
            Ok(end) => Some(end),
            Err(error) if error.is_no_space() => None,
            Err(error) => return Err(error),
        };
        let guard = self.lock_appends()?;
        if let Some(end) = end.filter(|&end| self.position() == end) {
            self.ring.mark(Mark::Closed, end);
        }
        self.shared().fail(Failure::Closed, 0, None);
        drop(guard);
        Ok(())
    }

    fn stats(&self) -> LogStats {
        let shared = self.shared();
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        LogStats {
            records: load(&shared.ticket),
            appended_bytes: load(&shared.insert) - load(&shared.start),
            payload_bytes: load(&shared.payload_bytes),
            written_bytes: load(&shared.written_bytes),
            writes: load(&shared.writes),
            syncs: load(&shared.syncs),
            segments_created: load(&shared.created),
            segments_recycled: load(&shared.recycled),
            segments_archived: load(&shared.archived),
        }
    }
}

const _: () = assert!(WRITE_LEN.is_multiple_of(BLOCK) && SYNC_WRITE_LEN <= WRITE_LEN);
const _: () = assert!(record_len(0) == HEADER_LEN as u64);
