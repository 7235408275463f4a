//! Random histories under snapshot isolation: whatever commits is serializable, by brute force.

use std::collections::BTreeMap;

use super::*;
use crate::env::Env;
use crate::env::memory::MemoryEnv;
use crate::error::Class;

const TREE: TreeId = TreeId(1);

/// What a transaction of a history has done.
#[derive(Clone, Debug, Default)]
struct Done {
    snapshot: u64,
    /// Key and the commit it read, 0 for the first version.
    reads: BTreeMap<u8, u64>,
    writes: BTreeSet<u8>,
    /// The number of its commit.
    committed: Option<u64>,
    /// It is committing: it does nothing more, and others do not count it yet.
    committing: bool,
    ended: bool,
    read_only: bool,
}

struct World {
    dice: std::sync::Arc<MemoryEnv>,
    ssi: Option<Ssi>,
    txns: Vec<Done>,
    commits: u64,
    keys: u64,
    failures: u64,
    false_failures: u64,
}

fn local(index: usize) -> LocalTxn {
    LocalTxn(index as u64 + 1)
}

fn id(index: usize) -> TxnId {
    TxnId(index as u64 + 100)
}

/// Whether the committed transactions have an order in which each reads what it has read: the graph of who wrote before whom,
/// who read whose version, and who read what somebody has written anew, has no circle.
fn is_serializable(txns: &[Done]) -> bool {
    let done: Vec<_> = txns.iter().filter(|t| t.committed.is_some()).collect();
    let number = |t: &Done| t.committed.unwrap_or(0);
    let comes_before = |a: &Done, b: &Done| {
        let wrote_first = a.writes.iter().any(|k| b.writes.contains(k)) && number(a) < number(b);
        let was_read = a.writes.iter().any(|k| b.reads.get(k).is_some_and(|&version| version >= number(a)));
        let was_overwritten = a.reads.iter().any(|(k, &version)| b.writes.contains(k) && number(b) > version);
        wrote_first || was_read || was_overwritten
    };
    let mut left: Vec<usize> = (0..done.len()).collect();
    while !left.is_empty() {
        let first =
            left.iter().position(|&at| left.iter().all(|&other| other == at || !comes_before(done[other], done[at])));
        let Some(first) = first else { return false };
        left.remove(first);
    }
    true
}

impl World {
    fn below(&self, bound: u64) -> u64 {
        self.dice.random() % bound
    }

    fn begin(&mut self) {
        let read_only = self.below(5) == 0;
        if let Some(ssi) = &mut self.ssi {
            ssi.begin(local(self.txns.len()), CommitNo(self.commits), read_only);
            if !read_only {
                ssi.own(local(self.txns.len()), id(self.txns.len()));
            }
        }
        self.txns.push(Done { snapshot: self.commits, read_only, ..Done::default() });
    }

    /// Ends a transaction that SSI has refused, and judges the refusal.
    fn fail(&mut self, at: usize) {
        self.failures += 1;
        let mut as_if = self.txns.clone();
        as_if[at].committed = Some(self.commits + 1);
        self.false_failures += u64::from(is_serializable(&as_if));
        self.abort(at);
    }

    fn abort(&mut self, at: usize) {
        self.txns[at].ended = true;
        if let Some(ssi) = &mut self.ssi {
            ssi.aborted(local(at));
        }
    }

    fn ask(&mut self, at: usize, what: impl FnOnce(&mut Ssi) -> Result<()>) -> bool {
        let Some(ssi) = &mut self.ssi else { return true };
        let Err(error) = what(ssi) else { return true };
        assert_eq!(error.class(), Class::Conflict);
        self.fail(at);
        false
    }

    fn read(&mut self, at: usize, keys: std::ops::Range<u8>) {
        let key = keys.start;
        let noted = if keys.len() == 1 {
            self.ask(at, |ssi| ssi.on_read_key(local(at), TREE, &[key]))
        } else {
            let to = [keys.end];
            self.ask(at, |ssi| ssi.on_read_range(local(at), TREE, &[key], Some(&to)))
        };
        if !noted {
            return;
        }
        for key in keys {
            let me = &self.txns[at];
            if me.writes.contains(&key) {
                continue;
            }
            let (snapshot, mut seen, mut newer) = (me.snapshot, 0, Vec::new());
            for (other, txn) in self.txns.iter().enumerate().filter(|(_, t)| t.writes.contains(&key)) {
                match txn.committed {
                    Some(number) if number <= snapshot => seen = seen.max(number),
                    None if txn.ended => {}
                    _ => newer.push(other),
                }
            }
            self.txns[at].reads.insert(key, seen);
            for writer in newer {
                if !self.ask(at, |ssi| ssi.on_read_newer(local(at), id(writer))) {
                    return;
                }
            }
        }
    }

    fn write(&mut self, at: usize, key: u8) {
        let snapshot = self.txns[at].snapshot;
        let clash = self.txns.iter().enumerate().any(|(other, t)| {
            other != at && t.writes.contains(&key) && t.committed.map_or(!t.ended, |number| number > snapshot)
        });
        if clash {
            // Snapshot isolation itself: the first to write wins.
            return self.abort(at);
        }
        self.txns[at].writes.insert(key);
        self.ask(at, |ssi| ssi.on_write(local(at), TREE, &[key]));
    }

    /// The first half of a commit; whether there will be a second.
    fn begin_commit(&mut self, at: usize) -> bool {
        self.txns[at].committing = self.ask(at, |ssi| ssi.before_commit(local(at)));
        self.txns[at].committing
    }

    fn end_commit(&mut self, at: usize) {
        self.commits += 1;
        self.txns[at].committed = Some(self.commits);
        self.txns[at].ended = true;
        if let Some(ssi) = &mut self.ssi {
            ssi.committed(local(at), CommitNo(self.commits));
        }
    }

    fn commit(&mut self, at: usize) {
        if self.begin_commit(at) {
            self.end_commit(at);
        }
    }

    fn step(&mut self) {
        let active: Vec<_> = (0..self.txns.len()).filter(|&at| !self.txns[at].ended).collect();
        if active.len() < 2 || (active.len() < 4 && self.below(6) == 0) {
            return self.begin();
        }
        let at = active[self.below(active.len() as u64) as usize];
        if self.txns[at].committing {
            // A prepared one may still be rolled back.
            return if self.below(8) == 0 { self.abort(at) } else { self.end_commit(at) };
        }
        let key = self.below(self.keys) as u8;
        match self.below(10) {
            0..=3 => self.read(at, key..key + 1),
            4 => self.read(at, key..(key + 1 + self.below(3) as u8).min(self.keys as u8)),
            5..=7 if !self.txns[at].read_only => self.write(at, key),
            8 if self.below(4) == 0 => self.abort(at),
            // Others act between the halves.
            8 => drop(self.begin_commit(at)),
            _ => self.commit(at),
        }
    }
}

struct Totals {
    txns: u64,
    commits: u64,
    failures: u64,
    false_failures: u64,
    anomalies: u64,
}

fn run(histories: u64, seed: u64, limits: Option<Limits>) -> Totals {
    let dice = MemoryEnv::new(seed);
    let mut totals = Totals { txns: 0, commits: 0, failures: 0, false_failures: 0, anomalies: 0 };
    for history in 0..histories {
        let keys = 2 + dice.random() % 4;
        let mut world = World {
            dice: dice.clone(),
            ssi: limits.map(Ssi::new),
            txns: Vec::new(),
            commits: 0,
            keys,
            failures: 0,
            false_failures: 0,
        };
        for _ in 0..10 + dice.random() % 30 {
            world.step();
        }
        for at in 0..world.txns.len() {
            match &world.txns[at] {
                txn if txn.ended => {}
                txn if txn.committing => world.end_commit(at),
                _ => world.commit(at),
            }
        }
        let serializable = is_serializable(&world.txns);
        if let Some(ssi) = &world.ssi {
            assert!(serializable, "history {history} of seed {seed}: {:#?}", world.txns);
            assert_eq!(ssi.size(), (0, 0), "nobody runs, so nothing is remembered");
            assert!(ssi.by_id.is_empty() && ssi.readers.is_empty());
        }
        totals.txns += world.txns.len() as u64;
        totals.commits += world.commits;
        totals.failures += world.failures;
        totals.false_failures += world.false_failures;
        totals.anomalies += u64::from(!serializable);
    }
    totals
}

#[test]
fn whatever_commits_is_serializable() {
    let without = run(20_000, 3, None);
    assert!(without.anomalies > 1_000, "the histories have become tame: {}", without.anomalies);
    let totals = run(60_000, 3, Some(Limits::default()));
    println!(
        "60000 histories, {} transactions: {} committed, {} refused, of these {} needlessly; without SSI {} of 20000 \
         histories are not serializable",
        totals.txns, totals.commits, totals.failures, totals.false_failures, without.anomalies
    );
    assert_eq!(totals.anomalies, 0);
    assert!(totals.false_failures < totals.failures, "some refusals are needed");
}

#[test]
fn forgetting_details_only_makes_more_fail() {
    let tight = run(10_000, 5, Some(Limits { reads_per_tree: 1, reads_in_all: 3 }));
    let loose = run(10_000, 5, Some(Limits::default()));
    assert_eq!(tight.anomalies, 0);
    assert!(tight.failures > loose.failures);
}

fn two() -> Ssi {
    let mut ssi = Ssi::new(Limits::default());
    for (at, id) in [(1, 11), (2, 12)] {
        ssi.begin(LocalTxn(at), CommitNo(0), false);
        ssi.own(LocalTxn(at), TxnId(id));
    }
    ssi
}

#[test]
fn write_skew_has_one_victim() {
    let mut ssi = two();
    let [a, b] = [1, 2].map(LocalTxn);
    ssi.on_read_key(a, TREE, b"x").unwrap();
    ssi.on_read_key(b, TREE, b"y").unwrap();
    ssi.on_write(a, TREE, b"y").unwrap();
    ssi.on_write(b, TREE, b"x").unwrap();
    ssi.before_commit(a).unwrap();
    ssi.committed(a, CommitNo(1));
    assert_eq!(ssi.before_commit(b).unwrap_err().class(), Class::Conflict);
    ssi.aborted(b);
    assert_eq!(ssi.size(), (0, 0));
}

#[test]
fn phantoms_are_held_against_ranges() {
    let mut ssi = two();
    let [a, b] = [1, 2].map(LocalTxn);
    ssi.on_read_range(a, TREE, b"a", Some(b"m")).unwrap();
    ssi.on_read_range(b, TREE, b"a", None).unwrap();
    ssi.on_write(a, TREE, b"z").unwrap();
    ssi.before_commit(a).unwrap();
    ssi.committed(a, CommitNo(1));
    assert!(ssi.on_write(b, TREE, b"c").is_err());
}

#[test]
fn a_reader_alone_is_safe_and_not_watched() {
    let mut ssi = Ssi::new(Limits::default());
    ssi.begin(LocalTxn(1), CommitNo(0), true);
    ssi.on_read_key(LocalTxn(1), TREE, b"x").unwrap();
    assert_eq!(ssi.size(), (0, 0));
    ssi.begin(LocalTxn(2), CommitNo(0), false);
    ssi.begin(LocalTxn(3), CommitNo(0), true);
    assert_eq!(ssi.size().0, 2, "a writer runs");
}

#[test]
fn what_was_prepared_before_a_restart_is_taken_for_a_pivot() {
    let mut ssi = Ssi::new(Limits::default());
    ssi.restore(LocalTxn(1), &[TxnId(7)], &[TREE], true);
    for at in [2, 3] {
        ssi.begin(LocalTxn(at), CommitNo(0), false);
    }
    // It may have been read from, and here is somebody who writes what it has read.
    ssi.on_write(LocalTxn(2), TREE, b"any").unwrap();
    assert!(ssi.before_commit(LocalTxn(2)).is_err());
    ssi.aborted(LocalTxn(2));
    // It may have an edge to somebody who committed early.
    assert!(ssi.on_read_newer(LocalTxn(3), TxnId(7)).is_err());
    ssi.aborted(LocalTxn(3));
    ssi.committed(LocalTxn(1), CommitNo(1));
    assert_eq!(ssi.size(), (0, 0));
}
