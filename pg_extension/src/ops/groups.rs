//! All versions of a tree, row by row: for building indexes, rewriting and cleaning tables.

use std::sync::Arc;

use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::base::key::{full_key, prefix_successor};
use ssd_engine::format::row_version::{RowVersion, decode};
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::merge::Direction;
use ssd_engine::lsm::scan::{Choice, Chooser, Scan};
use ssd_engine::mvcc::status::{TxnState, TxnStatus};
use ssd_engine::{Error, Result};

use super::tid::Root;

/// Reads rows with all their versions.
pub struct Groups {
    scan: Scan,
    prefix_len: usize,
    /// The scan has returned the first version of the next row already.
    is_ahead: bool,
    key: Vec<u8>,
    group: Group,
}

/// A row with its versions, newest first.
#[derive(Clone, Debug)]
pub struct Group {
    /// Where it is.
    pub root: Root,
    /// The versions' bytes, one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

struct Everything;

impl Chooser for Everything {
    fn choose(&mut self, _first: bool, _key: &[u8], _value: &[u8]) -> Result<Choice> {
        Ok(Choice::RowAndOlder)
    }
}

impl Groups {
    /// The rows of `tree` in blocks from the first to before the second.
    #[must_use]
    pub fn new(lsm: &Arc<Lsm>, tree: TreeId, from: u32, to: Option<u32>) -> Self {
        let prefix = full_key(tree, &[]);
        let start = full_key(tree, &from.to_be_bytes());
        let end = to.map_or_else(|| prefix_successor(&prefix), |to| Some(full_key(tree, &to.to_be_bytes())));
        Self::in_range(lsm, prefix.len(), start, end)
    }

    /// The row at `root` alone.
    #[must_use]
    pub fn of_row(lsm: &Arc<Lsm>, tree: TreeId, root: Root) -> Self {
        let (start, prefix) = (root.full_key(tree).to_vec(), full_key(tree, &[]));
        let mut end = start.clone();
        end.push(0);
        Self::in_range(lsm, prefix.len(), start, Some(end))
    }

    fn in_range(lsm: &Arc<Lsm>, prefix_len: usize, start: Vec<u8>, end: Option<Vec<u8>>) -> Self {
        let scan = Scan::unanchored(Arc::clone(lsm), start, end, Direction::Forward);
        let group = Group { root: Root { block: 0, slot: 1 }, bytes: Vec::new(), ends: Vec::new() };
        Self { scan, prefix_len, is_ahead: false, key: Vec::new(), group }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn next_group(&mut self) -> Result<Option<&Group>> {
        let Self { scan, prefix_len, is_ahead, key, group } = self;
        let first = if *is_ahead { scan.current() } else { scan.next_chosen(&mut Everything)? };
        let Some((full, value)) = first else { return Ok(None) };
        key.clear();
        key.extend_from_slice(full);
        group.clear();
        group.push(value);
        *is_ahead = false;
        while let Some((full, value)) = scan.next_chosen(&mut Everything)? {
            if full != &key[..] {
                *is_ahead = true;
                break;
            }
            group.push(value);
        }
        group.root = Root::from_key(&key[*prefix_len..])
            .ok_or_else(|| Error::corruption(std::path::Path::new(""), 0, "a row's key has another length"))?;
        Ok(Some(group))
    }
}

impl Group {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, version: &[u8]) {
        self.bytes.extend_from_slice(version);
        self.ends.push(self.bytes.len());
    }

    /// How many versions there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.ends.len()
    }

    /// The versions.
    fn versions(&self) -> impl Iterator<Item = Result<RowVersion<'_>>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| {
            decode(&self.bytes[start..end]).map_err(|why| Error::corruption(std::path::Path::new(""), 0, why))
        })
    }

    /// The writers of the row's versions that were rolled back.
    ///
    /// # Errors
    /// Corruption.
    pub fn rolled_back(&self, status: &dyn TxnStatus) -> Result<Vec<TxnId>> {
        let mut out = Vec::new();
        for version in self.versions() {
            let version = version?;
            if let Some(stamp) = version.stamp
                && !status.is_own(stamp.txn)
                && status.state(stamp.txn)? == TxnState::Aborted
            {
                out.push(stamp.txn);
            }
        }
        Ok(out)
    }

    /// The row's versions that were not rolled back, newest first.
    ///
    /// # Errors
    /// Corruption.
    pub fn live(&self, status: &dyn TxnStatus) -> Result<Vec<RowVersion<'_>>> {
        let mut out = Vec::with_capacity(self.count());
        for version in self.versions() {
            let version = version?;
            let aborted = match version.stamp {
                Some(stamp) => !status.is_own(stamp.txn) && status.state(stamp.txn)? == TxnState::Aborted,
                None => false,
            };
            if !aborted {
                out.push(version);
            }
        }
        Ok(out)
    }
}

/// Whether everybody, now and later, sees what this version says: it was written and committed before `oldest`.
///
/// # Errors
/// As the status'.
pub fn is_seen_by_all(version: &RowVersion<'_>, oldest: TxnId, status: &dyn TxnStatus) -> Result<bool> {
    let Some(stamp) = version.stamp else { return Ok(true) };
    Ok(stamp.txn < oldest && !status.is_own(stamp.txn) && status.state(stamp.txn)? == TxnState::Committed)
}
