//! What happens between recovery and the first append.
//!
//! A position must be used once (invariant 2 of the log): a record that an earlier life of the engine left at or beyond the
//! end must never be met by a later recovery, which could not tell it from a record of this life. In order:
//!
//! 1. What replay found and nothing proves to be stable is written to segments, once more if it is there, and synced, so the
//!    end can never move back.
//! 2. If records lie beyond the end, later segments are removed and the last one is replaced by a copy up to the end.
//! 3. `LOGBUF` is made anew.
//!
//! A crash between any two steps leaves a log that recovers to the same end.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::file_log::FileLog;
use super::recover::{Ending, Recovered, recover};
use super::ring::{Image, Ring};
use super::shared::LogShared;
use super::stream::Stream;
use super::{LogPlace, Record};
use crate::base::ids::{Lsn, SeqNo};
use crate::base::limits::IO_ALIGN;
use crate::env::File;
use crate::error::{Error, Result};
use crate::format::log_buffer::Mark;
use crate::mem::aligned::AlignedBuf;
use crate::mem::region::{Part, Region};

const COPY_LEN: u64 = 1 << 20;

impl FileLog {
    /// Makes a new log, at position 0 and sequence number 1, in a directory that holds none. `part` of `region` is zeroed.
    ///
    /// # Errors
    /// Usage when the directory holds a log, or for impossible options; I/O.
    pub fn create(place: LogPlace, region: &Region, part: Part<LogShared>) -> Result<Self> {
        place.validate()?;
        place.env.create_dir(&place.dir)?;
        if !place.segments()?.is_empty() {
            let message = format!("directory \"{}\" already holds a log", place.dir.display());
            return Err(Error::usage(message, "Open it instead of creating one."));
        }
        let log = Self::begin(place, region, part, Lsn(0), SeqNo(1))?;
        log.place.create_segment(1)?;
        log.shared().next_segment.store(2, Ordering::Release);
        Ok(log)
    }

    /// Replays the log from `from`, a record boundary, calling `f` for each record. Changes nothing.
    ///
    /// # Errors
    /// Corruption when synced records are damaged or missing; usage for impossible options or when `from` is no boundary;
    /// I/O; whatever `f` returned.
    pub fn recover(place: &LogPlace, from: Lsn, f: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<Recovered> {
        recover(place, from, f)
    }

    /// Opens the log for appending at the end that [`recover`](Self::recover) found, which becomes durable. `part` of
    /// `region` is zeroed. Nobody else uses the log, and nobody did since the recovery.
    ///
    /// # Errors
    /// I/O, in particular when there is no space to save what only the ring held; it may be tried again after a new
    /// recovery.
    pub fn open(
        place: LogPlace,
        region: &Region,
        part: Part<LogShared>,
        recovered: &Recovered,
        next_seqno: SeqNo,
    ) -> Result<Self> {
        place.validate()?;
        place.remove_leftovers()?;
        settle(&place, recovered)?;
        if recovered.ending != Ending::Clean {
            cut(&place, recovered.end)?;
        }
        Self::begin(place, region, part, recovered.end, next_seqno)
    }

    /// Uses a log that another process has opened and whose words are in `region`.
    ///
    /// # Errors
    /// Usage when the options differ; I/O.
    pub fn attach(place: LogPlace, region: &Region, part: Part<LogShared>) -> Result<Self> {
        place.validate()?;
        let ring = Ring::attach(&place)?;
        Ok(Self::new(place, region, part, ring))
    }

    fn begin(place: LogPlace, region: &Region, part: Part<LogShared>, at: Lsn, next_seqno: SeqNo) -> Result<Self> {
        if let Some(dir) = &place.options.archive_dir {
            place.env.create_dir(dir)?;
        }
        // What the segments hold of the block that the log goes on in: it will be written again as a whole.
        let floor = Lsn(at.0 & !(IO_ALIGN as u64 - 1));
        let (mut stream, _) = Stream::open(&place, floor)?;
        let block = stream.bytes(floor, at.since(floor))?.to_vec();
        drop(stream);

        let ring = Ring::create(&place)?;
        ring.put(floor, &block);
        ring.mark(Mark::Written, at);
        ring.mark(Mark::Durable, at);
        let current = place.segment_of(at);
        let existing = place.segments()?;
        let next = existing.last().map_or(current, |&last| current.max(last + 1));
        let log = Self::new(place, region, part, ring);
        let shared = log.shared();
        shared.next_segment.store(next, Ordering::Relaxed);
        shared.archived_below.store(existing.first().copied().unwrap_or(1), Ordering::Relaxed);
        for word in [&shared.insert, &shared.filled, &shared.start, &shared.written, &shared.durable] {
            word.store(at.0, Ordering::Relaxed);
        }
        shared.next_seqno.store(next_seqno.0, Ordering::Release);
        Ok(log)
    }
}

/// Writes what was replayed and may not be on stable storage to segments, from the ring and from the segments themselves,
/// and syncs them.
///
/// What a segment shows is no proof that a sync will keep it: after a sync that failed, the page cache may go on showing
/// bytes that it believes to be clean. Written once more, they are dirty again.
fn settle(place: &LogPlace, recovered: &Recovered) -> Result<()> {
    let start = recovered.ring_from.map_or(recovered.unsynced, |left| left.min(recovered.unsynced));
    if start >= recovered.end {
        return Ok(());
    }
    let image = Image::open(place)?;
    if recovered.ring_from.is_some() && image.is_none() {
        let what = "log buffer is gone since the log was recovered";
        return Err(Error::corruption(&place.dir.join(super::BUFFER_NAME), 0, what));
    }
    let mut from = start.0 & !(IO_ALIGN as u64 - 1);
    let (mut stream, _) = Stream::open(place, Lsn(from))?;
    if let Some(image) = image.as_ref().filter(|_| recovered.ring_from.is_some()) {
        stream.continue_in(image, recovered.switch);
    }
    while from < recovered.end.0 {
        let number = place.segment_of(Lsn(from));
        if !place.segments()?.contains(&number) {
            place.create_segment(number)?;
        }
        let file = place.open_segment(number, true)?;
        let stop = recovered.end.min(place.segment_start(number + 1));
        copy(place, &mut stream, Lsn(from)..stop, &*file)?;
        file.sync()?;
        from = stop.0;
    }
    Ok(())
}

/// Writes a range of the log, from a block boundary on and within one segment, to that segment's file; zeros fill up the
/// last block.
fn copy(place: &LogPlace, stream: &mut Stream<'_>, range: Range<Lsn>, file: &dyn File) -> Result<()> {
    let mut buf = AlignedBuf::zeroed(0);
    for from in (range.start.0..range.end.0).step_by(COPY_LEN as usize) {
        let bytes = stream.bytes(Lsn(from), (range.end.0 - from).min(COPY_LEN))?;
        buf.resize(bytes.len().next_multiple_of(IO_ALIGN));
        buf[..bytes.len()].copy_from_slice(bytes);
        buf[bytes.len()..].fill(0);
        file.write_at(&buf, place.file_offset(Lsn(from)))?;
    }
    Ok(())
}

/// Removes every record at or beyond `end`.
fn cut(place: &LogPlace, end: Lsn) -> Result<()> {
    let number = place.segment_of(end);
    let keep = end.since(place.segment_start(number));
    for later in place.segments()?.into_iter().rev().filter(|&n| n > number || (n == number && keep == 0)) {
        place.env.remove(&place.segment_path(later))?;
        // One at a time, so that never one is missing that has a later one.
        place.env.sync_dir(&place.dir)?;
    }
    if keep == 0 || !place.segments()?.contains(&number) {
        return Ok(());
    }
    let start = place.segment_start(number);
    let (mut stream, _) = Stream::open(place, start)?;
    place.make_segment(number, &mut |file: &dyn File| copy(place, &mut stream, start..end, file))
}
