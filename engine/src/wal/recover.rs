//! Replay, and the verdict on how the log ends.
//!
//! Replay reads records from segments until one does not check out, goes on in the ring an earlier life left behind, and
//! ends where the ring has no further record either. Then the end is judged:
//!
//! - *Hole*: something proves that the log had been synced beyond the end: a later record that says so, the buffer's
//!   durable mark, or a segment after a missing one. Acknowledged writes are damaged: an error, never a shorter log.
//! - *Torn tail*: bytes of unsynced records at or beyond the end. Legal after a power failure: none was acknowledged as
//!   durable. They are cut off before the log goes on.
//! - *Clean*: nothing of the log at or beyond the end.
//!
//! A flipped bit in the very last synced records is told from a torn tail only by the durable mark, which a power failure
//! may have lost; `Log::close` ends the log with a record that says how far it was synced, for that reason.

use super::LogPlace;
use super::ring::Image;
use super::stream::Stream;
use crate::base::ids::{Lsn, SeqNo};
use crate::error::{Error, Result};
use crate::format::log_record::{HEADER_LEN, LSN_MAX, LogId, Outcome, RECORD_ALIGN, RecordHeader, RecordKind, decode};

/// A record as replay hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is; never a noop.
    pub kind: RecordKind,
    /// Where it starts.
    pub lsn: Lsn,
    /// Where the next one starts.
    pub end: Lsn,
    /// The first of the sequence numbers it took.
    pub first: SeqNo,
    /// How many sequence numbers it took.
    pub count: u64,
    /// What was appended.
    pub payload: &'a [u8],
}

/// How the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing of the log at or beyond the end.
    Clean,
    /// A record that was never synced is incomplete or missing.
    TornTail {
        /// Where the record that does not check out starts: the end.
        lsn: Lsn,
    },
}

/// What replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the log ends: the end of the last record, or `from` when there was none.
    pub end: Lsn,
    /// Records handed out.
    pub records: u64,
    /// The largest sequence number they took; 0 when they took none.
    pub last_seqno: SeqNo,
    /// How the log ended.
    pub ending: Ending,
    /// Where replay left the segments for the ring; `None` when it found no record there.
    pub(super) ring_from: Option<Lsn>,
    /// The replayed bytes below this position are in segments, those from it on in the ring.
    pub(super) switch: Lsn,
    /// What was replayed from here on may not be on stable storage.
    pub(super) unsynced: Lsn,
}

/// What follows the end.
struct Tail {
    /// Whether any record, damaged or not, starts there.
    records: bool,
    /// A record that proves a sync beyond the end, and how far.
    proof: Option<(Lsn, Lsn)>,
}

/// Reads records one after the other; shared by replay and the integrity check.
pub(super) struct Scanner<'p> {
    pub(super) stream: Stream<'p>,
    id: LogId,
    raw: Vec<u8>,
}

impl<'p> Scanner<'p> {
    pub(super) fn new(place: &'p LogPlace, stream: Stream<'p>) -> Self {
        Self { stream, id: LogId::of(place.uuid), raw: Vec::new() }
    }

    /// The record at `at` and its payload, or why there is none.
    pub(super) fn read(&mut self, at: Lsn) -> Result<Result<(RecordHeader, &[u8]), &'static str>> {
        let header = match decode(self.stream.bytes(at, HEADER_LEN as u64)?, at, self.id) {
            Outcome::Header(header) => header,
            Outcome::Empty => return Ok(Err("there is no record")),
            Outcome::Stale { .. } => return Ok(Err("the bytes belong to another position")),
            Outcome::Bad(why) => return Ok(Err(why)),
            Outcome::Short => return Ok(Err("the log has no more bytes")),
        };
        let bytes = self.stream.bytes(at, header.record_len())?;
        let body = bytes.get(HEADER_LEN..).unwrap_or_default();
        if let Err(why) = header.check_payload(body) {
            return Ok(Err(why));
        }
        let stored = &body[..header.stored_len as usize];
        Ok(header.expand(stored, &mut self.raw).map(|payload| (header, payload)))
    }

    /// Calls `found` for the header of each record that starts at or after `from` and is in segments, up to `end`, until
    /// it returns false. Payloads are not checked.
    pub(super) fn headers(&mut self, from: Lsn, end: Lsn, found: &mut dyn FnMut(&RecordHeader) -> bool) -> Result<()> {
        const STEP: u64 = 256 << 10;
        const LSN_AT: usize = 16;
        let mut start = from;
        while start < end {
            // Headers that begin in this step may reach beyond it.
            let bytes = self.stream.bytes(start, STEP + HEADER_LEN as u64)?;
            let starts = bytes.len().min(STEP as usize);
            for at in (0..starts).step_by(RECORD_ALIGN) {
                let Some(lsn) = bytes.get(at + LSN_AT..at + LSN_AT + 8) else { break };
                let here = start.plus(at as u64);
                if lsn != here.0.to_le_bytes() {
                    continue;
                }
                if let Outcome::Header(header) = decode(&bytes[at..], here, self.id)
                    && !found(&header)
                {
                    return Ok(());
                }
            }
            start = start.plus(STEP);
        }
        Ok(())
    }
}

/// Replays the log of `place` from `from`, a record boundary, calling `f` for each record but noops.
pub(super) fn recover(place: &LogPlace, from: Lsn, f: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<Recovered> {
    place.validate()?;
    if !from.0.is_multiple_of(RECORD_ALIGN as u64) || from >= LSN_MAX {
        return Err(Error::usage(format!("log position {from} is no record boundary"), "Replay from a boundary."));
    }
    place.check_segment_size()?;
    let image = Image::open(place)?;
    let (stream, beyond) = Stream::open(place, from)?;
    if let Some(number) = beyond.first() {
        let missing = stream.segments_end().max(from);
        let what = format!("segment is missing although segment {number:06} exists");
        return Err(Error::corruption(&place.segment_path(place.segment_of(missing)), 0, what));
    }
    let mut scanner = Scanner::new(place, stream);
    let mut state = Recovered {
        end: from,
        records: 0,
        last_seqno: SeqNo(0),
        ending: Ending::Clean,
        ring_from: None,
        switch: Lsn(u64::MAX),
        unsynced: from,
    };
    let mut why = replay(&mut scanner, &mut state, f)?;
    if let Some(image) = &image {
        let left = state.end;
        // What was read from segments checked out there; of the buffer, a power failure may have kept only parts. Without
        // its mark the buffer still has what follows the last record that segments have whole.
        state.switch = image.written.map_or(left, |written| written.max(left));
        scanner.stream.continue_in(image, state.switch);
        let why_ring = replay(&mut scanner, &mut state, f)?;
        if state.end > left {
            (state.ring_from, why) = (Some(left), why_ring);
        }
    }
    if let Some(durable) = image.as_ref().and_then(|image| image.durable) {
        state.unsynced = durable.max(from);
    }
    judge(place, &mut state, image.as_ref(), why)?;
    Ok(state)
}

/// Hands out records from `state.end` on until one does not check out; returns why it does not.
fn replay(
    scanner: &mut Scanner<'_>,
    state: &mut Recovered,
    f: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<&'static str> {
    loop {
        let (header, payload) = match scanner.read(state.end)? {
            Ok(record) => record,
            Err(why) => return Ok(why),
        };
        let RecordHeader { kind, lsn, first, .. } = header;
        let (end, count) = (header.end(), u64::from(header.count));
        if kind != RecordKind::Noop {
            f(&Record { kind, lsn, end, first, count, payload })?;
            state.records += 1;
        }
        if count > 0 {
            state.last_seqno = state.last_seqno.max(SeqNo(first.0.saturating_add(count - 1)));
        }
        state.end = end;
    }
}

/// Sets the ending, or refuses the log when it ends before a position that was synced.
fn judge(place: &LogPlace, state: &mut Recovered, image: Option<&Image>, why: &str) -> Result<()> {
    let end = state.end;
    let hole = |proof: String| place.corrupt(end, format!("log record at {end}: {why}, although {proof}"));
    if let Some(durable) = image.and_then(|image| image.durable).filter(|&durable| durable > end) {
        return Err(hole(format!("the log buffer says that the log was synced up to {durable}")));
    }
    if image.is_some_and(|image| image.closed == Some(end)) {
        return Ok(());
    }
    let tail = look_beyond(place, end)?;
    if let Some((record, synced)) = tail.proof {
        return Err(hole(format!("the record at {record} says that the log was synced up to {synced}")));
    }
    if tail.records {
        state.ending = Ending::TornTail { lsn: end };
    }
    Ok(())
}

/// Looks for records in segments at and beyond `end`.
fn look_beyond(place: &LogPlace, end: Lsn) -> Result<Tail> {
    let (mut stream, _) = Stream::open(place, end)?;
    let until = stream.segments_end();
    let here = decode(stream.bytes(end, HEADER_LEN as u64)?, end, LogId::of(place.uuid));
    let mut tail = Tail { records: matches!(here, Outcome::Bad(_)), proof: None };
    Scanner::new(place, stream).headers(end, until, &mut |header| {
        tail.records = true;
        if header.synced > end {
            tail.proof = Some((header.lsn, header.synced));
        }
        tail.proof.is_none()
    })?;
    Ok(tail)
}
