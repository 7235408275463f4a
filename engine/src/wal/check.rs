//! The integrity check: reads every segment and every record, and reports what it finds instead of stopping at it.

use std::path::PathBuf;

use super::recover::{Scanner, recover};
use super::ring::Image;
use super::stream::Stream;
use super::{Ending, LogPlace};
use crate::base::ids::{Lsn, SeqNo};
use crate::error::{Error, Result};
use crate::format::log_record::{RECORD_ALIGN, RecordKind};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckLine {
    /// A segment with a sound header and the right length.
    Segment {
        /// Its number.
        number: u64,
        /// Position of its first byte of data.
        start: Lsn,
        /// Its file.
        path: PathBuf,
    },
    /// A record that checks out.
    Record {
        /// What it is.
        kind: RecordKind,
        /// Where it starts.
        lsn: Lsn,
        /// The first of the sequence numbers it took.
        first: SeqNo,
        /// How many sequence numbers it took.
        count: u32,
        /// Length of its payload as stored.
        stored_len: u32,
        /// Length of its payload.
        raw_len: u32,
        /// How far the log was known to be synced when it was appended.
        synced: Lsn,
    },
    /// Damage.
    Problem {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Where the log ends; the last line.
    End {
        /// The end of the last record.
        lsn: Lsn,
        /// Records that check out, with noops.
        records: u64,
        /// Whether unsynced records at or beyond the end are incomplete. Legal after a crash.
        torn: bool,
    },
}

/// Checks the log in `place` from `from`, a record boundary, or from the first record that is found when `None`. Changes
/// nothing; the log must not be in use. Damage is reported, not returned: after a damaged record the check goes on at the
/// next one that is found. Only when segments themselves are damaged or missing, their records are not looked at, and there
/// is no [`CheckLine::End`].
///
/// # Errors
/// I/O; usage for impossible options.
pub fn check(place: &LogPlace, from: Option<Lsn>, report: &mut dyn FnMut(&CheckLine)) -> Result<()> {
    place.validate()?;
    let Some(lowest) = check_segments(place, from.map_or(0, |from| place.segment_of(from)), report)? else {
        return Ok(());
    };
    let first = from.unwrap_or(place.segment_start(lowest));
    let (stream, _) = Stream::open(place, first)?;
    let mut walk =
        Walk { until: stream.segments_end(), scanner: Scanner::new(place, stream), place, records: 0, problems: 0 };
    let start = match from {
        Some(from) => from,
        None => walk.find(first)?.map_or(first, |found| found.next),
    };
    let mut end = walk.records(start, report)?;
    let image = Image::open(place)?;
    if let Some(image) = &image {
        walk.scanner.stream.continue_in(image, image.written.unwrap_or(end));
        end = walk.records_in_ring(end, report)?;
    }
    let mut torn = false;
    if walk.problems == 0 {
        // The verdict on the end is that of a recovery.
        match recover(place, start, &mut |_| Ok(())) {
            Ok(recovered) => torn = recovered.ending != Ending::Clean,
            Err(Error::Corruption { path, offset, what }) => report(&CheckLine::Problem { path, offset, what }),
            Err(other) => return Err(other),
        }
    }
    report(&CheckLine::End { lsn: end, records: walk.records, torn });
    Ok(())
}

/// Where the first record starts that is found in segments; `None` when there is none. What stands before it is the end of
/// a record that began in a segment that is gone.
///
/// # Errors
/// Corruption of a segment's header; I/O; usage for impossible options.
pub fn first_record(place: &LogPlace) -> Result<Option<Lsn>> {
    place.validate()?;
    let Some(&lowest) = place.segments()?.first() else { return Ok(None) };
    let first = place.segment_start(lowest);
    let (stream, _) = Stream::open(place, first)?;
    let until = stream.segments_end();
    let mut walk = Walk { until, scanner: Scanner::new(place, stream), place, records: 0, problems: 0 };
    Ok(walk.find(first)?.map(|found| found.next))
}

/// Checks headers, lengths and numbering of the segments from number `from` on. The lowest number, or `None` after a
/// problem.
fn check_segments(place: &LogPlace, from: u64, report: &mut dyn FnMut(&CheckLine)) -> Result<Option<u64>> {
    let numbers: Vec<_> = place.segments()?.into_iter().filter(|&number| number >= from).collect();
    let mut sound = true;
    for (at, &number) in numbers.iter().enumerate() {
        match place.open_segment(number, false) {
            Ok(_) => {
                let (start, path) = (place.segment_start(number), place.segment_path(number));
                report(&CheckLine::Segment { number, start, path });
            }
            Err(Error::Corruption { path, offset, what }) => {
                sound = false;
                report(&CheckLine::Problem { path, offset, what });
            }
            Err(other) => return Err(other),
        }
        if at > 0 && numbers[at - 1] + 1 != number {
            sound = false;
            let path = place.segment_path(numbers[at - 1] + 1);
            let what = format!("segment is missing although segment {number:06} exists");
            report(&CheckLine::Problem { path, offset: 0, what });
        }
    }
    Ok(sound.then(|| numbers.first().copied().unwrap_or(from.max(1))))
}

struct Walk<'p> {
    place: &'p LogPlace,
    scanner: Scanner<'p>,
    until: Lsn,
    records: u64,
    problems: u64,
}

/// What lies beyond a place without a sound record.
struct Found {
    /// Where the next record starts.
    next: Lsn,
    /// Whether some record there says that the log was synced beyond the place.
    hole: bool,
}

impl Walk<'_> {
    /// Reports the records from `at` on in segments, over damaged ones; returns where the log ends.
    fn records(&mut self, mut at: Lsn, report: &mut dyn FnMut(&CheckLine)) -> Result<Lsn> {
        loop {
            let why = match self.read(at, report)? {
                Ok(end) => {
                    at = end;
                    continue;
                }
                Err(why) => why,
            };
            match self.find(at.plus(RECORD_ALIGN as u64))? {
                Some(Found { next, hole: true }) => {
                    let path = self.place.segment_path(self.place.segment_of(at));
                    let offset = self.place.file_offset(at);
                    report(&CheckLine::Problem { path, offset, what: format!("log record at {at}: {why}") });
                    self.problems += 1;
                    at = next;
                }
                _ => return Ok(at),
            }
        }
    }

    fn records_in_ring(&mut self, mut at: Lsn, report: &mut dyn FnMut(&CheckLine)) -> Result<Lsn> {
        while let Ok(end) = self.read(at, report)? {
            at = end;
        }
        Ok(at)
    }

    /// Reports the record at `at` and returns its end, or why there is none.
    fn read(&mut self, at: Lsn, report: &mut dyn FnMut(&CheckLine)) -> Result<Result<Lsn, &'static str>> {
        let header = match self.scanner.read(at)? {
            Ok((header, _)) => header,
            Err(why) => return Ok(Err(why)),
        };
        self.records += 1;
        report(&CheckLine::Record {
            kind: header.kind,
            lsn: header.lsn,
            first: header.first,
            count: header.count,
            stored_len: header.stored_len,
            raw_len: header.raw_len,
            synced: header.synced,
        });
        Ok(Ok(header.end()))
    }

    /// The first record that starts at or beyond `from`, and whether any says that the log was synced that far.
    fn find(&mut self, from: Lsn) -> Result<Option<Found>> {
        let mut found: Option<Found> = None;
        self.scanner.headers(from, self.until, &mut |header| {
            let found = found.get_or_insert(Found { next: header.lsn, hole: false });
            found.hole |= header.synced >= from;
            !found.hole
        })?;
        Ok(found)
    }
}
