//! Fuzzing of the manifest's framing: the file header, the walk over records, and CURRENT.

use crate::base::ids::FileNumber;
use crate::format::version_edit::VersionEdit;
use crate::format::version_edit::record::{FileHeader, HEADER_LEN, Outcome, RecordReader};
use crate::manifest::current;

/// Reads `data` as a whole manifest file, as a bare stretch of records, and as CURRENT.
#[doc(hidden)]
pub fn fuzz_manifest(data: &[u8]) {
    let _ = current::decode(data);
    if let Ok(header) = FileHeader::decode(data) {
        let records = &data[HEADER_LEN..];
        walk(RecordReader::new(records, HEADER_LEN as u64, header.number, Some(0), header.snapshot_end));
    }
    walk(RecordReader::new(data, 0, FileNumber(1), None, 0));
}

fn walk(mut reader: RecordReader<'_>) {
    while let Outcome::Record { payload, .. } = reader.next() {
        let _ = VersionEdit::decode(payload);
    }
    let end = reader.offset();
    assert!(!matches!(reader.next(), Outcome::Record { .. }) && reader.offset() == end, "the walk stays at its end");
}
