//! Arbitrary bytes as a segment of the log, and as the header of its buffer.

use crate::base::ids::Lsn;
use crate::format::log_buffer::{BufferHeader, Mark};
use crate::format::log_record::{HEADER_LEN, LogId, Outcome, decode};
use crate::format::log_segment::{SEGMENT_HEADER_LEN, SegmentHeader};

/// Decodes `data` as a segment: its header, then the records behind it (or from its first byte on, when it is short) as
/// replay walks them, over damaged ones too.
#[doc(hidden)]
pub fn fuzz_wal_segment(data: &[u8]) {
    let header = SegmentHeader::decode(data);
    let words: Vec<_> = data.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let _ = BufferHeader::decode(&words);
    for mark in [Mark::Written, Mark::Durable, Mark::Closed] {
        let _ = mark.get(&words);
    }
    let (start, uuid) = header.map_or((Lsn(0), [0; 16]), |header| (header.start(), header.uuid));
    let (id, records) = (LogId::of(uuid), data.get(SEGMENT_HEADER_LEN..).unwrap_or(data));
    let mut at = 0;
    while let Some(rest) = records.get(at..).filter(|rest| !rest.is_empty()) {
        at += 8;
        if let Outcome::Header(header) = decode(rest, start.plus(at as u64 - 8), id) {
            let end = rest.len().min(header.record_len() as usize);
            let body = &rest[HEADER_LEN..end];
            if header.check_payload(body).is_ok() {
                let _ = header.expand(&body[..header.stored_len as usize], &mut Vec::new());
                at += end - 8;
            }
        }
    }
}
