//! Whether a version may be changed or locked, as tableam.h promises it, and who stands in the way.
//!
//! Unlike the engine's own row store, which judges by snapshots, the server names the version that it has read; what counts is
//! what came after it.

use std::ops::ControlFlow;

use ssd_engine::Result;
use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::format::row_version::{RowKind, Stamp};
use ssd_engine::lsm::Lsm;
use ssd_engine::mvcc::row_locks::{Mode, RowLocks, lock_hash};
use ssd_engine::mvcc::status::{TxnState, TxnStatus};

use super::read::{Found, row_of, walk, walk_newer};
use super::tid::{Root, Tid};
use super::write::Moved;

/// What came after a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A newer version of the row, here.
    Version(u16),
    /// The row's move.
    Moved(Moved),
    /// The row's end.
    Deleted,
}

/// Whether somebody may change or lock a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes. `successor`: what a running transaction has written after it, when that is not in the way of a lock.
    Free {
        /// See above.
        successor: Option<Next>,
    },
    /// There is no such version, or not for this transaction.
    Invisible,
    /// A later command of this transaction has changed it.
    SelfModified(Stamp, Next),
    /// This transaction has changed it before.
    SelfChangedBefore,
    /// Somebody has changed it who has committed.
    Changed(Stamp, Next),
    /// Somebody who runs is changing it or holds a lock.
    Wait {
        /// Who.
        on: TxnId,
        /// It is a lock, not a change.
        is_lock: bool,
    },
}

/// What wants to change or lock a version.
#[derive(Clone, Copy)]
pub struct Wish<'w> {
    /// The present command: later ones of this transaction are not seen.
    pub command: u32,
    /// How strong.
    pub mode: Mode,
    /// Only a lock, which may stand beside a change that it does not conflict with.
    pub is_lock: bool,
    /// Knows the transactions.
    pub status: &'w dyn TxnStatus,
}

/// What a version in progress amounts to as a lock.
fn mode_of(kind: RowKind, payload: &[u8]) -> Result<Mode> {
    Ok(match kind {
        RowKind::Put | RowKind::Speculative => Mode::NoKeyUpdate,
        RowKind::Tombstone => Mode::Update,
        RowKind::Moved if Moved::decode(payload)?.key_changed || Moved::decode(payload)?.other_partition => {
            Mode::Update
        }
        RowKind::Moved => Mode::NoKeyUpdate,
    })
}

/// Judges `wish` for the version `tid`; `found` gets the version, when there is one. Under the row's latch.
///
/// `known` is that version as it was read before, if it was: it is not looked for where only older ones are.
///
/// # Errors
/// I/O, corruption.
pub fn judge(
    lsm: &Lsm,
    locks: &RowLocks,
    (tree, tid): (TreeId, Tid),
    wish: &Wish<'_>,
    known: Option<&Found>,
    found: &mut Found,
) -> Result<Verdict> {
    let status = wish.status;
    let full = tid.root.full_key(tree);
    // What came after the version, newest first.
    let mut newer: Vec<(Next, Stamp, Mode)> = Vec::new();
    let known = known.filter(|known| known.newer_from.is_some() && known.number == tid.number);
    let mut itself = None;
    walk_newer(lsm, &full, known.and_then(|known| known.newer_from), &mut |version| {
        if version.kind.is_row() && version.number == tid.number {
            let Some(time) = own_time(version.stamp, wish)? else { return Ok(ControlFlow::Continue(())) };
            itself = Some(time);
            found.set(version.number, version.stamp, row_of(version)?.1);
            return Ok(ControlFlow::Break(()));
        }
        let Some(stamp) = version.stamp else { return Ok(ControlFlow::Continue(())) };
        if !status.is_own(stamp.txn) && status.state(stamp.txn)? == TxnState::Aborted {
            return Ok(ControlFlow::Continue(()));
        }
        let next = match version.kind {
            RowKind::Put | RowKind::Speculative => Next::Version(version.number),
            RowKind::Tombstone => Next::Deleted,
            RowKind::Moved => Next::Moved(Moved::decode(version.payload)?),
        };
        newer.push((next, stamp, mode_of(version.kind, version.payload)?));
        Ok(ControlFlow::Continue(()))
    })?;
    if let (None, Some(known)) = (itself, known) {
        itself = own_time(known.stamp, wish)?;
        found.set(known.number, known.stamp, &known.row);
    }
    found.newer = newer.last().map(|(_, stamp, _)| *stamp);
    let verdict = if itself == Some(true) { after(&newer, wish)? } else { Verdict::Invisible };
    if let Verdict::Free { .. } = verdict {
        let (other, _) = locks.in_the_way(lock_hash(&full), wish.mode, status)?;
        if let Some(on) = other {
            return Ok(Verdict::Wait { on, is_lock: true });
        }
    }
    Ok(verdict)
}

/// Whether the version itself is there for the asking transaction: `None` when it was rolled back.
fn own_time(stamp: Option<Stamp>, wish: &Wish<'_>) -> Result<Option<bool>> {
    let Some(stamp) = stamp else { return Ok(Some(true)) };
    if wish.status.is_own(stamp.txn) {
        return Ok(Some(stamp.command.0 < wish.command));
    }
    Ok(match wish.status.state(stamp.txn)? {
        TxnState::Aborted => None,
        TxnState::InProgress => Some(false),
        TxnState::Committed => Some(true),
    })
}

fn after(newer: &[(Next, Stamp, Mode)], wish: &Wish<'_>) -> Result<Verdict> {
    let Some(&(next, by, _)) = newer.last() else { return Ok(Verdict::Free { successor: None }) };
    if wish.status.is_own(by.txn) {
        return Ok(if by.command.0 >= wish.command {
            Verdict::SelfModified(by, next)
        } else {
            Verdict::SelfChangedBefore
        });
    }
    // A lock that only wants the key to stay goes along with changes that keep it, committed or not.
    let in_the_way = |&&(_, _, mode): &&(Next, Stamp, Mode)| !wish.is_lock || wish.mode.conflicts(mode);
    let Some(&(_, by, _)) = newer.iter().rev().find(in_the_way) else {
        return Ok(Verdict::Free { successor: Some(next) });
    };
    Ok(match wish.status.state(by.txn)? {
        TxnState::Committed => Verdict::Changed(by, next),
        // Rolled back since it was passed: whoever asks comes again and finds it so.
        TxnState::InProgress | TxnState::Aborted => Verdict::Wait { on: by.txn, is_lock: false },
    })
}

/// What a lock that follows its row to where it has moved finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// Nothing that is in its way.
    Free,
    /// A change by somebody who runs.
    Wait(TxnId),
    /// A change by somebody who has committed.
    Changed,
}

/// What is in the way of a lock that follows its row to `root`, where somebody has moved it, and on from there.
///
/// # Errors
/// I/O, corruption.
pub fn onward(lsm: &Lsm, tree: TreeId, root: Root, wish: &Wish<'_>) -> Result<Onward> {
    let mut at = root;
    loop {
        let (mut found, mut next) = (Onward::Free, None);
        walk(lsm, &at.full_key(tree), &mut |version| {
            let Some(stamp) = version.stamp else { return Ok(ControlFlow::Break(())) };
            let is_own = wish.status.is_own(stamp.txn);
            let state = if is_own { TxnState::Committed } else { wish.status.state(stamp.txn)? };
            if state == TxnState::Aborted {
                return Ok(ControlFlow::Continue(()));
            }
            if !is_own && wish.mode.conflicts(mode_of(version.kind, version.payload)?) {
                found = if state == TxnState::InProgress { Onward::Wait(stamp.txn) } else { Onward::Changed };
                return Ok(ControlFlow::Break(()));
            }
            if version.kind == RowKind::Moved {
                next = Moved::decode(version.payload)?.to;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        match (found, next) {
            (Onward::Free, Some(root)) => at = root,
            _ => return Ok(found),
        }
    }
}

/// The place of what came after a version of the row at `root`; the version's own place when the row has ended.
#[must_use]
pub fn next_tid(tid: Tid, next: Next) -> Option<Tid> {
    match next {
        Next::Version(number) => Some(Tid { root: tid.root, number }),
        Next::Moved(Moved { to: Some(root), .. }) => Some(Tid::of_root(root)),
        Next::Moved(Moved { to: None, .. }) | Next::Deleted => None,
    }
}

/// The live holders of locks on the row at `root`.
///
/// # Errors
/// As the locks'.
pub fn holders(locks: &RowLocks, tree: TreeId, root: Root, status: &dyn TxnStatus) -> Result<Vec<(TxnId, Mode)>> {
    let mut out = Vec::new();
    locks.holders(lock_hash(&root.full_key(tree)), status, &mut |txn, mode| out.push((txn, mode)))?;
    Ok(out)
}
