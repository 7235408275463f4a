//! Shows `LOGBUF`, the ring with the newest bytes of the log.

use std::sync::Arc;

use ssd_engine::Error;
use ssd_engine::base::ids::Lsn;
use ssd_engine::env::File;
use ssd_engine::format::log_buffer::{BUFFER_HEADER_LEN, BUFFER_HEADER_WORDS, BufferHeader, Mark};
use ssd_engine::format::log_record::{HEADER_LEN, LogId, Outcome, RECORD_ALIGN, RecordHeader, decode};

use crate::cells::Cell;
use crate::report::{Report, Section};
use crate::show;

use super::records::Tables;
use super::{Arguments, read_all};

/// Where a record's own position stands in its header.
const LSN_AT: usize = 16;

/// Adds what the ring holds.
pub(super) fn show(file: &Arc<dyn File>, arguments: &Arguments, report: &mut Report) -> Result<(), Error> {
    let bytes = read_all(&**file)?;
    let head = bytes.get(..BUFFER_HEADER_WORDS * 8).unwrap_or(&bytes);
    let words: Vec<_> = head.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let header = BufferHeader::decode(&words).map_err(|what| Error::corruption(file.path(), 0, what))?;
    let ring = bytes.get(BUFFER_HEADER_LEN..).unwrap_or_default();
    let mut section = Section::new("log buffer");
    section.field("uuid", show::hex(&header.uuid));
    section.field("ring bytes", Cell::Size(header.ring_len));
    for (name, mark) in [("written", Mark::Written), ("durable", Mark::Durable), ("closed", Mark::Closed)] {
        section.field(name, mark.get(&words).map_or(Cell::Nothing, Cell::from));
    }
    if ring.len() as u64 != header.ring_len {
        report.add(section);
        let what = format!("ring has {} bytes instead of {}", ring.len(), header.ring_len);
        return Err(Error::corruption(file.path(), bytes.len() as u64, what));
    }
    let mut tables = Tables::new(arguments);
    let found = records(ring, LogId::of(header.uuid));
    section.field("records", found.len());
    section.field("records end", found.last().map_or(Cell::Nothing, |last| last.end().into()));
    report.add(section);
    for record in &found {
        let at = (record.lsn.0 % header.ring_len) as usize;
        let body = around(ring, at + HEADER_LEN, record.record_len() as usize - HEADER_LEN);
        // The oldest records are partly overwritten by the newest: that is how a ring works, not damage.
        let _ = tables.push(record, (BUFFER_HEADER_LEN + at) as u64, body.as_deref().ok_or("longer than the ring"));
    }
    let with_entries = tables.with_entries();
    report.add(tables.records);
    if with_entries {
        report.add(tables.entries);
    }
    Ok(())
}

/// The headers in the ring, in the order of the log.
fn records(ring: &[u8], id: LogId) -> Vec<RecordHeader> {
    let mut found = Vec::new();
    for at in (0..ring.len()).step_by(RECORD_ALIGN) {
        let Some(lsn) = around(ring, at + LSN_AT, 8).and_then(|bytes| bytes.first_chunk().copied()) else { continue };
        let lsn = Lsn(u64::from_le_bytes(lsn));
        if lsn.0 % ring.len() as u64 != at as u64 {
            continue;
        }
        let Some(header) = around(ring, at, HEADER_LEN) else { continue };
        if let Outcome::Header(header) = decode(&header, lsn, id) {
            found.push(header);
        }
    }
    found.sort_unstable_by_key(|header| header.lsn);
    found
}

/// The `len` bytes at `at` of the ring, around its end; `None` when it is not that long.
fn around(ring: &[u8], at: usize, len: usize) -> Option<Vec<u8>> {
    (len <= ring.len()).then(|| ring.iter().cycle().skip(at % ring.len().max(1)).take(len).copied().collect())
}
