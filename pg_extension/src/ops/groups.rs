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
    /// The first version of the next row, when it was read already.
    ahead: Option<(Vec<u8>, Vec<u8>)>,
}

/// A row with its versions, newest first.
#[derive(Clone, Debug)]
pub struct Group {
    /// Where it is.
    pub root: Root,
    /// The versions' bytes.
    pub versions: Vec<Vec<u8>>,
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
        let scan = Scan::unanchored(Arc::clone(lsm), start, end, Direction::Forward);
        Self { scan, prefix_len: prefix.len(), ahead: None }
    }

    /// The row at `root` alone.
    #[must_use]
    pub fn of_row(lsm: &Arc<Lsm>, tree: TreeId, root: Root) -> Self {
        let (start, prefix) = (root.full_key(tree), full_key(tree, &[]));
        let mut end = start.clone();
        end.push(0);
        let scan = Scan::unanchored(Arc::clone(lsm), start, Some(end), Direction::Forward);
        Self { scan, prefix_len: prefix.len(), ahead: None }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn next_group(&mut self) -> Result<Option<Group>> {
        let (key, value) = match self.ahead.take() {
            Some(ahead) => ahead,
            None => match self.scan.next_chosen(&mut Everything)? {
                Some((key, value)) => (key[self.prefix_len..].to_vec(), value.to_vec()),
                None => return Ok(None),
            },
        };
        let mut versions = vec![value];
        while let Some((next, value)) = self.scan.next_chosen(&mut Everything)? {
            if next[self.prefix_len..] != key[..] {
                self.ahead = Some((next[self.prefix_len..].to_vec(), value.to_vec()));
                break;
            }
            versions.push(value.to_vec());
        }
        let root = Root::from_key(&key)
            .ok_or_else(|| Error::corruption(std::path::Path::new(""), 0, "a row's key has another length"))?;
        Ok(Some(Group { root, versions }))
    }
}

impl Group {
    /// The writers of the row's versions that were rolled back.
    ///
    /// # Errors
    /// Corruption.
    pub fn rolled_back(&self, status: &dyn TxnStatus) -> Result<Vec<TxnId>> {
        let mut out = Vec::new();
        for bytes in &self.versions {
            let version = decode(bytes).map_err(|why| Error::corruption(std::path::Path::new(""), 0, why))?;
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
        let mut out = Vec::with_capacity(self.versions.len());
        for bytes in &self.versions {
            let version = decode(bytes).map_err(|why| Error::corruption(std::path::Path::new(""), 0, why))?;
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
