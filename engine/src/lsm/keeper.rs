//! What a flush or compaction writes of the entries it reads: decided by sequence numbers in trees of values, by
//! transactions in trees of rows.
//!
//! Entries come in the order of internal keys. What a tree is stands in the version; without a host that knows transactions
//! every version of a row is kept, and every lock.

use std::collections::BTreeMap;

use crate::base::ids::{SeqNo, TreeId, TxnId};
use crate::base::key::{Kind, Trailer, split_full_key};
use crate::error::Result;
use crate::format::range_del::RangeTombstones;
use crate::format::row_version;
use crate::lsm::Lsm;
use crate::lsm::compaction::drop_rule::{DropRule, Verdict};
use crate::lsm::hosted::Host;
use crate::lsm::row_host::{RowHost, TreeKind, ValueRule, ValueVerdict};
use crate::lsm::version::Version;

/// What is written of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Its trailer; the sequence number may be gone.
    pub trailer: Trailer,
    /// Its value, perhaps in another form.
    pub value: &'a [u8],
    /// The writer of a version that is not frozen.
    pub txn: Option<TxnId>,
}

/// Judges entries for one job.
pub struct Keeper<'l> {
    values: DropRule,
    rows: Option<Box<dyn ValueRule + 'l>>,
    host: Option<&'l dyn RowHost>,
    /// Knows what trees are, when the version does not.
    trees: Option<&'l dyn Host>,
    /// The trees that are not ones of values.
    kinds: BTreeMap<TreeId, TreeKind>,
    /// Tree prefix of the last key, and what that tree is.
    prefix: Vec<u8>,
    kind: TreeKind,
    /// The rest of the row is deleted with its key.
    row_deleted: bool,
    visible: SeqNo,
    frozen: Vec<u8>,
}

/// The trees of `version` that are not ones of values.
fn kinds(version: &Version) -> BTreeMap<TreeId, TreeKind> {
    let kind = |options: &[u8]| TreeKind::from_options(options).unwrap_or(TreeKind::Values);
    let trees = version.trees.iter().map(|(&id, tree)| (id, kind(&tree.options)));
    trees.filter(|(_, kind)| *kind != TreeKind::Values).collect()
}

/// The writer of a version that is not frozen.
fn writer_of(value: &[u8]) -> Option<TxnId> {
    row_version::decode(value).ok()?.stamp.map(|stamp| stamp.txn)
}

impl<'l> Keeper<'l> {
    /// A keeper for a job of `lsm` that begins now, whose inputs are known already.
    ///
    /// # Errors
    /// I/O of the host that knows transactions.
    pub fn new(lsm: &'l Lsm) -> Result<Self> {
        let snapshots = lsm.live_snapshots();
        let visible = snapshots.last().copied().unwrap_or_default();
        let kinds = kinds(&lsm.local_view().version);
        let keeper = lsm.host.get().map(|host| &**host);
        let host = lsm.row_host.get().map(|host| &**host).filter(|_| keeper.is_some() || !kinds.is_empty());
        Ok(Self {
            values: DropRule::new(snapshots),
            rows: host.map(RowHost::rule).transpose()?,
            host,
            trees: keeper,
            kinds,
            prefix: Vec::new(),
            kind: TreeKind::Values,
            row_deleted: false,
            visible,
            frozen: Vec::new(),
        })
    }

    /// A keeper for entries that are all written as they are.
    #[must_use]
    pub fn keep_all(version: &Version) -> Self {
        Self {
            values: DropRule::new(Vec::new()),
            rows: None,
            host: None,
            trees: None,
            kinds: kinds(version),
            prefix: Vec::new(),
            kind: TreeKind::Values,
            row_deleted: false,
            visible: SeqNo::default(),
            frozen: Vec::new(),
        }
    }

    /// The job has judged its last entry: what its verdicts rest on is made stable before its outputs may count.
    ///
    /// # Errors
    /// I/O of the host that knows transactions.
    pub fn finish(self) -> Result<()> {
        self.host.map_or(Ok(()), RowHost::make_ends_stable)
    }

    /// An entry as it is.
    pub fn as_is<'a>(&mut self, key: &[u8], trailer: Trailer, value: &'a [u8]) -> Kept<'a> {
        self.enter(key);
        let is_version = self.kind == TreeKind::Rows && trailer.kind() == Some(Kind::Put);
        Kept { trailer, value, txn: if is_version { writer_of(value) } else { None } }
    }

    /// Whether a range tombstone is still needed; see [`DropRule::keeps_range_tombstone`].
    #[must_use]
    pub fn keeps_range_tombstone(&self, seqno: SeqNo, bottommost: bool) -> bool {
        self.values.keeps_range_tombstone(seqno, bottommost)
    }

    /// What is written of an entry; `None`: nothing. `new_key`: its full key differs from the one before. `covering`: the
    /// range tombstones of the job. `bottommost`: no level below has data for the key.
    ///
    /// # Errors
    /// Corruption-like errors for a value that is no version of a row; I/O of the host.
    pub fn judge<'a>(
        &'a mut self,
        new_key: bool,
        (key, trailer, value): (&[u8], Trailer, &'a [u8]),
        covering: &RangeTombstones,
        bottommost: bool,
    ) -> Result<Option<Kept<'a>>> {
        if new_key {
            self.enter(key);
        }
        if self.kind == TreeKind::Rows {
            return self.judge_row(new_key, (key, trailer, value), covering, bottommost);
        }
        if self.kind == TreeKind::Locks && self.is_ended_lock(key, trailer)? {
            return Ok(None);
        }
        let trailer = match self.values.judge(new_key, trailer, |bound| covering.covering_seqno(key, bound), bottommost)
        {
            Verdict::Keep => trailer,
            // A file of locks that are in use now is to be looked at again: it keeps its numbers.
            Verdict::KeepZeroSeqno if self.kind == TreeKind::Locks => trailer,
            Verdict::KeepZeroSeqno => trailer.without_seqno(),
            Verdict::Drop => return Ok(None),
        };
        Ok(Some(Kept { trailer, value, txn: None }))
    }

    /// Whether an entry of a tree of locks is the lock of a transaction that has ended. Older entries of the key are, too.
    fn is_ended_lock(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        let owner = key.last_chunk().map(|bytes| TxnId(u64::from_be_bytes(*bytes)));
        match (&mut self.rows, owner) {
            (Some(rows), Some(owner)) if trailer.kind() == Some(Kind::Put) => Ok(!rows.is_running(owner)?),
            _ => Ok(false),
        }
    }

    /// Notes which tree `key` is in.
    fn enter(&mut self, key: &[u8]) {
        if (self.kinds.is_empty() && self.trees.is_none()) || (!self.prefix.is_empty() && key.starts_with(&self.prefix))
        {
            return;
        }
        self.prefix.clear();
        self.kind = TreeKind::Values;
        if let Some((tree, user_key)) = split_full_key(key) {
            self.prefix.extend_from_slice(&key[..key.len() - user_key.len()]);
            self.kind = match self.trees {
                Some(host) => host.tree_kind(tree),
                None => self.kinds.get(&tree).copied().unwrap_or(TreeKind::Values),
            };
        }
    }

    fn judge_row<'a>(
        &'a mut self,
        new_key: bool,
        (key, trailer, value): (&[u8], Trailer, &'a [u8]),
        covering: &RangeTombstones,
        bottommost: bool,
    ) -> Result<Option<Kept<'a>>> {
        if new_key {
            self.row_deleted = false;
            if let Some(rows) = &mut self.rows {
                rows.next_row();
            }
        }
        let cover = covering.covering_seqno(key, self.visible);
        if self.row_deleted || cover.is_some_and(|cover| cover > trailer.seqno()) {
            return Ok(None);
        }
        if trailer.kind() != Some(Kind::Put) {
            // The row was taken back as if it had never been.
            self.row_deleted = true;
            return Ok((!bottommost).then_some(Kept { trailer, value, txn: None }));
        }
        let verdict = match &mut self.rows {
            Some(rows) => {
                self.frozen.clear();
                rows.judge(value, bottommost, &mut self.frozen)?
            }
            None => ValueVerdict::Keep(writer_of(value)),
        };
        let (value, txn) = match verdict {
            ValueVerdict::Drop => return Ok(None),
            ValueVerdict::Keep(txn) => (value, txn),
            ValueVerdict::Freeze => (self.frozen.as_slice(), None),
        };
        // A frozen version is the last of its row, so it needs no number, unless a tombstone that may stay is older.
        let last = txn.is_none() && self.rows.is_some();
        let trailer = if last && bottommost && cover.is_none() { trailer.without_seqno() } else { trailer };
        Ok(Some(Kept { trailer, value, txn }))
    }
}
