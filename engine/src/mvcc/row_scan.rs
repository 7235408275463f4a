//! Scans over the rows of a tree, forward and backward, in whole or in parts for several workers.
//!
//! A scan of a file whose versions are all frozen does no work for visibility beyond one comparison per row.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{TreeId, TxnId};
use crate::base::key::{full_key, prefix_successor};
use crate::error::{Error, Result};
use crate::format::row_version::{RowKind, RowVersion, Stamp, decode, frozen_put};
use crate::lsm::merge::Direction;
use crate::lsm::scan::{Choice, Chooser, Follows, Scan};
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
    newer: Newer,
    walk: Walk,
    settled: Settled,
}

/// A transaction that had committed before the scan's snapshot: rows that were loaded together have the same writer, who
/// need not be asked about for each.
#[derive(Clone, Copy, Default)]
struct Settled {
    writer: Option<TxnId>,
    /// The last header of a row that everybody who asks here sees.
    header: Header,
}

/// What stands before the payload of a put, to tell others of the same command by one comparison. Empty: none.
#[derive(Clone, Copy, Default)]
struct Header {
    bytes: u128,
    mask: u128,
    len: usize,
    number: u16,
    stamp: Option<Stamp>,
}

impl Header {
    const LEN_MAX: usize = size_of::<u128>();

    /// That of `version`, which `value` says; none when it is long.
    fn of(version: &RowVersion<'_>, value: &[u8]) -> Self {
        let len = value.len() - version.payload.len();
        let Some(&start) = value.first_chunk().filter(|_| len <= Self::LEN_MAX) else { return Self::default() };
        let mask = u128::MAX >> (8 * (Self::LEN_MAX - len));
        let bytes = u128::from_le_bytes(start) & mask;
        Self { bytes, mask, len, number: version.number, stamp: version.stamp }
    }

    /// The version that `value` says, if it begins with this header. The encoding of a header is the only one of what it says, and
    /// ends by itself.
    #[inline]
    fn version_of<'v>(&self, value: &'v [u8]) -> Option<RowVersion<'v>> {
        let start = u128::from_le_bytes(*value.first_chunk()?);
        let is_same = self.len > 0 && start & self.mask == self.bytes;
        let Self { number, stamp, .. } = *self;
        is_same.then(|| RowVersion { kind: RowKind::Put, number, stamp, payload: &value[self.len..] })
    }
}

impl Settled {
    /// Whether whoever wrote `version` is settled, or forgotten.
    #[inline]
    fn has_written(&self, version: &RowVersion<'_>) -> bool {
        version.stamp.is_none_or(|stamp| Some(stamp.txn) == self.writer)
    }

    /// After `version` was seen with `snapshot`. What a transaction has written itself depends on the command, and where there
    /// is no moment that is seen, answers change.
    fn note(&mut self, version: &RowVersion<'_>, snapshot: &Snapshot, status: &dyn TxnStatus) {
        if let (Snapshot::At(_), Some(stamp)) = (snapshot, version.stamp)
            && !status.is_own(stamp.txn)
        {
            *self = Self { writer: Some(stamp.txn), header: Header::default() };
        }
    }
}

/// The writers of the next newer versions of the rows in the scan's batch. Few rows have one.
#[derive(Default)]
struct Newer {
    /// Rows that have one, by their number in the scan.
    of: VecDeque<(u64, Stamp)>,
    pushed: u64,
    taken: u64,
}

impl Newer {
    /// The next row of the batch.
    #[inline]
    fn push(&mut self, newer: Option<Stamp>) {
        if let Some(stamp) = newer {
            self.of.push_back((self.pushed, stamp));
        }
        self.pushed += 1;
    }

    /// That of the next row that is returned.
    #[inline]
    fn take(&mut self) -> Option<Stamp> {
        let row = self.taken;
        self.taken += 1;
        let (_, stamp) = self.of.pop_front_if(|(number, _)| *number == row)?;
        Some(stamp)
    }
}

/// Where the rows go that a scan chooses.
pub trait RowSink {
    /// Takes the next row. What it refers to is gone afterwards.
    ///
    /// # Errors
    /// Ends the scan.
    fn put(&mut self, row: &ScannedRow<'_>) -> Result<()>;

    /// As [`Chooser::FOLLOWS`].
    const FOLLOWS: Option<Follows> = None;
}

/// Where a row goes when it is chosen.
trait Destination {
    /// Whether that is a copy of the row.
    const KEEPS: bool;
    const FOLLOWS: Option<Follows>;

    fn put(&mut self, row: &ScannedRow<'_>) -> Result<()>;
}

/// The scan's own batch has the row.
impl Destination for &mut Newer {
    const KEEPS: bool = false;
    const FOLLOWS: Option<Follows> = None;

    #[inline]
    fn put(&mut self, row: &ScannedRow<'_>) -> Result<()> {
        self.push(row.newer);
        Ok(())
    }
}

struct Into<'s, S>(&'s mut S);

impl<S: RowSink> Destination for Into<'_, S> {
    const KEEPS: bool = true;
    const FOLLOWS: Option<Follows> = S::FOLLOWS;

    #[inline(always)]
    fn put(&mut self, row: &ScannedRow<'_>) -> Result<()> {
        self.0.put(row)
    }
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

struct RowChooser<'c, D> {
    snapshot: &'c Snapshot,
    status: &'c dyn TxnStatus,
    walk: &'c mut Walk,
    settled: &'c mut Settled,
    passed: &'c mut Vec<TxnId>,
    tree: TreeId,
    prefix_len: usize,
    to: D,
}

impl<D: Destination> Chooser for RowChooser<'_, D> {
    const KEEPS: bool = D::KEEPS;
    const FOLLOWS: Option<Follows> = D::FOLLOWS;

    #[inline(always)]
    fn choose(&mut self, first: bool, key: &[u8], value: &[u8]) -> Result<Choice> {
        // Most rows by far: everybody sees the newest version, or it was written along with the row before.
        let frozen = |payload| RowVersion { kind: RowKind::Put, number: 0, stamp: None, payload };
        let plain = || frozen_put(value).map(frozen).or_else(|| self.settled.header.version_of(value));
        if first && let Some(version) = plain() {
            self.to.put(&ScannedRow { key: &key[self.prefix_len..], version, newer: None })?;
            return Ok(self.after_row());
        }
        self.choose_any(first, key, value)
    }
}

impl<D: Destination> RowChooser<'_, D> {
    #[inline]
    const fn after_row(&self) -> Choice {
        if matches!(self.snapshot, Snapshot::Any) { Choice::RowAndOlder } else { Choice::Row }
    }

    #[inline(never)]
    fn choose_any(&mut self, first: bool, key: &[u8], value: &[u8]) -> Result<Choice> {
        let version = decode(value).map_err(|what| bad_version(self.tree, what))?;
        let (seen, newer) = if first && version.kind == RowKind::Put && self.settled.has_written(&version) {
            self.settled.header = Header::of(&version, value);
            (Seen::Row, None)
        } else {
            (self.judge(first, &version)?, self.walk.newer)
        };
        match seen {
            Seen::Row => {
                self.to.put(&ScannedRow { key: &key[self.prefix_len..], version, newer })?;
                Ok(self.after_row())
            }
            Seen::NoRow => Ok(Choice::Nothing),
            Seen::AskOlder => Ok(Choice::Older),
        }
    }

    #[inline(never)]
    fn judge(&mut self, first: bool, version: &RowVersion<'_>) -> Result<Seen> {
        if first {
            *self.walk = Walk::default();
        }
        let seen = self.walk.step(version, self.snapshot, self.status)?;
        self.passed.extend(self.walk.passed);
        if seen == Seen::Row {
            self.settled.note(version, self.snapshot, self.status);
        }
        Ok(seen)
    }
}

#[cold]
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
        Ok(RowScan {
            scan,
            prefix_len: prefix.len(),
            tree,
            snapshot,
            newer: Newer::default(),
            walk: Walk::default(),
            settled: Settled::default(),
        })
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
    #[inline]
    pub fn next(&mut self, status: &dyn TxnStatus, passed: &mut Vec<TxnId>) -> Result<Option<ScannedRow<'_>>> {
        let Self { scan, snapshot, newer, walk, settled, tree, prefix_len } = self;
        let (tree, prefix_len) = (*tree, *prefix_len);
        let to = &mut *newer;
        let mut chooser = RowChooser { snapshot, status, walk, settled, passed, tree, prefix_len, to };
        let Some((key, value)) = scan.next_chosen(&mut chooser)? else { return Ok(None) };
        let version = decode(value).map_err(|what| bad_version(tree, what))?;
        Ok(Some(ScannedRow { key: &key[prefix_len..], version, newer: newer.take() }))
    }

    /// Puts the next rows into `sink`, a batch of them; how many, none at the end. As [`next`](Self::next) otherwise, but without
    /// its copy of each row. A scan is read in one of the two ways.
    ///
    /// # Errors
    /// As `next`; what the sink returned.
    pub fn put_more(
        &mut self,
        status: &dyn TxnStatus,
        passed: &mut Vec<TxnId>,
        sink: &mut impl RowSink,
    ) -> Result<usize> {
        let Self { scan, snapshot, walk, settled, tree, prefix_len, .. } = self;
        let (tree, prefix_len) = (*tree, *prefix_len);
        scan.choose_more(&mut RowChooser { snapshot, status, walk, settled, passed, tree, prefix_len, to: Into(sink) })
    }

    /// As [`Scan::fill_cache`].
    pub const fn fill_cache(&mut self) {
        self.scan.fill_cache();
    }

    /// The snapshot that the scan reads with.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}
