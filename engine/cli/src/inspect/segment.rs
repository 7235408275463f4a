//! Shows a segment of the log.
//!
//! A record may begin in the segment before; the first that begins here is looked for. One that ends in the segment behind
//! is completed from there. Bytes behind the last record are zeros or what the file held in an earlier life.

use std::sync::Arc;

use ssd_engine::Error;
use ssd_engine::base::ids::Lsn;
use ssd_engine::env::{Env, File, OpenMode};
use ssd_engine::format::log_record::{HEADER_LEN, LogId, Outcome, RECORD_ALIGN, RecordHeader, decode};
use ssd_engine::format::log_segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use ssd_engine::wal::segment_name;

use crate::cells::Cell;
use crate::report::{Report, Section};
use crate::show;

use super::records::Tables;
use super::{Arguments, read, read_all};

/// A segment in memory.
struct Segment<'s> {
    env: &'s Arc<dyn Env>,
    file: &'s Arc<dyn File>,
    header: SegmentHeader,
    data: Vec<u8>,
}

/// Adds what the segment holds.
pub(super) fn show(
    env: &Arc<dyn Env>,
    file: &Arc<dyn File>,
    arguments: &Arguments,
    report: &mut Report,
) -> Result<(), Error> {
    let mut data = read_all(&**file)?;
    let header = SegmentHeader::decode(data.get(..SEGMENT_HEADER_LEN).unwrap_or(&data))
        .map_err(|what| Error::corruption(file.path(), 0, what))?;
    data.drain(..SEGMENT_HEADER_LEN);
    let segment = Segment { env, file, header, data };
    let mut head = Section::new("segment");
    head.field("number", header.number);
    head.field("uuid", show::hex(&header.uuid));
    head.field("start", header.start());
    head.field("data bytes", Cell::Size(header.data_len));
    let mut tables = Tables::new(arguments);
    let outcome = segment.walk(&mut tables, &mut head, report);
    report.add(head);
    let with_entries = tables.with_entries();
    report.add(tables.records);
    if with_entries {
        report.add(tables.entries);
    }
    outcome?;
    let (found, want) = (segment.data.len() as u64, header.data_len);
    if found != want {
        let what = format!("segment has {found} bytes of data instead of {want}");
        return Err(Error::corruption(file.path(), SEGMENT_HEADER_LEN as u64 + found.min(want), what));
    }
    Ok(())
}

impl Segment<'_> {
    fn walk(&self, tables: &mut Tables, head: &mut Section, report: &mut Report) -> Result<(), Error> {
        let mut at = 0;
        let mut count = 0u64;
        let mut end = None;
        while let Some(found) = self.next_record(at) {
            let (start, header) = found;
            // Before the first record stands the end of another; between two, damage.
            if start > at && count > 0 {
                let what = format!("no record at {}, but one follows at {}", self.lsn(at), header.lsn);
                report.take(Err(Error::corruption(self.file.path(), self.offset(at), what)))?;
            }
            let body = self.body(start, &header)?;
            let body = body.as_deref().ok_or("continues in a segment that is not there");
            if let Some(why) = tables.push(&header, self.offset(start), body) {
                let what = format!("log record at {}: {why}", header.lsn);
                report.take(Err(Error::corruption(self.file.path(), self.offset(start), what)))?;
            }
            count += 1;
            end = Some(header.end());
            at = start.saturating_add(header.record_len() as usize);
        }
        head.field("records", count);
        head.field("records end", end.map_or(Cell::Nothing, Cell::from));
        Ok(())
    }

    fn lsn(&self, at: usize) -> Lsn {
        self.header.start().plus(at as u64)
    }

    fn offset(&self, at: usize) -> u64 {
        (SEGMENT_HEADER_LEN + at) as u64
    }

    /// The first record that starts at or behind `from`.
    fn next_record(&self, from: usize) -> Option<(usize, RecordHeader)> {
        let id = LogId::of(self.header.uuid);
        (from..self.data.len()).step_by(RECORD_ALIGN).find_map(|at| {
            match decode(self.data.get(at..)?, self.lsn(at), id) {
                Outcome::Header(header) => Some((at, header)),
                _ => None,
            }
        })
    }

    /// The body of the record at `at`, completed from the segments behind; `None` when they are not there.
    fn body(&self, at: usize, header: &RecordHeader) -> Result<Option<Vec<u8>>, Error> {
        let len = header.record_len() as usize - HEADER_LEN;
        let start = (at + HEADER_LEN).min(self.data.len());
        let mut body = self.data[start..self.data.len().min(start + len)].to_vec();
        let mut number = self.header.number;
        while body.len() < len {
            number += 1;
            let path = self.file.path().with_file_name(segment_name(number));
            let Ok(next) = self.env.open(&path, OpenMode::READ) else { return Ok(None) };
            let here = next.len()?.saturating_sub(SEGMENT_HEADER_LEN as u64).min((len - body.len()) as u64);
            if here == 0 {
                return Ok(None);
            }
            body.extend(read(&*next, SEGMENT_HEADER_LEN as u64, here as usize)?);
        }
        Ok(Some(body))
    }
}
