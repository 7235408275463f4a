//! The command that a row's version shows in its columns `cmin` and `cmax`.
//!
//! A heap has one word for both. It first has the command that inserted the version, then the one that last tried to change or
//! delete it, whatever has become of that; and when a transaction changes what it has inserted itself, a number that stands for the
//! pair of commands while the transaction lives. That number is kept with the change here, too: in the payload of the newer version,
//! or of the move or end. It is only shown: who sees what is decided by the stamps of versions.

use std::ops::ControlFlow;

use pgrx::pg_sys;
use ssd_engine::Result;
use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::format::row_version::{RowKind, RowVersion, Stamp};
use ssd_engine::lsm::Lsm;

use super::laps;
use super::read::{row_of, walk};
use super::tid::Tid;
use super::tuple;
use super::write::Moved;
use crate::xact::ids::narrow;

/// What came after a version, whether or not it was rolled back.
struct Later {
    kind: RowKind,
    number: u16,
    txn: TxnId,
    shown: u32,
}

fn later(version: &RowVersion<'_>, stamp: Stamp) -> Result<Later> {
    let combined = match version.kind {
        RowKind::Put | RowKind::Speculative => tuple::combined(row_of(version)?.1),
        RowKind::Moved => Moved::decode_combined(version.payload)?.1,
        RowKind::Tombstone => None,
    };
    let shown = combined.unwrap_or(stamp.command.0);
    Ok(Later { kind: version.kind, number: version.number, txn: stamp.txn, shown })
}

/// The command that the version at `tid`, written by `writer`, shows; `None` when it is not there any more.
///
/// # Errors
/// I/O, corruption.
pub fn shown(lsm: &Lsm, tree: TreeId, tid: Tid, writer: pg_sys::TransactionId) -> Result<Option<u32>> {
    let mut newer: Vec<Later> = Vec::new();
    let mut shown = None;
    walk(lsm, &tid.root.full_key(tree), &mut |version| {
        let Some(stamp) = version.stamp else { return Ok(ControlFlow::Break(())) };
        if version.kind.is_row() && version.number == tid.number && narrow(stamp.txn) == writer {
            shown = Some(last_try(&newer, tid.number).unwrap_or(stamp.command.0));
            return Ok(ControlFlow::Break(()));
        }
        newer.push(later(version, stamp)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(shown)
}

/// What the last try to change version `number` shows, of all that came later, newest first. The end of a version that came from
/// such a try is none itself.
fn last_try(newer: &[Later], number: u16) -> Option<u32> {
    let mut changed_by: Vec<TxnId> = Vec::new();
    let mut last = None;
    for later in newer.iter().rev() {
        if later.kind.is_row() {
            if later.number == laps::next(number) {
                changed_by.push(later.txn);
                last = Some(later.shown);
            }
        } else if !changed_by.contains(&later.txn) {
            last = Some(later.shown);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(kind: RowKind, number: u16, txn: u64, shown: u32) -> Later {
        Later { kind, number, txn: TxnId(txn), shown }
    }

    #[test]
    fn the_last_try_to_change_a_version_shows() {
        use RowKind::{Moved, Put, Tombstone};
        assert_eq!(last_try(&[], 0), None);
        assert_eq!(last_try(&[later(Tombstone, 0, 5, 3)], 0), Some(3));
        // Rolled back, then tried again.
        assert_eq!(last_try(&[later(Moved, 0, 6, 4), later(Put, 1, 5, 3)], 0), Some(4));
        // Changed, and what came out of that deleted.
        assert_eq!(last_try(&[later(Tombstone, 0, 5, 4), later(Put, 1, 5, 3)], 0), Some(3));
        assert_eq!(last_try(&[later(Put, 2, 5, 4), later(Put, 1, 5, 3)], 0), Some(3));
        assert_eq!(last_try(&[later(Put, 2, 5, 4), later(Put, 1, 5, 3)], 1), Some(4));
    }
}
