//! Whether a transaction may change or lock a row: pure, from the row's newest version that is not aborted.
//!
//! The answers are those of Postgres's `TM_Result`; what to do about them (wait, look again, fail) is the caller's to say,
//! by its isolation level. The caller holds the row's latch, so the newest version stays the newest.

use crate::base::ids::TxnId;
use crate::format::row_version::{RowKind, Stamp};
use crate::mvcc::visibility::Time;

/// What stands in the way of changing a row, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// Nothing: go ahead.
    None,
    /// There is no row that the transaction could see.
    Invisible,
    /// A later command of the transaction itself has changed or deleted it: this one must leave it alone.
    SelfModified {
        /// The version that did.
        by: Stamp,
    },
    /// Somebody has changed it since the snapshot.
    Updated {
        /// The version that did.
        by: Stamp,
    },
    /// Somebody has deleted it since the snapshot, or moved it to another key.
    Deleted {
        /// The version that did.
        by: Stamp,
        /// The row lives on under another key.
        moved: bool,
    },
    /// Somebody who has not ended yet is changing it, or holds a lock that is in the way.
    BeingModified {
        /// Whom to wait for.
        by: TxnId,
    },
}

/// The newest version of a row that is not aborted, as its judge needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// What it says.
    pub kind: RowKind,
    /// Its writer; `None` when frozen.
    pub stamp: Option<Stamp>,
    /// When that was, for the snapshot of the one who wants to change the row.
    pub time: Time,
}

/// Judges a change of the row. `newest` is `None` when no version is left that is not aborted; `seen` says whether the
/// snapshot sees the row, in this version or an older one.
#[must_use]
pub fn judge(newest: Option<Newest>, seen: bool) -> Conflict {
    let Some(Newest { kind, stamp, time }) = newest else { return Conflict::Invisible };
    match (time, kind.is_row(), stamp) {
        (Time::Frozen | Time::Before | Time::OwnEarlier, true, _) => Conflict::None,
        // The row's end is what the snapshot sees.
        (Time::Frozen | Time::Before | Time::OwnEarlier, false, _) | (Time::Aborted, ..) | (_, _, None) => {
            Conflict::Invisible
        }
        (Time::OwnLater, _, Some(by)) if seen => Conflict::SelfModified { by },
        // Inserted by a command that the present one does not see.
        (Time::OwnLater, ..) => Conflict::Invisible,
        (Time::After, true, Some(by)) => Conflict::Updated { by },
        (Time::After, false, Some(by)) => Conflict::Deleted { by, moved: kind == RowKind::Moved },
        (Time::InProgress, _, Some(by)) => Conflict::BeingModified { by: by.txn },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::CommandId;

    #[test]
    fn the_table() {
        let by = Stamp { txn: TxnId(7), command: CommandId(1) };
        let of = |time, kind| judge(Some(Newest { kind, stamp: Some(by), time }), true);
        for kind in [RowKind::Put, RowKind::Speculative] {
            assert_eq!(of(Time::Before, kind), Conflict::None);
            assert_eq!(of(Time::OwnEarlier, kind), Conflict::None);
            assert_eq!(of(Time::After, kind), Conflict::Updated { by });
        }
        for kind in [RowKind::Tombstone, RowKind::Moved] {
            assert_eq!(of(Time::Before, kind), Conflict::Invisible);
            assert_eq!(of(Time::OwnEarlier, kind), Conflict::Invisible);
            assert_eq!(of(Time::After, kind), Conflict::Deleted { by, moved: kind == RowKind::Moved });
        }
        for kind in [RowKind::Put, RowKind::Speculative, RowKind::Tombstone, RowKind::Moved] {
            assert_eq!(of(Time::OwnLater, kind), Conflict::SelfModified { by });
            let inserted = Newest { kind, stamp: Some(by), time: Time::OwnLater };
            assert_eq!(judge(Some(inserted), false), Conflict::Invisible);
            assert_eq!(of(Time::InProgress, kind), Conflict::BeingModified { by: TxnId(7) });
            assert_eq!(of(Time::Aborted, kind), Conflict::Invisible);
        }
        let frozen = |kind| judge(Some(Newest { kind, stamp: None, time: Time::Frozen }), true);
        assert_eq!(frozen(RowKind::Put), Conflict::None);
        assert_eq!(frozen(RowKind::Tombstone), Conflict::Invisible);
        assert_eq!(judge(None, false), Conflict::Invisible);
    }
}
