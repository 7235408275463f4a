//! Reading single rows: the version that a snapshot sees, or one version by its number.

use std::ops::ControlFlow;

use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::format::row_version::{RowKind, RowVersion, Stamp, decode};
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::versions::Expected;
use ssd_engine::mvcc::snapshot::Snapshot;
use ssd_engine::mvcc::status::{TxnState, TxnStatus};
use ssd_engine::mvcc::visibility::{Seen, Walk};
use ssd_engine::{Error, Result};

use super::tid::{Root, Tid};

/// A version that was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its number.
    pub number: u16,
    /// Who wrote it; `None` when that is forgotten.
    pub stamp: Option<Stamp>,
    /// Who wrote the next newer one that was not rolled back.
    pub newer: Option<Stamp>,
    /// The row, see [`tuple`](super::tuple).
    pub row: Vec<u8>,
    /// The token of a speculative insert.
    pub token: u32,
    /// Writers of newer versions that the snapshot does not count.
    pub passed: Vec<TxnId>,
    /// Newer versions, also those to come, have writers that are not older than this; `None` when that is not known.
    pub newer_from: Option<TxnId>,
}

/// Who stands in the way of a dirty read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Who is inserting the version that was found.
    pub inserting: Option<TxnId>,
    /// Who is changing or deleting it.
    pub changing: Option<TxnId>,
    /// The token of a speculative insert, or 0.
    pub token: u32,
}

/// Splits the payload of a row into the token of a speculative insert, if it is one, and the row.
///
/// # Errors
/// Corruption-like, for a speculative version without its token.
#[inline]
pub fn row_of<'v>(version: &RowVersion<'v>) -> Result<(u32, &'v [u8])> {
    if version.kind != RowKind::Speculative { Ok((0, version.payload)) } else { speculative(version) }
}

#[cold]
fn speculative<'v>(version: &RowVersion<'v>) -> Result<(u32, &'v [u8])> {
    let bad = || Error::corruption(std::path::Path::new(""), 0, "a speculative row has no token");
    let (token, row) = version.payload.split_first_chunk::<4>().ok_or_else(bad)?;
    Ok((u32::from_le_bytes(*token), row))
}

/// Calls `visit` with the versions of a row, newest first.
///
/// # Errors
/// I/O, corruption; what `visit` returned.
pub fn walk(lsm: &Lsm, full: &[u8], visit: &mut dyn FnMut(&RowVersion<'_>) -> Result<ControlFlow<()>>) -> Result<()> {
    // What names a row is left only once the row is.
    walk_expected(lsm, full, Expected { newer_than: None, is_there: true }, visit)
}

/// As [`walk`], but past files in which all writers are older than `newer_than`.
///
/// # Errors
/// As [`walk`].
pub fn walk_newer(
    lsm: &Lsm,
    full: &[u8],
    newer_than: Option<TxnId>,
    visit: &mut dyn FnMut(&RowVersion<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    walk_expected(lsm, full, Expected { newer_than, is_there: newer_than.is_none() }, visit)
}

fn walk_expected(
    lsm: &Lsm,
    full: &[u8],
    expected: Expected,
    visit: &mut dyn FnMut(&RowVersion<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    lsm.visit_versions(full, expected, &mut Vec::new(), &mut |value| {
        let version = decode(value).map_err(|why| Error::corruption(std::path::Path::new(""), 0, why))?;
        visit(&version)
    })
}

impl Found {
    /// Makes it a version with these.
    pub fn set(&mut self, number: u16, stamp: Option<Stamp>, row: &[u8]) {
        (self.number, self.stamp) = (number, stamp);
        self.row.clear();
        self.row.extend_from_slice(row);
    }
}

fn fill(found: &mut Found, version: &RowVersion<'_>) -> Result<()> {
    let (token, row) = row_of(version)?;
    found.set(version.number, version.stamp, row);
    found.token = token;
    Ok(())
}

/// The version of the row at `root` that `snapshot` sees; whether there is one. Not for dirty snapshots.
///
/// # Errors
/// I/O, corruption.
pub fn fetch(
    lsm: &Lsm,
    (tree, root): (TreeId, Root),
    snapshot: &Snapshot,
    status: &dyn TxnStatus,
    found: &mut Found,
) -> Result<bool> {
    let mut state = Walk::default();
    let mut is_found = false;
    found.passed.clear();
    walk(lsm, &root.full_key(tree), &mut |version| {
        let seen = match snapshot {
            // What was rolled back is no version to anybody here.
            Snapshot::Any if !is_live(version, status)? => Seen::AskOlder,
            _ => state.step(version, snapshot, status)?,
        };
        found.passed.extend(state.passed.take());
        match seen {
            Seen::Row => {
                fill(found, version)?;
                is_found = true;
            }
            Seen::NoRow => {}
            Seen::AskOlder => return Ok(ControlFlow::Continue(())),
        }
        Ok(ControlFlow::Break(()))
    })?;
    found.newer = state.newer;
    // The snapshot counts all that older writers have committed, so there is none of theirs after the one that it sees.
    found.newer_from = if let Snapshot::At(at) = snapshot { Some(at.oldest) } else { None };
    Ok(is_found)
}

/// Whether a version was not rolled back.
///
/// # Errors
/// As the status'.
pub fn is_live(version: &RowVersion<'_>, status: &dyn TxnStatus) -> Result<bool> {
    is_live_stamp(version.stamp, status)
}

/// Whether what `stamp` says was not rolled back.
///
/// # Errors
/// As the status'.
pub fn is_live_stamp(stamp: Option<Stamp>, status: &dyn TxnStatus) -> Result<bool> {
    let Some(stamp) = stamp else { return Ok(true) };
    Ok(status.is_own(stamp.txn) || status.state(stamp.txn)? != TxnState::Aborted)
}

/// What a dirty read finds: the newest version that is not rolled back, unless a running transaction is changing it: then the
/// version before.
///
/// # Errors
/// I/O, corruption.
pub fn fetch_dirty(
    lsm: &Lsm,
    (tree, root): (TreeId, Root),
    status: &dyn TxnStatus,
    found: &mut Found,
) -> Result<Option<Dirty>> {
    let mut dirty = Dirty::default();
    let (mut writing, mut fallback, mut is_found) = (None, false, false);
    found.passed.clear();
    (found.newer, found.newer_from) = (None, None);
    walk(lsm, &root.full_key(tree), &mut |version| {
        if let Some(stamp) = version.stamp
            && !status.is_own(stamp.txn)
        {
            match status.state(stamp.txn)? {
                TxnState::Aborted => return Ok(ControlFlow::Continue(())),
                TxnState::InProgress => {
                    writing = Some(stamp.txn);
                    // The newest one: a speculative version that was confirmed has the confirmed one before it.
                    if version.kind.is_row() && !fallback {
                        fill(found, version)?;
                        fallback = true;
                    }
                    return Ok(ControlFlow::Continue(()));
                }
                TxnState::Committed => {}
            }
        }
        if version.kind.is_row() {
            fill(found, version)?;
            is_found = true;
        }
        Ok(ControlFlow::Break(()))
    })?;
    if is_found {
        dirty.changing = writing;
        return Ok(Some(dirty));
    }
    if fallback {
        dirty.inserting = writing;
        dirty.token = found.token;
        return Ok(Some(dirty));
    }
    Ok(None)
}

/// Whether everybody sees what a version says; `seen_by_all` is asked about its writer when that has committed.
///
/// # Errors
/// As the status'.
pub fn is_settled(
    version: &RowVersion<'_>,
    status: &dyn TxnStatus,
    seen_by_all: &dyn Fn(TxnId) -> bool,
) -> Result<bool> {
    let Some(Stamp { txn, .. }) = version.stamp else { return Ok(true) };
    Ok(!status.is_own(txn) && status.state(txn)? == TxnState::Committed && seen_by_all(txn))
}

/// Whether the version of the row at `root` with one number is not older than that with another; also when there is neither.
///
/// # Errors
/// I/O, corruption.
pub fn is_as_new(
    lsm: &Lsm,
    (tree, root): (TreeId, Root),
    number: u16,
    other: u16,
    status: &dyn TxnStatus,
) -> Result<bool> {
    let mut first = number;
    walk(lsm, &root.full_key(tree), &mut |version| {
        if !version.kind.is_row() || ![number, other].contains(&version.number) || !is_live(version, status)? {
            return Ok(ControlFlow::Continue(()));
        }
        first = version.number;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first == number)
}

/// The version that `tid` names, whoever sees it, unless it was rolled back; whether there is one.
///
/// # Errors
/// I/O, corruption.
pub fn fetch_exact(lsm: &Lsm, tree: TreeId, tid: Tid, status: &dyn TxnStatus, found: &mut Found) -> Result<bool> {
    let mut is_found = false;
    found.passed.clear();
    (found.newer, found.newer_from) = (None, None);
    walk(lsm, &tid.root.full_key(tree), &mut |version| {
        if !is_live(version, status)? {
            return Ok(ControlFlow::Continue(()));
        }
        if version.kind.is_row() && version.number == tid.number {
            fill(found, version)?;
            is_found = true;
            return Ok(ControlFlow::Break(()));
        }
        found.newer = version.stamp;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(is_found)
}

/// Where the row at `root` has moved to, by its newest version that is not rolled back.
///
/// # Errors
/// I/O, corruption.
pub fn moved_to(lsm: &Lsm, tree: TreeId, root: Root, status: &dyn TxnStatus) -> Result<Option<Root>> {
    let mut to = None;
    walk(lsm, &root.full_key(tree), &mut |version| {
        if !is_live(version, status)? {
            return Ok(ControlFlow::Continue(()));
        }
        if version.kind == RowKind::Moved {
            to = super::write::Moved::decode(version.payload)?.to;
        }
        Ok(ControlFlow::Break(()))
    })?;
    Ok(to)
}

/// Whether any version of the row may still be seen by somebody: a version that is not rolled back, and no end that everybody
/// sees by `seen_by_all`, which is asked about the writer of a committed end.
///
/// # Errors
/// I/O, corruption.
pub fn may_be_seen(
    lsm: &Lsm,
    tree: TreeId,
    root: Root,
    status: &dyn TxnStatus,
    seen_by_all: &dyn Fn(TxnId) -> bool,
) -> Result<bool> {
    let mut seen = false;
    walk(lsm, &root.full_key(tree), &mut |version| {
        if !is_live(version, status)? {
            return Ok(ControlFlow::Continue(()));
        }
        seen = version.kind.is_row() || !is_settled(version, status, seen_by_all)?;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(seen)
}
