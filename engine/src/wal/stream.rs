//! The log as a readable stream of bytes: segments, and from some position on the ring.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::LogPlace;
use super::ring::Image;
use crate::base::ids::Lsn;
use crate::base::limits::IO_ALIGN;
use crate::env::File;
use crate::error::Result;
use crate::mem::aligned::AlignedBuf;

/// Bytes read at once.
const CHUNK: u64 = 1 << 20;

/// Reads the log by position. Keeps a window of it in memory.
pub(super) struct Stream<'p> {
    place: &'p LogPlace,
    segments: BTreeMap<u64, Arc<dyn File>>,
    /// From this position on, bytes come from the ring.
    ring: Option<(&'p Image, Lsn)>,
    buf: AlignedBuf,
    window: Range<u64>,
}

impl<'p> Stream<'p> {
    /// Opens the segments that hold `from` and what follows, without gaps: the numbers after a missing one are returned.
    pub(super) fn open(place: &'p LogPlace, from: Lsn) -> Result<(Self, Vec<u64>)> {
        let first = place.segment_of(from);
        let (mut segments, mut beyond) = (BTreeMap::new(), Vec::new());
        for number in place.segments()?.into_iter().filter(|&number| number >= first) {
            if number == first + segments.len() as u64 {
                segments.insert(number, place.open_segment(number, false)?);
            } else {
                beyond.push(number);
            }
        }
        Ok((Self { place, segments, ring: None, buf: AlignedBuf::zeroed(0), window: 0..0 }, beyond))
    }

    /// From `switch` on, takes bytes from the ring.
    pub(super) fn continue_in(&mut self, ring: &'p Image, switch: Lsn) {
        self.ring = Some((ring, switch));
        self.window = 0..0;
    }

    /// Where the segments end: the byte after the last one that exists.
    pub(super) fn segments_end(&self) -> Lsn {
        self.segments.last_key_value().map_or(Lsn(0), |(&number, _)| self.place.segment_start(number + 1))
    }

    /// Where the stream ends.
    fn end(&self) -> Lsn {
        match self.ring {
            Some((image, switch)) => Lsn((switch.0 & !(IO_ALIGN as u64 - 1)) + image.ring_len()),
            None => self.segments_end(),
        }
    }

    /// The `len` bytes at `at`; fewer where the stream ends.
    pub(super) fn bytes(&mut self, at: Lsn, len: u64) -> Result<&[u8]> {
        let end = self.end().0.min(at.0 + len).max(at.0);
        if at.0 < self.window.start || end > self.window.end {
            self.load(at, end)?;
        }
        let skip = (at.0 - self.window.start) as usize;
        Ok(&self.buf[skip..skip + (end - at.0) as usize])
    }

    /// Moves the window so that it covers `at..end`.
    fn load(&mut self, at: Lsn, end: u64) -> Result<()> {
        let unit = IO_ALIGN as u64;
        let start = at.0 & !(unit - 1);
        let stop = end.max((start + CHUNK).min(self.end().0)).next_multiple_of(unit);
        self.window = 0..0;
        self.buf.resize((stop - start) as usize);
        self.buf.fill(0);
        let mut from = start;
        while from < stop {
            let number = self.place.segment_of(Lsn(from));
            let to = stop.min(self.place.segment_start(number + 1).0);
            let out = &mut self.buf[(from - start) as usize..(to - start) as usize];
            if let Some(file) = self.segments.get(&number) {
                file.read_at(out, self.place.file_offset(Lsn(from)))?;
            }
            from = to;
        }
        if let Some((image, switch)) = self.ring {
            let from = switch.0.max(start);
            if from < stop {
                image.get(Lsn(from), &mut self.buf[(from - start) as usize..])?;
            }
        }
        self.window = start..stop;
        Ok(())
    }
}
