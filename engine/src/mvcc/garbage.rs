//! Which versions of a row a flush or compaction keeps: pure, one verdict per version, from the newest to the oldest.
//!
//! A version is garbage when its writer has rolled back, or when everybody who could read it reads a newer one. Readers are
//! the snapshots in use and those still to be taken. A version that all of them see is *frozen*: its header forgets who
//! wrote it, and everything older is garbage. A frozen end of a row with nothing below hides nothing and goes, too.
//!
//! Soundness against snapshots that are taken while the rule is in use: it counts as committed only what had ended at
//! [`Horizon::now`], and `now` was taken before the list of snapshots. A snapshot that is missing in the list is younger
//! than `now` and sees all of that.

use crate::base::ids::TxnId;
use crate::error::Result;
use crate::format::row_version::RowVersion;
use crate::mvcc::snapshot::TxnSnapshot;
use crate::mvcc::status::{TxnState, TxnStatus};

/// Who may still read old versions.
#[derive(Clone, Debug)]
pub struct Horizon {
    /// A snapshot that was taken before the others were listed.
    pub now: TxnSnapshot,
    /// The snapshots in use; `None` when the host can only tell `oldest`.
    pub snapshots: Option<Vec<TxnSnapshot>>,
    /// Every snapshot, in use or still to be taken, counts whoever committed with an id below.
    pub oldest: TxnId,
}

/// What becomes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerdict {
    /// It stays as it is.
    Keep,
    /// It stays without its writer.
    Freeze,
    /// Nobody can read it.
    Drop,
}

/// Judges the versions of one row after the other.
#[derive(Debug)]
pub struct RowRule {
    horizon: Horizon,
    /// Whether a kept version is what snapshots still to be taken will read.
    future_served: bool,
    /// The same for each snapshot in use.
    served: Vec<bool>,
    /// Everybody is served: the rest of the row is garbage.
    finished: bool,
}

impl RowRule {
    /// A rule for the readers of `horizon`.
    #[must_use]
    pub fn new(horizon: Horizon) -> Self {
        let count = horizon.snapshots.as_ref().map_or(0, Vec::len);
        Self { horizon, future_served: false, served: vec![false; count], finished: false }
    }

    /// The next version belongs to another row.
    pub fn next_row(&mut self) {
        self.future_served = false;
        self.finished = false;
        self.served.fill(false);
    }

    /// Judges the next older version of the row. `bottommost`: nothing below may have data for the key.
    ///
    /// # Errors
    /// As [`TxnStatus::state`].
    pub fn judge(
        &mut self,
        version: &RowVersion<'_>,
        bottommost: bool,
        status: &(impl TxnStatus + ?Sized),
    ) -> Result<RowVerdict> {
        if self.finished {
            return Ok(RowVerdict::Drop);
        }
        let Some(stamp) = version.stamp else { return Ok(self.finish(version, bottommost, true)) };
        let txn = stamp.txn;
        if self.horizon.now.ran(txn) {
            // Even when it has ended since: a snapshot of in between may count it as running. Rolled back is for all.
            let rolled_back = status.state(txn)? == TxnState::Aborted;
            return Ok(if rolled_back { RowVerdict::Drop } else { RowVerdict::Keep });
        }
        match status.state(txn)? {
            TxnState::Aborted => return Ok(RowVerdict::Drop),
            TxnState::InProgress => return Ok(RowVerdict::Keep),
            TxnState::Committed => {}
        }
        if txn < self.horizon.oldest {
            return Ok(self.finish(version, bottommost, false));
        }
        let Some(snapshots) = &self.horizon.snapshots else { return Ok(RowVerdict::Keep) };
        let mut needed = !self.future_served;
        self.future_served = true;
        for (served, snapshot) in self.served.iter_mut().zip(snapshots) {
            if !*served && !snapshot.ran(txn) {
                *served = true;
                needed = true;
            }
        }
        Ok(if needed { RowVerdict::Keep } else { RowVerdict::Drop })
    }

    /// The version is one that every reader sees.
    fn finish(&mut self, version: &RowVersion<'_>, bottommost: bool, frozen: bool) -> RowVerdict {
        self.finished = true;
        let all_served = self.future_served && self.served.iter().all(|&served| served);
        let ends_nothing = bottommost && !version.kind.is_row();
        match (all_served || ends_nothing, frozen) {
            (true, _) => RowVerdict::Drop,
            (false, true) => RowVerdict::Keep,
            (false, false) => RowVerdict::Freeze,
        }
    }
}

#[cfg(test)]
mod tests;
