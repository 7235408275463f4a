//! Transaction snapshots: which transactions' writes a reader counts.

use std::sync::Arc;

use crate::base::ids::{CommandId, TxnId};

/// The transactions that had ended at one moment, and the reader's own progress.
///
/// 1. `oldest <= next`; every id in `running` is in `oldest..next`, ascending, each once.
/// 2. Everything below `oldest` had ended; everything from `next` on had not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnSnapshot {
    /// The oldest transaction that ran.
    pub oldest: TxnId,
    /// The first that had not begun.
    pub next: TxnId,
    /// Those between that ran, savepoints included.
    pub running: Arc<[TxnId]>,
    /// The reader's present command: its own earlier commands are seen.
    pub command: CommandId,
}

impl TxnSnapshot {
    /// Whether `txn` ran at the moment of the snapshot, or began later.
    #[inline]
    #[must_use]
    pub fn ran(&self, txn: TxnId) -> bool {
        txn >= self.next || (txn >= self.oldest && self.running.binary_search(&txn).is_ok())
    }

    /// The same moment, a later command.
    #[must_use]
    pub fn at_command(&self, command: CommandId) -> Self {
        Self { command, ..self.clone() }
    }
}

/// Which versions of a row a reader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// What had been committed at one moment, and the reader's own earlier commands.
    At(TxnSnapshot),
    /// What is committed now, and everything of the reader's own.
    Now,
    /// As [`Now`](Self::Now), and what others are writing: the answer names who.
    Dirty,
    /// The newest version of each row that somebody may still see: rows that were deleted before everybody's `oldest`,
    /// which is this id, are left out.
    NonVacuumable(TxnId),
    /// Every version there is.
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ran_is_who_had_not_ended() {
        let running: Vec<_> = [5, 7, 9].map(TxnId).into();
        let snapshot =
            TxnSnapshot { oldest: TxnId(5), next: TxnId(11), running: running.into(), command: CommandId(0) };
        let ran: Vec<_> = (1..14).filter(|&id| snapshot.ran(TxnId(id))).collect();
        assert_eq!(ran, [5, 7, 9, 11, 12, 13]);
    }
}
