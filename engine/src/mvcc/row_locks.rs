//! Row locks in four modes: who holds them and who is in whose way.
//!
//! A lock is a record (row, transaction, mode) in a table of the region. It ends with its transaction or savepoint, without
//! anybody doing anything: records of transactions that have ended count for nothing and are used again. When the table is
//! full of live records, further ones go to a tree of their own, from which flushes and compactions drop what has ended. So
//! locks are unlimited in number, a row that thousands lock one after the other stays short, and nothing is logged as long
//! as the table has room.
//!
//! A transaction that is writing a row is in the way of others by its version, not by a lock; see [`Mode::of`].
//!
//! Everything here happens under the row's latch.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::base::ids::{TreeId, TxnId};
use crate::base::key::full_key;
use crate::error::{Error, Result};
use crate::format::batch::{Op, push_op};
use crate::format::row_version::RowKind;
use crate::lsm::Lsm;
use crate::lsm::merge::Direction;
use crate::lsm::scan::Scan;
use crate::mem::lock_table::{Full, LockHash};
use crate::mvcc::latch::RowLatches;
use crate::mvcc::status::{TxnState, TxnStatus};
use crate::options::Durability;

/// How a row is locked, from the weakest to the strongest; each conflicts with all that the weaker ones conflict with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Mode {
    /// The row's key stays: others may update the rest of it.
    KeyShare = 1,
    /// The row stays as it is.
    Share = 2,
    /// The holder may update it, but not its key.
    NoKeyUpdate = 3,
    /// The holder may delete it or change its key.
    Update = 4,
}

impl Mode {
    const ALL: [Self; 4] = [Self::KeyShare, Self::Share, Self::NoKeyUpdate, Self::Update];

    /// Whether two transactions cannot hold these at the same time.
    #[must_use]
    pub const fn conflicts(self, other: Self) -> bool {
        match (self, other) {
            (Self::KeyShare, Self::Update) | (Self::Update, _) => true,
            (Self::KeyShare, _) => false,
            (Self::Share, Self::NoKeyUpdate | Self::Update) => true,
            (Self::Share, _) => false,
            (Self::NoKeyUpdate, Self::KeyShare) => false,
            (Self::NoKeyUpdate, _) => true,
        }
    }

    /// What writing a version of this kind amounts to.
    #[must_use]
    pub const fn of(kind: RowKind) -> Self {
        match kind {
            RowKind::Put | RowKind::Speculative => Self::NoKeyUpdate,
            RowKind::Tombstone | RowKind::Moved => Self::Update,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&mode| mode as u32 == number)
    }
}

/// The name that a row's locks go by.
#[must_use]
pub fn lock_hash(full_key: &[u8]) -> LockHash {
    LockHash(xxh3_128(full_key))
}

/// All row locks.
pub struct RowLocks {
    lsm: Arc<Lsm>,
    /// The tree that takes what the table has no room for.
    spill: TreeId,
}

impl RowLocks {
    /// The locks in the region of `lsm`; `spill` is a tree of locks.
    #[must_use]
    pub const fn new(lsm: Arc<Lsm>, spill: TreeId) -> Self {
        Self { lsm, spill }
    }

    /// The number to latch for a row with this name.
    #[must_use]
    pub fn latch_number(&self, hash: LockHash) -> usize {
        self.lsm.row_locks.bucket(hash)
    }

    /// Calls `found` for each live holder of a lock on the row.
    ///
    /// # Errors
    /// As [`TxnStatus::state`]; I/O.
    pub fn holders(&self, hash: LockHash, status: &dyn TxnStatus, found: &mut dyn FnMut(TxnId, Mode)) -> Result<()> {
        let mut visit = |txn: TxnId, number: u32| {
            if let Some(mode) = Mode::from_number(number)
                && (status.is_own(txn) || status.state(txn)? == TxnState::InProgress)
            {
                found(txn, mode);
            }
            Ok(())
        };
        self.lsm.row_locks.holders(hash).try_for_each(|(txn, mode)| visit(txn, mode))?;
        if self.lsm.control().has_spilled_locks() { self.spilled(hash, &mut visit) } else { Ok(()) }
    }

    fn spilled(&self, hash: LockHash, visit: &mut dyn FnMut(TxnId, u32) -> Result<()>) -> Result<()> {
        let from = full_key(self.spill, &hash.0.to_be_bytes());
        let to = hash.0.checked_add(1).map(|next| full_key(self.spill, &next.to_be_bytes()));
        let to = to.unwrap_or_else(|| full_key(TreeId(self.spill.0 + 1), &[]));
        let now = Some(self.lsm.visible());
        let mut scan = Scan::new(Arc::clone(&self.lsm), from, Some(to), Direction::Forward, now)?;
        while let Some((key, value)) = scan.next_row()? {
            if let (Some(txn), [mode]) = (owner_in_key(key), value) {
                visit(txn, u32::from(*mode))?;
            }
        }
        Ok(())
    }

    /// Somebody else whose lock is in the way of `mode`, and whether the asking transaction holds `mode` or more already.
    ///
    /// # Errors
    /// As [`holders`](Self::holders).
    pub fn in_the_way(&self, hash: LockHash, mode: Mode, status: &dyn TxnStatus) -> Result<(Option<TxnId>, bool)> {
        let (mut other, mut held) = (None, false);
        self.holders(hash, status, &mut |txn, theirs| {
            if status.is_own(txn) {
                held |= theirs >= mode;
            } else if theirs.conflicts(mode) {
                other = other.or(Some(txn));
            }
        })?;
        Ok((other, held))
    }

    /// Records that `txn` holds the row in `mode`. The caller has made sure that nobody is in the way.
    ///
    /// # Errors
    /// As [`TxnStatus::state`]; I/O when the table is full and the lock cannot be written.
    pub fn add(&self, hash: LockHash, txn: TxnId, mode: Mode, status: &dyn TxnStatus) -> Result<()> {
        let ended = |other: TxnId| Ok(!status.is_own(other) && status.state(other)? != TxnState::InProgress);
        match self.lsm.row_locks.add::<Error>(hash, (txn, mode as u32), ended)? {
            Ok(()) => Ok(()),
            Err(Full) => self.spill(hash, txn, mode),
        }
    }

    fn spill(&self, hash: LockHash, txn: TxnId, mode: Mode) -> Result<()> {
        // Before the lock can be missed: whoever looks later looks there, too.
        self.lsm.control().note_spilled_locks();
        let mut key = hash.0.to_be_bytes().to_vec();
        key.extend_from_slice(&txn.0.to_be_bytes());
        let mut batch = Vec::new();
        push_op(
            &mut batch,
            Op { kind: crate::base::key::Kind::Put, key: &full_key(self.spill, &key), value: &[mode as u8] },
        );
        self.lsm.write(&batch, 1, Durability::Process)
    }

    /// Writes the asking transaction's locks to the tree of locks, too, where they survive the region: before it prepares for a
    /// commit in two phases. How many there were.
    ///
    /// # Errors
    /// As [`TxnStatus::state`]; I/O.
    pub fn keep_own(&self, latches: &dyn RowLatches, status: &dyn TxnStatus) -> Result<usize> {
        let mut own = Vec::new();
        for bucket in 0..self.lsm.row_locks.buckets() {
            if self.lsm.row_locks.records(bucket).next().is_none() {
                continue;
            }
            latches.latched(bucket, &mut || {
                own.extend(self.lsm.row_locks.records(bucket).filter(|(_, owner, _)| status.is_own(*owner)));
                Ok(())
            })?;
        }
        for &(hash, owner, mode) in &own {
            if let Some(mode) = Mode::from_number(mode) {
                self.spill(hash, owner, mode)?;
            }
        }
        Ok(own.len())
    }

    /// Looks whether the tree of locks has any, in a region that is new: from then on lookups heed them.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn recover_kept(&self) -> Result<()> {
        if self.lsm.tree_has_entries(self.spill)? {
            self.lsm.control().note_spilled_locks();
        }
        Ok(())
    }

    /// Frees the records of transactions that have ended, latch by latch; how many. Worth doing when locks are spilled.
    ///
    /// # Errors
    /// As [`TxnStatus::state`].
    pub fn sweep(&self, latches: &dyn RowLatches, status: &dyn TxnStatus) -> Result<usize> {
        let mut freed = 0;
        for bucket in 0..self.lsm.row_locks.buckets() {
            latches.latched(bucket, &mut || {
                let ended = |txn: TxnId| Ok::<_, Error>(status.state(txn)? != TxnState::InProgress);
                freed += self.lsm.row_locks.sweep(bucket, ended)?;
                Ok(())
            })?;
        }
        Ok(freed)
    }
}

/// The owner of a spilled lock, which ends its key.
#[must_use]
pub fn owner_in_key(key: &[u8]) -> Option<TxnId> {
    key.last_chunk().map(|bytes| TxnId(u64::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_those_of_postgres_and_nested() {
        let conflicts: Vec<String> = Mode::ALL
            .iter()
            .map(|a| Mode::ALL.iter().map(|b| if a.conflicts(*b) { 'x' } else { '.' }).collect())
            .collect();
        assert_eq!(conflicts, ["...x", "..xx", ".xxx", "xxxx"]);
        for (weak, strong) in Mode::ALL.iter().zip(&Mode::ALL[1..]) {
            assert!(
                Mode::ALL.iter().all(|m| !weak.conflicts(*m) || strong.conflicts(*m)),
                "{strong:?} covers {weak:?}"
            );
        }
    }
}
