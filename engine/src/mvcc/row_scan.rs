//! Scans over the rows of a tree, forward and backward, in whole or in parts for several workers.
//!
//! A scan of a file whose versions are all frozen does no work for visibility beyond one comparison per row.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{TreeId, TxnId};
use crate::base::key::{full_key, prefix_successor};
use crate::error::{Error, Result};
use crate::format::row_version::{RowVersion, Stamp, decode};
use crate::lsm::merge::Direction;
use crate::lsm::scan::{Choice, Chooser, Scan};
use crate::mvcc::rows::RowStore;
use crate::mvcc::snapshot::Snapshot;
use crate::mvcc::status::TxnStatus;
use crate::mvcc::visibility::{Seen, Walk};

/// Which keys of a tree: `from` inclusive, `to` exclusive; `None` is unbounded.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyRange<'a> {
    /// The first key.
    pub from: Option<&'a [u8]>,
    /// The first key that is not scanned.
    pub to: Option<&'a [u8]>,
}

/// A scan under way. Holds nothing in the engine between two calls.
pub struct RowScan {
    scan: Scan,
    prefix_len: usize,
    tree: TreeId,
    snapshot: Snapshot,
    /// For each row in the scan's batch, the writer of the next newer version.
    newer: VecDeque<Option<Stamp>>,
    walk: Walk,
}

/// A row of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedRow<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The version that the snapshot sees.
    pub version: RowVersion<'a>,
    /// The writer of the next newer version, if it has one that was not rolled back.
    pub newer: Option<Stamp>,
}

struct RowChooser<'c> {
    snapshot: &'c Snapshot,
    status: &'c dyn TxnStatus,
    walk: &'c mut Walk,
    newer: &'c mut VecDeque<Option<Stamp>>,
    passed: &'c mut Vec<TxnId>,
    tree: TreeId,
}

impl Chooser for RowChooser<'_> {
    #[inline]
    fn choose(&mut self, first: bool, _key: &[u8], value: &[u8]) -> Result<Choice> {
        if first {
            *self.walk = Walk::default();
        }
        let version = decode(value).map_err(|what| bad_version(self.tree, what))?;
        let seen = self.walk.step(&version, self.snapshot, self.status)?;
        self.passed.extend(self.walk.passed);
        if seen == Seen::Row {
            self.newer.push_back(self.walk.newer);
        }
        Ok(match seen {
            Seen::Row if *self.snapshot == Snapshot::Any => Choice::RowAndOlder,
            Seen::Row => Choice::Row,
            Seen::NoRow => Choice::Nothing,
            Seen::AskOlder => Choice::Older,
        })
    }
}

fn bad_version(tree: TreeId, what: &str) -> Error {
    Error::corruption(std::path::Path::new(""), 0, format!("{tree}: {what}"))
}

impl RowStore {
    /// Scans the rows of `tree` in `range` that `snapshot` sees.
    ///
    /// # Errors
    /// Usage for a dirty snapshot: only single rows are read dirty.
    pub fn scan(&self, tree: TreeId, range: KeyRange<'_>, direction: Direction, snapshot: Snapshot) -> Result<RowScan> {
        if snapshot == Snapshot::Dirty {
            return Err(Error::usage("scan with a dirty snapshot", "Fetch single rows dirty."));
        }
        let prefix = full_key(tree, &[]);
        let from = range.from.map_or_else(|| prefix.clone(), |key| full_key(tree, key));
        let to = range.to.map_or_else(|| prefix_successor(&prefix), |key| Some(full_key(tree, key)));
        let scan = Scan::unanchored(Arc::clone(self.lsm()), from, to, direction);
        let (newer, walk) = (VecDeque::new(), Walk::default());
        Ok(RowScan { scan, prefix_len: prefix.len(), tree, snapshot, newer, walk })
    }

    /// Keys that cut `range` of `tree` into up to `parts` parts with about as many bytes each, for scans by several
    /// workers. Fewer when there is little data.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn split(&self, tree: TreeId, range: KeyRange<'_>, parts: usize) -> Result<Vec<Vec<u8>>> {
        let prefix = full_key(tree, &[]);
        let from = range.from.map_or_else(|| prefix.clone(), |key| full_key(tree, key));
        let to = range.to.map_or_else(|| prefix_successor(&prefix), |key| Some(full_key(tree, key)));
        let cuts = self.lsm().split_keys(&from, to.as_deref(), parts)?;
        Ok(cuts.into_iter().map(|key| key[prefix.len().min(key.len())..].to_vec()).collect())
    }
}

impl RowScan {
    /// The next row; `None` at the end. `status` is that of the same transaction in each call. Adds to `passed` the writers
    /// whose versions were passed over because they had not committed before the snapshot.
    ///
    /// # Errors
    /// I/O, corruption; the scan may not be used any more then.
    pub fn next(&mut self, status: &dyn TxnStatus, passed: &mut Vec<TxnId>) -> Result<Option<ScannedRow<'_>>> {
        let Self { scan, snapshot, newer, walk, tree, prefix_len } = self;
        let mut chooser = RowChooser { snapshot, status, walk, newer, passed, tree: *tree };
        let Some((key, value)) = scan.next_chosen(&mut chooser)? else { return Ok(None) };
        let newer = newer.pop_front().flatten();
        let version = decode(value).map_err(|what| bad_version(*tree, what))?;
        Ok(Some(ScannedRow { key: &key[*prefix_len..], version, newer }))
    }

    /// The snapshot that the scan reads with.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}
