//! Segment files: their names, their creation (fresh or from a spare) and their way to the spares.
//!
//! Names in the log's directory:
//! - `{number}.wal`: a segment. Its header and full length are on stable storage (invariant 3 of the log).
//! - `{number}.spare`: a segment that replay no longer needs, or a file of zeros made ahead of need; to be made a segment.
//! - `{number}.new`, `{number}.blank`: a file on its way to becoming a segment or a spare; worthless after a crash.
//!
//! Space that was written before is what a durable write should meet: in freshly allocated space it waits for the file
//! system's journal, too. On a busy machine with a virtual disk and ext4, the best tenth of 1000 direct writes of 4 KiB took
//! 79 to 108 µs against 125 to 174 µs (`examples/log_speed.rs`). So background work fills spares with zeros, where durable
//! writes are what the log does; a segment that is needed at once is only allocated, and so is one of a log that is seldom
//! synced, which would pay for the zeros with half of its bandwidth.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{LogOptions, LogPlace};
use crate::base::ids::Lsn;
use crate::base::limits::IO_ALIGN;
use crate::env::{Env, File, OpenMode};
use crate::error::{Error, Result};
use crate::format::log_segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::mem::aligned::AlignedBuf;

/// Name of the file that holds the ring.
pub const BUFFER_NAME: &str = "LOGBUF";

const SEGMENT: &str = "wal";
const SPARE: &str = "spare";
const NEW: &str = "new";
const BLANK: &str = "blank";

/// Bytes zeroed with one write when a spare is filled.
const FILL_LEN: u64 = 1 << 20;

/// The file name of segment `number`.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("{number:06}.{SEGMENT}")
}

/// The number of the segment called `name`; `None` for any other file.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<u64> {
    parse(name, SEGMENT)
}

fn parse(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let number = digits.parse().ok()?;
    (number > 0 && format!("{number:06}") == digits).then_some(number)
}

/// How a segment came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Fresh,
    Recycled,
}

impl LogPlace {
    /// The log in `dir` as its lowest segment with a sound header describes it; `None` when there is no such segment. For
    /// who looks at a log without the options that it is kept with.
    ///
    /// # Errors
    /// I/O.
    pub fn discover(env: &Arc<dyn Env>, dir: &Path, direct: bool) -> Result<Option<Self>> {
        let options = LogOptions { direct, ..LogOptions::default() };
        let mut place = Self { env: Arc::clone(env), dir: dir.to_owned(), uuid: [0; 16], options };
        for number in place.segments()? {
            let mut bytes = [0; SEGMENT_HEADER_LEN];
            let len = env.open(&place.segment_path(number), OpenMode::READ)?.read_at(&mut bytes, 0)?;
            if let Ok(header) = SegmentHeader::decode(&bytes[..len])
                && header.number == number
            {
                (place.uuid, place.options.segment_bytes) = (header.uuid, header.data_len);
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Refuses options with another segment size than the log has. By another size every segment seems to be missing or
    /// misplaced, so this comes before anything else is said about them.
    pub(super) fn check_segment_size(&self) -> Result<()> {
        match Self::discover(&self.env, &self.dir, self.options.direct)? {
            Some(found) if found.options.segment_bytes != self.options.segment_bytes => {
                let path = self.segment_path(self.segments()?.first().copied().unwrap_or(1));
                Err(self.other_size(&path, found.options.segment_bytes))
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn other_size(&self, path: &Path, found: u64) -> Error {
        let wanted = self.options.segment_bytes;
        Error::usage(
            format!(
                "log segment \"{}\" has {found} bytes of data, option log_segment_bytes is {wanted}",
                path.display()
            ),
            format!("Set log_segment_bytes to {found}, which the log was created with."),
        )
    }

    /// Where the data of the lowest segment begins and that of the highest ends.
    ///
    /// # Errors
    /// I/O.
    pub fn data_range(&self) -> Result<(Lsn, Lsn)> {
        let numbers = self.segments()?;
        let first = numbers.first().copied().unwrap_or(1);
        let last = numbers.last().copied().unwrap_or(0);
        Ok((self.segment_start(first), self.segment_start(last + 1)))
    }

    /// Bytes of a segment file.
    pub(super) fn file_len(&self) -> u64 {
        SEGMENT_HEADER_LEN as u64 + self.options.segment_bytes
    }

    /// The number of the segment that holds the byte at `lsn`.
    pub(super) fn segment_of(&self, lsn: Lsn) -> u64 {
        lsn.0 / self.options.segment_bytes + 1
    }

    /// Position of the first byte of segment `number`.
    pub(super) fn segment_start(&self, number: u64) -> Lsn {
        Lsn((number - 1) * self.options.segment_bytes)
    }

    /// Where the byte at `lsn` is in its segment's file.
    pub(super) fn file_offset(&self, lsn: Lsn) -> u64 {
        SEGMENT_HEADER_LEN as u64 + lsn.0 % self.options.segment_bytes
    }

    /// Path of segment `number`.
    pub(super) fn segment_path(&self, number: u64) -> PathBuf {
        self.dir.join(segment_name(number))
    }

    /// A corruption of the byte at `lsn`.
    pub(super) fn corrupt(&self, lsn: Lsn, what: impl Into<String>) -> Error {
        Error::corruption(&self.segment_path(self.segment_of(lsn)), self.file_offset(lsn), what)
    }

    fn numbers(&self, extension: &str) -> Result<Vec<u64>> {
        let names = self.env.list(&self.dir)?;
        let mut numbers: Vec<_> = names.iter().filter_map(|name| parse(name, extension)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Numbers of the segments that exist, rising.
    pub(super) fn segments(&self) -> Result<Vec<u64>> {
        self.numbers(SEGMENT)
    }

    /// Numbers of the spares that exist, rising.
    pub(super) fn spares(&self) -> Result<Vec<u64>> {
        self.numbers(SPARE)
    }

    /// Removes what creations left behind when the process died.
    pub(super) fn remove_leftovers(&self) -> Result<()> {
        for extension in [NEW, BLANK] {
            for number in self.numbers(extension)? {
                self.env.remove(&self.dir.join(format!("{number:06}.{extension}")))?;
            }
        }
        Ok(())
    }

    /// Opens segment `number`, whose header and length must be right.
    pub(super) fn open_segment(&self, number: u64, write: bool) -> Result<Arc<dyn File>> {
        let path = self.segment_path(number);
        let file = self.env.open(&path, OpenMode { write, direct: self.options.direct, ..OpenMode::READ })?;
        let mut bytes = AlignedBuf::zeroed(SEGMENT_HEADER_LEN);
        let len = file.read_at(&mut bytes, 0)?;
        let header = SegmentHeader::decode(&bytes[..len]).map_err(|what| Error::corruption(&path, 0, what))?;
        if header.number != number {
            let what = format!("segment header is that of segment {}", header.number);
            return Err(Error::corruption(&path, 0, what));
        }
        if header.uuid != self.uuid {
            return Err(Error::corruption(&path, 0, "segment belongs to another engine"));
        }
        if header.data_len != self.options.segment_bytes {
            return Err(self.other_size(&path, header.data_len));
        }
        let len = file.len()?;
        if len != self.file_len() {
            let what = format!("segment has {len} bytes instead of {}", self.file_len());
            return Err(Error::corruption(&path, len.min(self.file_len()), what));
        }
        Ok(file)
    }

    /// Makes segment `number` from a spare, or anew when there is none. What it holds after its header is zeros or
    /// records of other positions.
    pub(super) fn create_segment(&self, number: u64) -> Result<Origin> {
        for spare in self.spares()? {
            if self.reuse(spare, number)? {
                return Ok(Origin::Recycled);
            }
        }
        self.make_segment(number, &mut |_| Ok(()))?;
        Ok(Origin::Fresh)
    }

    /// Turns a spare into segment `number`; false when its length is not right (then it is removed).
    fn reuse(&self, spare: u64, number: u64) -> Result<bool> {
        let path = self.dir.join(format!("{spare:06}.{SPARE}"));
        let file = self.env.open(&path, OpenMode { direct: self.options.direct, ..OpenMode::WRITE })?;
        if file.len()? != self.file_len() {
            drop(file);
            self.env.remove(&path)?;
            return Ok(false);
        }
        file.write_sync_at(&self.header(number), 0)?;
        drop(file);
        self.env.rename(&path, &self.segment_path(number))?;
        self.env.sync_dir(&self.dir)?;
        Ok(true)
    }

    /// Makes segment `number` anew, in place of the one that may exist; `fill` writes what it shall hold.
    pub(super) fn make_segment(&self, number: u64, fill: &mut dyn FnMut(&dyn File) -> Result<()>) -> Result<()> {
        self.make_file(number, (NEW, SEGMENT), fill)?;
        self.env.sync_dir(&self.dir)
    }

    /// Makes a spare ahead of need, named after segment `number`; filled with zeros, or only allocated.
    pub(super) fn make_spare(&self, number: u64, filled: bool) -> Result<()> {
        if !filled {
            return self.make_file(number, (BLANK, SPARE), &mut |_| Ok(()));
        }
        let zeros = AlignedBuf::zeroed(FILL_LEN.min(self.options.segment_bytes) as usize);
        self.make_file(number, (BLANK, SPARE), &mut |file| {
            let mut offset = SEGMENT_HEADER_LEN as u64;
            while offset < self.file_len() {
                let len = (self.file_len() - offset).min(zeros.len() as u64);
                file.write_at(&zeros[..len as usize], offset)?;
                offset += len;
            }
            Ok(())
        })
    }

    /// Makes a file of a segment's length under its first name, fills and syncs it, and gives it its second name.
    fn make_file(
        &self,
        number: u64,
        (first, second): (&str, &str),
        fill: &mut dyn FnMut(&dyn File) -> Result<()>,
    ) -> Result<()> {
        let path = self.dir.join(format!("{number:06}.{first}"));
        match self.env.remove(&path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            other => other?,
        }
        let made = self.fill_file(number, &path, fill);
        if made.is_err() {
            // The space it took may be what others wait for. The first error is the one to report.
            let _ = self.env.remove(&path);
            return made;
        }
        self.env.rename(&path, &self.dir.join(format!("{number:06}.{second}")))
    }

    fn fill_file(&self, number: u64, path: &Path, fill: &mut dyn FnMut(&dyn File) -> Result<()>) -> Result<()> {
        let file = self.env.open(path, OpenMode { direct: self.options.direct, ..OpenMode::CREATE })?;
        file.allocate(self.file_len())?;
        file.write_at(&self.header(number), 0)?;
        fill(&*file)?;
        file.sync()
    }

    fn header(&self, number: u64) -> AlignedBuf {
        let mut bytes = AlignedBuf::zeroed(SEGMENT_HEADER_LEN);
        SegmentHeader { number, data_len: self.options.segment_bytes, uuid: self.uuid }.encode(&mut bytes);
        bytes
    }

    /// Turns segment `number` into a spare.
    pub(super) fn retire_segment(&self, number: u64) -> Result<()> {
        self.env.rename(&self.segment_path(number), &self.dir.join(format!("{number:06}.{SPARE}")))
    }
}

const _: () = assert!(SEGMENT_HEADER_LEN == IO_ALIGN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_ignored() {
        for number in [1, 42, 999_999, 1_000_000, u64::MAX] {
            assert_eq!(parse(&segment_name(number), SEGMENT), Some(number));
        }
        for name in ["000000.wal", "1.wal", "0000001.wal", "+00001.wal", "000001.spare", "000001", ".wal", "000001wal"]
        {
            assert_eq!(parse(name, SEGMENT), None, "{name}");
        }
    }
}
