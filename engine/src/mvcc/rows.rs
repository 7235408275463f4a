//! The row store: insert, change, lock and fetch rows of a tree, judged by transactions. Shared by all hosts.
//!
//! Every change is: latch the row, find its newest version that is not aborted, judge it, write a newer one, unlatch. Nothing
//! here waits for a transaction: who is in the way is named, and the caller waits, looks again or fails by its own rules.
//!
//! Invariants:
//! 1. A version is only written over one whose writer has ended (or is the same transaction), so the versions of a row that
//!    are not aborted are in the order in which their writers committed.
//! 2. What was judged under a latch holds until the version is in the memtable and visible: the latch covers both.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::ids::{CommandId, TreeId, TxnId};
use crate::base::key::{Kind, full_key};
use crate::error::{Error, Result};
use crate::format::batch::{Op, push_op};
use crate::format::row_version::{RowKind, RowVersion, Stamp, decode};
use crate::lsm::Lsm;
use crate::lsm::versions::Expected;
use crate::mvcc::conflict::{Conflict, Newest, judge};
use crate::mvcc::latch::RowLatches;
use crate::mvcc::row_locks::{Mode, RowLocks, lock_hash};
use crate::mvcc::snapshot::Snapshot;
use crate::mvcc::status::TxnStatus;
use crate::mvcc::visibility::{Seen, Time, Walk, seen, time_at, time_now};
use crate::options::Durability;

/// Rows of all trees of one engine.
pub struct RowStore {
    lsm: Arc<Lsm>,
    latches: Arc<dyn RowLatches>,
    locks: RowLocks,
}

/// Who changes rows, and as of when.
#[derive(Clone, Copy)]
pub struct Session<'s> {
    /// What is written on new versions: the transaction, or its present savepoint.
    pub stamp: Stamp,
    /// What the transaction sees. [`Snapshot::Now`] judges changes by what is committed by now.
    pub snapshot: &'s Snapshot,
    /// Knows the transactions, as the one that asks.
    pub status: &'s dyn TxnStatus,
}

/// A row as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The version's bytes; see [`version`](Self::version).
    pub bytes: Vec<u8>,
    /// The writer of the next newer version, if it has one that was not rolled back.
    pub newer: Option<Stamp>,
    /// Who is writing it, for dirty reads.
    pub writing: Option<TxnId>,
    /// Writers of newer versions that did not count because they had not committed before the snapshot.
    pub passed: Vec<TxnId>,
}

impl Row {
    /// The version that was found.
    ///
    /// # Panics
    /// When `bytes` were changed since.
    #[must_use]
    pub fn version(&self) -> RowVersion<'_> {
        decode(&self.bytes).expect("a row is only filled with bytes that decode")
    }
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewVersion<'a> {
    /// What it says.
    pub kind: RowKind,
    /// The host's number for it.
    pub number: u16,
    /// The row, or its new key when it moves; empty for a tombstone.
    pub payload: &'a [u8],
}

/// How far a look at the versions of a row goes.
#[derive(Clone, Copy, Default)]
struct Look {
    /// Versions of older writers do not matter.
    newer_than: Option<TxnId>,
    /// Versions in progress that a lock in this mode does not conflict with are passed over.
    past: Option<Mode>,
    /// On to the version that the snapshot sees.
    to_seen: bool,
}

/// What is known of a row under its latch.
struct Found {
    newest: Option<Newest>,
    seen: bool,
}

impl RowStore {
    /// The rows of `lsm`.
    #[must_use]
    pub const fn new(lsm: Arc<Lsm>, latches: Arc<dyn RowLatches>, locks: RowLocks) -> Self {
        Self { lsm, latches, locks }
    }

    /// The row locks.
    #[must_use]
    pub const fn locks(&self) -> &RowLocks {
        &self.locks
    }

    /// The latches.
    #[must_use]
    pub fn latches(&self) -> &dyn RowLatches {
        &*self.latches
    }

    /// The LSM tree below.
    #[must_use]
    pub const fn lsm(&self) -> &Arc<Lsm> {
        &self.lsm
    }

    /// The version of the row under `key` that `snapshot` sees; whether there is one. A dirty read returns an in-progress
    /// version only when it is the first of its row.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn fetch(
        &self,
        tree: TreeId,
        key: &[u8],
        snapshot: &Snapshot,
        status: &dyn TxnStatus,
        row: &mut Row,
    ) -> Result<bool> {
        let full = full_key(tree, key);
        let (mut walk, mut found, mut fallback) = (Walk::default(), false, None);
        row.bytes.clear();
        row.passed.clear();
        let mut scratch = Vec::new();
        self.lsm.visit_versions(&full, Expected::default(), &mut scratch, &mut |value| {
            let version = self.read(value, tree)?;
            let seen = walk.step(&version, snapshot, status)?;
            row.passed.extend(walk.passed);
            match seen {
                Seen::Row => {
                    row.bytes.extend_from_slice(value);
                    found = true;
                }
                Seen::NoRow => {}
                Seen::AskOlder => {
                    if *snapshot == Snapshot::Dirty && version.kind.is_row() && walk.writing.is_some() {
                        fallback.get_or_insert_with(|| value.to_vec());
                    }
                    return Ok(ControlFlow::Continue(()));
                }
            }
            Ok(ControlFlow::Break(()))
        })?;
        (row.newer, row.writing) = (walk.newer, walk.writing);
        if let (false, Some(bytes)) = (found, fallback) {
            row.bytes = bytes;
            found = true;
        }
        Ok(found)
    }

    /// The version of the row with the host's number `number`, whoever sees it; the newest one when several had it.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn fetch_exact(&self, tree: TreeId, key: &[u8], number: u16, row: &mut Row) -> Result<bool> {
        let full = full_key(tree, key);
        let mut found = false;
        row.bytes.clear();
        (row.newer, row.writing) = (None, None);
        let mut scratch = Vec::new();
        self.lsm.visit_versions(&full, Expected::default(), &mut scratch, &mut |value| {
            let version = self.read(value, tree)?;
            if version.kind.is_row() && version.number == number {
                row.bytes.extend_from_slice(value);
                found = true;
                return Ok(ControlFlow::Break(()));
            }
            row.newer = version.stamp;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Writes the first version of a row, unless `key` has one. [`Conflict::Updated`] says that there is a row already, even
    /// one that the snapshot does not see; [`Conflict::BeingModified`] that there may be.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn insert(&self, session: &Session<'_>, tree: TreeId, key: &[u8], new: NewVersion<'_>) -> Result<Conflict> {
        let full = full_key(tree, key);
        self.latched(&full, &mut || {
            let Found { newest, .. } =
                self.look_for_others(&full, tree, &Session { snapshot: &Snapshot::Now, ..*session })?;
            let conflict = match newest {
                None => Conflict::None,
                Some(Newest { time: Time::InProgress, stamp: Some(by), .. }) => Conflict::BeingModified { by: by.txn },
                Some(Newest { kind, stamp, .. }) if kind.is_row() => {
                    Conflict::Updated { by: stamp.unwrap_or(Stamp { txn: TxnId(0), command: CommandId(0) }) }
                }
                // A row that has ended; its locks do not matter to another one.
                Some(_) => Conflict::None,
            };
            if conflict == Conflict::None {
                self.append(session, &full, new)?;
            }
            Ok(conflict)
        })
    }

    /// Writes a newer version of the row that the session's snapshot sees.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn change(&self, session: &Session<'_>, tree: TreeId, key: &[u8], new: NewVersion<'_>) -> Result<Conflict> {
        let full = full_key(tree, key);
        self.latched(&full, &mut || {
            let look = Look { to_seen: true, ..Look::default() };
            let Found { newest, seen } = self.look(&full, tree, session, look, None)?;
            let mut conflict = judge(newest, seen);
            if conflict == Conflict::None {
                conflict = self.held_by_others(&full, Mode::of(new.kind), session)?;
            }
            if conflict == Conflict::None {
                self.append(session, &full, new)?;
            }
            Ok(conflict)
        })
    }

    /// Writes a version whether or not the row exists: only what other transactions have done since the snapshot is in the
    /// way. Reads no file that is too old for that.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn put(&self, session: &Session<'_>, tree: TreeId, key: &[u8], new: NewVersion<'_>) -> Result<Conflict> {
        let full = full_key(tree, key);
        self.latched(&full, &mut || {
            let Found { newest, .. } = self.look_for_others(&full, tree, session)?;
            let mut conflict = match newest {
                Some(Newest { time: Time::InProgress, stamp: Some(by), .. }) => Conflict::BeingModified { by: by.txn },
                Some(Newest { time: Time::OwnLater, stamp: Some(by), .. }) => Conflict::SelfModified { by },
                Some(Newest { time: Time::After, stamp: Some(by), .. }) => Conflict::Updated { by },
                _ => Conflict::None,
            };
            if conflict == Conflict::None {
                conflict = self.held_by_others(&full, Mode::of(new.kind), session)?;
            }
            if conflict == Conflict::None {
                self.append(session, &full, new)?;
            }
            Ok(conflict)
        })
    }

    /// Writes a newer version of a row that the session's transaction has locked as strongly as the new version asks for:
    /// what the lock was judged by still holds, so nothing is read.
    ///
    /// # Errors
    /// I/O, closed.
    pub fn put_locked(&self, session: &Session<'_>, tree: TreeId, key: &[u8], new: NewVersion<'_>) -> Result<()> {
        let full = full_key(tree, key);
        self.latched(&full, &mut || {
            self.append(session, &full, new)?;
            Ok(Conflict::None)
        })?;
        Ok(())
    }

    /// Locks the row that the session's snapshot sees, and fills `row` with the bytes of that version, if it is given.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn lock(
        &self,
        session: &Session<'_>,
        tree: TreeId,
        key: &[u8],
        mode: Mode,
        mut row: Option<&mut Row>,
    ) -> Result<Conflict> {
        let full = full_key(tree, key);
        self.latched(&full, &mut || {
            let look = Look { past: Some(mode), to_seen: true, ..Look::default() };
            let Found { newest, seen } = self.look(&full, tree, session, look, row.as_deref_mut())?;
            let conflict = judge(newest, seen);
            if conflict != Conflict::None {
                return Ok(conflict);
            }
            let hash = lock_hash(&full);
            let (other, held) = self.locks.in_the_way(hash, mode, session.status)?;
            if let Some(by) = other {
                return Ok(Conflict::BeingModified { by });
            }
            if !held {
                self.locks.add(hash, session.stamp.txn, mode, session.status)?;
            }
            Ok(Conflict::None)
        })
    }

    /// Takes a speculative first version back, as if it had never been: at once and for everybody, however the transaction
    /// ends. Only for its writer.
    ///
    /// # Errors
    /// I/O, closed.
    pub fn take_back(&self, tree: TreeId, key: &[u8]) -> Result<()> {
        let full = full_key(tree, key);
        self.latched(&full, &mut || {
            let mut batch = Vec::new();
            push_op(&mut batch, Op { kind: Kind::Delete, key: &full, value: &[] });
            self.lsm.write(&batch, 1, Durability::Process)?;
            Ok(Conflict::None)
        })?;
        Ok(())
    }

    fn latched(&self, full: &[u8], work: &mut dyn FnMut() -> Result<Conflict>) -> Result<Conflict> {
        let mut outcome = Conflict::None;
        self.latches.latched(self.locks.latch_number(lock_hash(full)), &mut || {
            outcome = work()?;
            Ok(())
        })?;
        Ok(outcome)
    }

    /// The newest version that is not aborted, as far as one may be that did not commit before the session's snapshot.
    fn look_for_others(&self, full: &[u8], tree: TreeId, session: &Session<'_>) -> Result<Found> {
        // Only versions of transactions that may have run beside this one matter: they are newer than the oldest that ran at
        // the snapshot.
        let newer_than = match session.snapshot {
            Snapshot::At(at) => Some(at.oldest.min(session.stamp.txn)),
            _ => None,
        };
        self.look(full, tree, session, Look { newer_than, ..Look::default() }, None)
    }

    /// The newest version that is not aborted; and whether the snapshot sees the row, whose version goes to `row` then.
    fn look(
        &self,
        full: &[u8],
        tree: TreeId,
        session: &Session<'_>,
        Look { newer_than, past, to_seen }: Look,
        mut row: Option<&mut Row>,
    ) -> Result<Found> {
        let mut found = Found { newest: None, seen: false };
        let mut scratch = Vec::new();
        self.lsm.visit_versions(full, Expected { newer_than, is_there: false }, &mut scratch, &mut |value| {
            let version = self.read(value, tree)?;
            let time = match session.snapshot {
                Snapshot::At(at) => time_at(version.stamp, at, session.status)?,
                _ => time_now(version.stamp, session.status)?,
            };
            if time == Time::Aborted {
                return Ok(ControlFlow::Continue(()));
            }
            if found.newest.is_none() {
                let harmless = past.is_some_and(|mode| !mode.conflicts(Mode::of(version.kind)));
                if time == Time::InProgress && harmless {
                    return Ok(ControlFlow::Continue(()));
                }
                found.newest = Some(Newest { kind: version.kind, stamp: version.stamp, time });
            }
            let answer = seen(time, version.kind);
            found.seen = answer == Seen::Row;
            if let (true, Some(row)) = (found.seen, &mut row) {
                row.bytes.clear();
                row.bytes.extend_from_slice(value);
            }
            let go_on = to_seen && answer == Seen::AskOlder;
            Ok(if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }

    fn held_by_others(&self, full: &[u8], mode: Mode, session: &Session<'_>) -> Result<Conflict> {
        let (other, _) = self.locks.in_the_way(lock_hash(full), mode, session.status)?;
        Ok(other.map_or(Conflict::None, |by| Conflict::BeingModified { by }))
    }

    fn append(&self, session: &Session<'_>, full: &[u8], new: NewVersion<'_>) -> Result<()> {
        let NewVersion { kind, number, payload } = new;
        let mut value = Vec::with_capacity(payload.len() + 20);
        RowVersion { kind, number, stamp: Some(session.stamp), payload }.encode(&mut value);
        let mut batch = Vec::with_capacity(full.len() + value.len() + 16);
        push_op(&mut batch, Op { kind: Kind::Put, key: full, value: &value });
        self.lsm.write(&batch, 1, Durability::Process)
    }

    fn read<'v>(&self, value: &'v [u8], tree: TreeId) -> Result<RowVersion<'v>> {
        decode(value).map_err(|what| Error::corruption(&self.lsm.dir, 0, format!("{tree}: {what}")))
    }
}

#[cfg(test)]
mod tests;
