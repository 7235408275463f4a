//! Whether a version counts for a snapshot: pure, a time of the writer × a kind of version.
//!
//! The versions of a row are asked from the newest to the oldest; the first one whose writer counts decides.
//!
//! | writer \ kind | put, speculative | tombstone, moved |
//! |---|---|---|
//! | frozen, committed before the snapshot | the row | no row |
//! | own, earlier command | the row | no row |
//! | own, this command or a later one | ask older | ask older |
//! | committed after the snapshot | ask older | ask older |
//! | in progress | ask older | ask older |
//! | aborted | ask older | ask older |
//!
//! The other snapshots differ in who counts: *now* counts everybody committed and all of the reader's own; *dirty* counts
//! these and reports an in-progress writer; *non-vacuumable* is now's row, or one whose end somebody may not see yet.

use crate::base::ids::TxnId;
use crate::error::Result;
use crate::format::row_version::{RowKind, RowVersion, Stamp};
use crate::mvcc::snapshot::{Snapshot, TxnSnapshot};
use crate::mvcc::status::{TxnState, TxnStatus};

/// When a version was written, as a snapshot sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Time {
    /// By somebody that this and every snapshot counts.
    Frozen,
    /// By the reader, in a command before the present one.
    OwnEarlier,
    /// By the reader, in the present command or a later one.
    OwnLater,
    /// Committed before the snapshot was taken.
    Before,
    /// Committed, but not before the snapshot was taken.
    After,
    /// The writer runs.
    InProgress,
    /// The writer has rolled back.
    Aborted,
}

/// What a version means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// This is the row.
    Row,
    /// There is no row.
    NoRow,
    /// It does not count: the next older version decides.
    AskOlder,
}

/// The table above.
#[must_use]
pub const fn seen(time: Time, kind: RowKind) -> Seen {
    match (time, kind) {
        (Time::Frozen | Time::Before | Time::OwnEarlier, RowKind::Put | RowKind::Speculative) => Seen::Row,
        (Time::Frozen | Time::Before | Time::OwnEarlier, RowKind::Tombstone | RowKind::Moved) => Seen::NoRow,
        (
            Time::OwnLater | Time::After | Time::InProgress | Time::Aborted,
            RowKind::Put | RowKind::Speculative | RowKind::Tombstone | RowKind::Moved,
        ) => Seen::AskOlder,
    }
}

/// When `stamp` was written, for a snapshot of one moment.
///
/// # Errors
/// As [`TxnStatus::state`].
#[inline]
pub fn time_at(stamp: Option<Stamp>, snapshot: &TxnSnapshot, status: &(impl TxnStatus + ?Sized)) -> Result<Time> {
    let Some(Stamp { txn, command }) = stamp else { return Ok(Time::Frozen) };
    if status.is_own(txn) {
        return Ok(if command < snapshot.command { Time::OwnEarlier } else { Time::OwnLater });
    }
    // Whoever ran at the snapshot cannot count any more, however it has ended: no need to ask.
    if status.ran_at(txn, snapshot) {
        return Ok(match status.state(txn)? {
            TxnState::InProgress => Time::InProgress,
            TxnState::Committed => Time::After,
            TxnState::Aborted => Time::Aborted,
        });
    }
    Ok(match status.end(txn)? {
        TxnState::Committed => Time::Before,
        TxnState::Aborted => Time::Aborted,
        // It had ended by the snapshot's account: a host that still reports it running is about to say so.
        TxnState::InProgress => Time::InProgress,
    })
}

/// When `stamp` was written, for whoever counts all that is committed by now.
///
/// # Errors
/// As [`TxnStatus::state`].
pub fn time_now(stamp: Option<Stamp>, status: &(impl TxnStatus + ?Sized)) -> Result<Time> {
    let Some(Stamp { txn, .. }) = stamp else { return Ok(Time::Frozen) };
    if status.is_own(txn) {
        return Ok(Time::OwnEarlier);
    }
    Ok(match status.state(txn)? {
        TxnState::InProgress => Time::InProgress,
        TxnState::Committed => Time::Before,
        TxnState::Aborted => Time::Aborted,
    })
}

/// What a walk over the versions of one row has found so far, for snapshots that look at more than one version.
///
/// The default is the state before the newest version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The writer of the oldest newer version that did not count and is not aborted.
    pub newer: Option<Stamp>,
    /// Dirty: who is writing the row.
    pub writing: Option<TxnId>,
    /// Whose version the last step passed over because the writer is somebody else who has not committed before.
    pub passed: Option<TxnId>,
}

impl Walk {
    /// What the next older `version` means for `snapshot`.
    ///
    /// # Errors
    /// As [`TxnStatus::state`].
    #[inline]
    pub fn step(
        &mut self,
        version: &RowVersion<'_>,
        snapshot: &Snapshot,
        status: &(impl TxnStatus + ?Sized),
    ) -> Result<Seen> {
        let time = match snapshot {
            Snapshot::At(at) => time_at(version.stamp, at, status)?,
            Snapshot::Any => return Ok(if version.kind.is_row() { Seen::Row } else { Seen::AskOlder }),
            Snapshot::Now | Snapshot::Dirty | Snapshot::NonVacuumable(_) => time_now(version.stamp, status)?,
        };
        let mut answer = seen(time, version.kind);
        if answer == Seen::NoRow
            && let (Snapshot::NonVacuumable(oldest), Some(stamp)) = (snapshot, version.stamp)
            && stamp.txn >= *oldest
        {
            // Somebody may not see the end of the row yet.
            answer = Seen::AskOlder;
        }
        self.passed = None;
        if answer == Seen::AskOlder && time != Time::Aborted {
            if matches!(time, Time::After | Time::InProgress) {
                self.passed = version.stamp.map(|stamp| stamp.txn);
            }
            self.newer = version.stamp;
            if time == Time::InProgress {
                self.writing = version.stamp.map(|stamp| stamp.txn);
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
