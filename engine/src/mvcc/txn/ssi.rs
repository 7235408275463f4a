//! Serializable transactions by watching for what must be in every anomaly: serializable snapshot isolation. Values only.
//!
//! After Cahill, Röhm, Fekete: *Serializable isolation for snapshot databases* (SIGMOD 2008), and Ports, Grittner:
//! *Serializable snapshot isolation in PostgreSQL* (VLDB 2012). Under snapshot isolation a history that is not serializable
//! has a *dangerous structure*:
//!
//! ```text
//!          read what ... has written anew            the same
//!    T1 ───────────────────────────────► T2 ──────────────────────► T3        T1 and T3 may be one
//!                                        the pivot
//! ```
//! in which neighbours ran at the same time, T3 is the first of the three to commit, and, when T1 writes nothing, T3
//! committed before T1's snapshot. Here an edge is noted when a read passes over a version of somebody concurrent, and when a
//! write hits what somebody concurrent has read. One of the three fails before all of them have committed.
//!
//! ```text
//!   ACTIVE ── before_commit ──► COMMITTING ── committed(n) ──► COMMITTED ── nobody overlaps it any more ──► gone
//!      │                            │ (prepared transactions stay here)
//!      └──────── aborted ───────────┴─────────────────────────────────────────────────────────────────────► gone
//! ```
//! 1. Every edge between transactions that are not gone is in `outs` of the one and in `ins` of the other.
//! 2. `earliest_out` is the smallest commit number among the outs that have committed, gone ones included.
//! 3. When the last edge of a structure comes up, or T3 is about to commit, whichever is later, the structure is judged. Who
//!    is committing can fail no more, so somebody else of the structure does: the pivot when it is active, otherwise T1 or
//!    the one that asks.
//! 4. A committed transaction is kept until no snapshot of an active one is older than its commit.
//!
//! The caller notes a read before it reads, and a write after the version can be found (or both under the row's latch): of a
//! reader and a writer who meet at least one then notices.
//!
//! Differences from Postgres: edges are kept one by one, not summed up, also for committed transactions; ranges of keys stand
//! in for pages; a read-only transaction is known to be safe only from its beginning (nobody who may write runs), it does
//! not become so later; commits are numbered in exactly the order of snapshots. Memory is bounded by [`Limits`]: keys become
//! ranges, then trees; what committed transactions have read becomes whole trees first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::base::ids::{TreeId, TxnId};
use crate::error::{ConflictKind, Error, Result};
use crate::mvcc::txn::running::{CommitNo, LocalTxn};
use crate::mvcc::txn::ssi::reads::TreeReads;

pub mod reads;

/// How much is remembered of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Keys and ranges of one tree by one transaction.
    pub reads_per_tree: usize,
    /// Keys and ranges of all; beyond it, committed transactions count as having read whole trees.
    pub reads_in_all: usize,
}

impl Default for Limits {
    /// A key takes some 80 bytes: 80 MB at most, and 160 KB for one transaction in one tree.
    fn default() -> Self {
        Self { reads_per_tree: 2_000, reads_in_all: 1_000_000 }
    }
}

/// When a transaction commits, for comparisons: by number, then those that are committing, then the rest.
const COMMITTING: u64 = u64::MAX - 1;
const ACTIVE: u64 = u64::MAX;

#[derive(Debug)]
struct Member {
    /// Commits up to this number are in its snapshot.
    snapshot: u64,
    /// Number of its commit, [`COMMITTING`] or [`ACTIVE`].
    end: u64,
    read_only: bool,
    wrote: bool,
    /// It must fail.
    doomed: bool,
    /// Others have read what it has written anew.
    ins: BTreeSet<LocalTxn>,
    /// They have written anew what it has read.
    outs: BTreeSet<LocalTxn>,
    earliest_out: u64,
    /// From an earlier life of the engine: anybody may be among its ins.
    unknown_ins: bool,
    reads: HashMap<TreeId, TreeReads>,
    ids: Vec<TxnId>,
}

impl Member {
    fn new(snapshot: CommitNo, read_only: bool) -> Self {
        Self {
            snapshot: snapshot.0,
            end: ACTIVE,
            read_only,
            wrote: false,
            doomed: false,
            ins: BTreeSet::new(),
            outs: BTreeSet::new(),
            earliest_out: u64::MAX,
            unknown_ins: false,
            reads: HashMap::new(),
            ids: Vec::new(),
        }
    }

    /// It has written nothing and will not.
    const fn writes_nothing(&self) -> bool {
        self.read_only || (self.end < COMMITTING && !self.wrote)
    }

    /// Whether it and this pivot and a third that commits at `first` make a dangerous structure.
    fn is_endangered(&self, pivot: &Self, first: u64) -> bool {
        first < ACTIVE
            && first <= pivot.end
            && first <= self.end
            && (!self.writes_nothing() || first <= self.snapshot)
            && !self.doomed
            && !pivot.doomed
    }
}

/// The serializable transactions that matter.
#[derive(Debug)]
pub struct Ssi {
    members: BTreeMap<LocalTxn, Member>,
    by_id: HashMap<TxnId, LocalTxn>,
    readers: HashMap<TreeId, BTreeSet<LocalTxn>>,
    limits: Limits,
    /// Keys and ranges remembered.
    reads: usize,
}

/// The failure of a transaction that takes part in a dangerous structure.
#[must_use]
pub fn failure() -> Error {
    let what = "could not serialize access due to read/write dependencies among transactions";
    Error::conflict(ConflictKind::Serialization, what)
}

impl Ssi {
    /// Nobody yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { members: BTreeMap::new(), by_id: HashMap::new(), readers: HashMap::new(), limits, reads: 0 }
    }

    /// A transaction begins with a snapshot of the commits up to `snapshot`. One that cannot be part of an anomaly, since it
    /// only reads and nobody runs who may write, is not watched.
    pub fn begin(&mut self, local: LocalTxn, snapshot: CommitNo, read_only: bool) {
        let is_safe = read_only && self.members.values().all(|m| m.end < COMMITTING || m.read_only);
        if !is_safe {
            self.members.insert(local, Member::new(snapshot, read_only));
        }
    }

    /// A transaction that was prepared in an earlier life of the engine. Its edges are unknown, so it counts as having both
    /// kinds, and as having read the whole of its trees.
    pub fn restore(&mut self, local: LocalTxn, ids: &[TxnId], trees: &[TreeId], wrote: bool) {
        let mut member = Member::new(CommitNo(0), false);
        (member.end, member.wrote, member.unknown_ins, member.earliest_out) = (COMMITTING, wrote, true, 0);
        member.reads = trees.iter().map(|&tree| (tree, TreeReads::whole())).collect();
        member.ids = ids.to_vec();
        for &tree in trees {
            self.readers.entry(tree).or_default().insert(local);
        }
        self.by_id.extend(ids.iter().map(|&id| (id, local)));
        self.members.insert(local, member);
    }

    /// `id` belongs to a transaction, which writes with it.
    pub fn own(&mut self, local: LocalTxn, id: TxnId) {
        if let Some(member) = self.members.get_mut(&local) {
            member.ids.push(id);
            self.by_id.insert(id, local);
        }
    }

    /// Trees that a transaction has read, ascending.
    #[must_use]
    pub fn trees_read(&self, local: LocalTxn) -> Vec<TreeId> {
        let mut trees: Vec<_> = self.members.get(&local).into_iter().flat_map(|m| m.reads.keys().copied()).collect();
        trees.sort_unstable();
        trees
    }

    /// How many transactions, and how many keys and ranges, are remembered.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.members.len(), self.reads)
    }

    fn check(&self, local: LocalTxn) -> Result<()> {
        if self.members.get(&local).is_some_and(|member| member.doomed) { Err(failure()) } else { Ok(()) }
    }

    fn note(&mut self, local: LocalTxn, tree: TreeId, add: impl FnOnce(&mut TreeReads, usize)) -> Result<()> {
        self.check(local)?;
        let Some(member) = self.members.get_mut(&local) else { return Ok(()) };
        let reads = member.reads.entry(tree).or_insert_with(|| {
            self.readers.entry(tree).or_default().insert(local);
            TreeReads::default()
        });
        let before = reads.len();
        add(reads, self.limits.reads_per_tree);
        self.reads = self.reads + reads.len() - before;
        if self.reads > self.limits.reads_in_all {
            self.coarsen();
        }
        Ok(())
    }

    /// What committed transactions have read becomes whole trees.
    fn coarsen(&mut self) {
        for reads in self.members.values_mut().filter(|m| m.end < COMMITTING).flat_map(|m| m.reads.values_mut()) {
            self.reads -= reads.len();
            reads.add_all();
        }
    }

    /// A transaction is about to read a key.
    ///
    /// # Errors
    /// Conflict: it must fail.
    pub fn on_read_key(&mut self, local: LocalTxn, tree: TreeId, key: &[u8]) -> Result<()> {
        self.note(local, tree, |reads, most| reads.add_key(key, most))
    }

    /// A transaction is about to read the keys from `from` to before `to`, or to the end of the tree.
    ///
    /// # Errors
    /// Conflict: it must fail.
    pub fn on_read_range(&mut self, local: LocalTxn, tree: TreeId, from: &[u8], to: Option<&[u8]>) -> Result<()> {
        self.note(local, tree, |reads, most| reads.add_range(from, to, most))
    }

    /// A transaction has passed over a version, because `writer` had not committed before its snapshot.
    ///
    /// # Errors
    /// Conflict: it must fail.
    pub fn on_read_newer(&mut self, local: LocalTxn, writer: TxnId) -> Result<()> {
        self.check(local)?;
        match self.by_id.get(&writer) {
            Some(&writer) => self.add_edge(local, writer, local).inspect_err(|_| self.doom(local)),
            None => Ok(()),
        }
    }

    /// Who was refused once is refused from then on: the reader has seen what it has seen, whichever savepoint it goes back to.
    fn doom(&mut self, local: LocalTxn) {
        self.members.get_mut(&local).expect("only members are refused").doomed = true;
    }

    /// A transaction has written a key.
    ///
    /// # Errors
    /// Conflict: it must fail.
    pub fn on_write(&mut self, local: LocalTxn, tree: TreeId, key: &[u8]) -> Result<()> {
        self.check(local)?;
        let Some(member) = self.members.get_mut(&local) else { return Ok(()) };
        member.wrote = true;
        let readers = self.readers.get(&tree).into_iter().flatten().copied();
        let hit: Vec<_> = readers.filter(|r| self.members[r].reads.get(&tree).is_some_and(|t| t.covers(key))).collect();
        let added = hit.into_iter().try_for_each(|reader| self.add_edge(reader, local, local));
        added.inspect_err(|_| self.doom(local))
    }

    /// `reader` has read what `writer` has written anew; `actor`, one of them, has just noticed.
    fn add_edge(&mut self, reader: LocalTxn, writer: LocalTxn, actor: LocalTxn) -> Result<()> {
        let (Some(from), Some(to)) = (self.members.get(&reader), self.members.get(&writer)) else { return Ok(()) };
        // Not at the same time: who committed first also came first.
        let apart = from.end <= to.snapshot || to.end <= from.snapshot;
        if reader == writer || apart || from.outs.contains(&writer) {
            return Ok(());
        }
        let committed = if to.end < COMMITTING { to.end } else { u64::MAX };
        let from = self.members.get_mut(&reader).expect("the reader is a member");
        from.outs.insert(writer);
        from.earliest_out = from.earliest_out.min(committed);
        self.members.get_mut(&writer).expect("the writer is a member").ins.insert(reader);
        self.judge_as_first(reader, writer)?;
        self.judge_as_second(reader, writer, actor)
    }

    /// The writer as the pivot: who is behind it?
    fn judge_as_second(&mut self, reader: LocalTxn, writer: LocalTxn, actor: LocalTxn) -> Result<()> {
        let (first, pivot) = (&self.members[&reader], &self.members[&writer]);
        let behind = pivot.outs.iter().map(|out| self.members[out].end).filter(|&end| end == COMMITTING);
        let end = behind.fold(pivot.earliest_out, u64::min);
        if !first.is_endangered(pivot, end) {
            return Ok(());
        }
        if pivot.end == ACTIVE && actor != writer {
            self.members.get_mut(&writer).expect("the writer is a member").doomed = true;
            return Ok(());
        }
        Err(failure())
    }

    /// The reader as the pivot, and the writer behind it: who is before it? Only an active reader can have found an edge to
    /// somebody who is committing or has committed.
    fn judge_as_first(&self, reader: LocalTxn, writer: LocalTxn) -> Result<()> {
        let (pivot, end) = (&self.members[&reader], self.members[&writer].end);
        let endangered = pivot.ins.iter().any(|before| self.members[before].is_endangered(pivot, end));
        let unknown = pivot.unknown_ins && end < ACTIVE && end <= pivot.end;
        if endangered || unknown { Err(failure()) } else { Ok(()) }
    }

    /// Whether a transaction may commit; from then on it cannot fail any more.
    ///
    /// # Errors
    /// Conflict: it must fail.
    pub fn before_commit(&mut self, local: LocalTxn) -> Result<()> {
        self.check(local)?;
        let Some(member) = self.members.get(&local) else { return Ok(()) };
        let mut victims = Vec::new();
        for (&near, pivot) in member.ins.iter().map(|near| (near, &self.members[near])) {
            if pivot.end < COMMITTING || pivot.doomed {
                continue;
            }
            // Those before the pivot that may commit after this one.
            let mut before = pivot.ins.iter().map(|far| (far, &self.members[far]));
            let dangerous = before.any(|(&far, m)| far == local || (m.end >= COMMITTING && !m.read_only && !m.doomed));
            if !(dangerous || pivot.unknown_ins) {
                continue;
            }
            if pivot.end == COMMITTING {
                return Err(failure());
            }
            victims.push(near);
        }
        for victim in victims {
            self.members.get_mut(&victim).expect("edges lead to members").doomed = true;
        }
        self.members.get_mut(&local).expect("it is a member").end = COMMITTING;
        Ok(())
    }

    /// A transaction has committed with this number.
    pub fn committed(&mut self, local: LocalTxn, number: CommitNo) {
        if let Some(member) = self.members.get_mut(&local) {
            member.end = number.0;
            for reader in member.ins.clone() {
                let reader = self.members.get_mut(&reader).expect("edges lead to members");
                reader.earliest_out = reader.earliest_out.min(number.0);
            }
        }
        self.forget_past();
    }

    /// A transaction has rolled back.
    pub fn aborted(&mut self, local: LocalTxn) {
        self.remove(local);
        self.forget_past();
    }

    fn remove(&mut self, local: LocalTxn) {
        let Some(member) = self.members.remove(&local) else { return };
        for other in &member.ins {
            self.members.get_mut(other).expect("edges lead to members").outs.remove(&local);
        }
        for other in &member.outs {
            self.members.get_mut(other).expect("edges lead to members").ins.remove(&local);
        }
        for (tree, reads) in &member.reads {
            self.reads -= reads.len();
            if let Some(readers) = self.readers.get_mut(tree) {
                readers.remove(&local);
                if readers.is_empty() {
                    self.readers.remove(tree);
                }
            }
        }
        for id in &member.ids {
            self.by_id.remove(id);
        }
    }

    /// Forgets committed transactions that nobody overlaps.
    fn forget_past(&mut self) {
        let oldest = self.members.values().filter(|m| m.end >= COMMITTING).map(|m| m.snapshot).min();
        let past = |m: &Member| m.end < COMMITTING && oldest.is_none_or(|oldest| m.end <= oldest);
        let gone: Vec<_> = self.members.iter().filter(|(_, m)| past(m)).map(|(&local, _)| local).collect();
        for local in gone {
            self.remove(local);
        }
    }
}

#[cfg(test)]
mod tests;
