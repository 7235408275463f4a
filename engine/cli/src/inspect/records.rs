//! Lists records of the log, from a segment or from the ring.

use ssd_engine::format::log_record::{RecordHeader, RecordKind};

use crate::cells::Cell;
use crate::report::Section;

use super::{Arguments, batch};

/// The tables that records go into.
pub(super) struct Tables {
    pub(super) records: Section,
    pub(super) entries: Section,
    with_entries: bool,
    limit: u64,
}

impl Tables {
    pub(super) fn new(arguments: &Arguments) -> Self {
        const COLUMNS: &[&str] = &["lsn", "offset", "kind", "first", "count", "stored", "raw", "synced", "payload"];
        Self {
            records: Section::table("records", COLUMNS),
            entries: batch::table(),
            with_entries: arguments.entries,
            limit: arguments.limit,
        }
    }

    /// Whether entries are wanted, too.
    pub(super) const fn with_entries(&self) -> bool {
        self.with_entries
    }

    /// Adds a record. `stored` is its body, with padding, or why it is not there. What is wrong with it, if anything.
    pub(super) fn push(
        &mut self,
        header: &RecordHeader,
        offset: u64,
        body: Result<&[u8], &'static str>,
    ) -> Option<String> {
        let mut raw = Vec::new();
        let payload = body.and_then(|body| {
            header.check_payload(body)?;
            header.expand(body.get(..header.stored_len as usize).unwrap_or_default(), &mut raw)
        });
        self.records.row_within(self.limit, || {
            vec![
                header.lsn.into(),
                offset.into(),
                name_of(header.kind).into(),
                header.first.into(),
                header.count.into(),
                Cell::Size(header.stored_len.into()),
                Cell::Size(header.raw_len.into()),
                header.synced.into(),
                payload.err().unwrap_or("ok").into(),
            ]
        });
        match payload {
            Err(why) => Some(why.to_owned()),
            Ok(payload) if self.with_entries && header.kind == RecordKind::Batch => {
                let pushed = batch::push(&mut self.entries, self.limit, header.lsn, header.first, payload);
                pushed.err().map(|malformed| format!("operation at {} of the batch cannot be read", malformed.0))
            }
            Ok(_) => None,
        }
    }
}

const fn name_of(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Batch => "batch",
        RecordKind::Begin => "begin",
        RecordKind::Commit => "commit",
        RecordKind::Abort => "abort",
        RecordKind::Noop => "noop",
    }
}
