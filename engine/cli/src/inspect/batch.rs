//! Lists the operations of a batch.

use ssd_engine::base::ids::{Lsn, SeqNo};
use ssd_engine::base::key::Kind;
use ssd_engine::format::batch::{Malformed, ops};

use crate::cells::Cell;
use crate::report::Section;

/// A table for [`push`].
pub(super) fn table() -> Section {
    Section::table("entries", &["lsn", "seqno", "kind", "key", "value"])
}

/// Adds the operations of the record at `lsn`, whose payload is `payload`.
///
/// # Errors
/// Where in the payload an operation cannot be read.
pub(super) fn push(section: &mut Section, limit: u64, lsn: Lsn, first: SeqNo, payload: &[u8]) -> Result<(), Malformed> {
    for (at, op) in ops(payload).enumerate() {
        let op = op?;
        section.row_within(limit, || {
            let value = match op.kind {
                Kind::Put => Cell::Value(op.value.to_vec()),
                Kind::RangeDelete => Cell::Key(op.value.to_vec()),
                Kind::Delete => Cell::Nothing,
            };
            vec![lsn.into(), first.plus(at as u64).into(), op.kind.into(), Cell::Key(op.key.to_vec()), value]
        });
    }
    Ok(())
}
