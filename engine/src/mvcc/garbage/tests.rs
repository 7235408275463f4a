//! Every reader reads the same row before and after the rule.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::ids::CommandId;
use crate::format::row_version::{RowKind, Stamp};
use crate::mvcc::snapshot::Snapshot;
use crate::mvcc::visibility::{Seen, Walk};

/// Statuses as a table; nobody is the reader's own.
struct Table(BTreeMap<TxnId, TxnState>);

impl TxnStatus for Table {
    fn is_own(&self, _txn: TxnId) -> bool {
        false
    }

    fn state(&self, txn: TxnId) -> Result<TxnState> {
        Ok(self.0.get(&txn).copied().unwrap_or(TxnState::Aborted))
    }
}

/// A version: kind, writer (0 is frozen).
type Plain = (RowKind, u64);

fn version((kind, txn): Plain) -> RowVersion<'static> {
    let stamp = (txn > 0).then_some(Stamp { txn: TxnId(txn), command: CommandId(0) });
    let payload: &[u8] = if kind == RowKind::Moved { b"k" } else { b"" };
    RowVersion { kind, number: 0, stamp, payload }
}

/// Index, among the versions the row had at first, of the one that `snapshot` reads.
fn read(versions: &[(usize, Plain)], snapshot: &TxnSnapshot, table: &Table) -> Option<usize> {
    let mut walk = Walk::default();
    for &(at, plain) in versions {
        match walk.step(&version(plain), &Snapshot::At(snapshot.clone()), table).unwrap() {
            Seen::Row => return Some(at),
            Seen::NoRow => return None,
            Seen::AskOlder => {}
        }
    }
    None
}

fn snapshot(next: u64, running: impl Iterator<Item = u64>) -> TxnSnapshot {
    let mut running: Vec<_> = running.filter(|&id| id < next).map(TxnId).collect();
    running.sort_unstable();
    running.dedup();
    let oldest = running.first().copied().unwrap_or(TxnId(next));
    TxnSnapshot { oldest, next: TxnId(next), running: running.into(), command: CommandId(0) }
}

const TXNS: u64 = 12;

proptest! {
    #[test]
    fn every_reader_reads_the_same_before_and_after(
        // When each transaction ends, on a clock of 20 ticks; 20 and later: it still runs. And how.
        ends in proptest::collection::vec((0u64..26, any::<bool>()), TXNS as usize),
        // Snapshots: when they were taken.
        mut taken in proptest::collection::vec(0u64..20, 0..5),
        mut writers in proptest::collection::vec((1u64..=TXNS, 0u8..5), 1..10),
        oldest_frozen in any::<bool>(),
        bottommost in any::<bool>(),
        lists_snapshots in any::<bool>(),
    ) {
        // Transaction i begins at tick i; it ends at its tick, at the earliest one later.
        let end = |id: u64| (id + 1).max(ends[id as usize - 1].0);
        let state_at = |id: u64, tick: u64| {
            if end(id) > tick { TxnState::InProgress }
            else if ends[id as usize - 1].1 { TxnState::Committed } else { TxnState::Aborted }
        };
        let take = |tick: u64| {
            let next = (1..=TXNS).find(|&id| id > tick).unwrap_or(TXNS + 1);
            snapshot(next, (1..next).filter(|&id| state_at(id, tick) == TxnState::InProgress))
        };
        // The rule looks at tick 20; statuses are asked at tick 23, when more have ended.
        taken.sort_unstable();
        let snapshots: Vec<_> = taken.iter().map(|&tick| take(tick)).collect();
        let now = take(20);
        let oldest = snapshots.iter().map(|s| s.oldest).chain([now.oldest]).min().unwrap();
        let table = Table((1..=TXNS).map(|id| (TxnId(id), state_at(id, 23))).collect());
        // Rows are locked: a later version's writer waits for the end of the one before, and sees it ended. So of two
        // writers that committed the newer version's committed later.
        writers.sort_by_key(|&(id, _)| std::cmp::Reverse(end(id)));
        let kind = |tag: u8| match tag { 0 => RowKind::Tombstone, 1 => RowKind::Moved, _ => RowKind::Put };
        let mut versions: Vec<_> = writers.iter().map(|&(id, tag)| (kind(tag), id)).collect();
        if oldest_frozen {
            versions.push((RowKind::Put, 0));
        }
        let versions: Vec<_> = versions.into_iter().enumerate().collect();

        let horizon = Horizon { now, snapshots: lists_snapshots.then(|| snapshots.clone()), oldest };
        let mut rule = RowRule::new(horizon);
        rule.next_row();
        let mut kept = Vec::new();
        for &(at, plain) in &versions {
            match rule.judge(&version(plain), bottommost, &table).unwrap() {
                RowVerdict::Keep => kept.push((at, plain)),
                RowVerdict::Freeze => kept.push((at, (plain.0, 0))),
                RowVerdict::Drop => {}
            }
        }
        for reader in snapshots.iter().chain(&[take(20), take(21), take(22), take(23)]) {
            let before = read(&versions, reader, &table);
            let after = read(&kept, reader, &table);
            prop_assert_eq!(before, after, "{:?} of {:?} kept {:?}", reader, versions, kept);
        }
        prop_assert!(kept.iter().filter(|(_, plain)| plain.1 == 0).count() <= 1, "one frozen version is enough");
    }
}

#[test]
fn a_row_that_everybody_sees_keeps_one_version() {
    let table = Table((1..=9).map(|id| (TxnId(id), TxnState::Committed)).collect());
    let now = snapshot(10, std::iter::empty());
    let horizon = Horizon { oldest: now.oldest, snapshots: None, now };
    let mut rule = RowRule::new(horizon);
    let verdicts = |rule: &mut RowRule, kinds: &[Plain], bottommost| {
        rule.next_row();
        kinds.iter().map(|&plain| rule.judge(&version(plain), bottommost, &table).unwrap()).collect::<Vec<_>>()
    };
    use RowVerdict::{Drop, Freeze, Keep};
    assert_eq!(verdicts(&mut rule, &[(RowKind::Put, 9), (RowKind::Put, 8)], false), [Freeze, Drop]);
    assert_eq!(verdicts(&mut rule, &[(RowKind::Tombstone, 9), (RowKind::Put, 8)], false), [Freeze, Drop]);
    assert_eq!(verdicts(&mut rule, &[(RowKind::Tombstone, 9), (RowKind::Put, 8)], true), [Drop, Drop]);
    assert_eq!(verdicts(&mut rule, &[(RowKind::Put, 0)], true), [Keep]);
    assert_eq!(verdicts(&mut rule, &[(RowKind::Tombstone, 0)], true), [Drop]);
}

#[test]
fn a_million_updates_leave_what_the_snapshots_read() {
    let table = Table((1..=1000).map(|id| (TxnId(id), TxnState::Committed)).collect());
    let old = snapshot(3, std::iter::empty());
    let middle = snapshot(500, std::iter::empty());
    let now = snapshot(1001, std::iter::empty());
    let horizon = Horizon { oldest: old.oldest, snapshots: Some(vec![old, middle]), now };
    let mut rule = RowRule::new(horizon);
    rule.next_row();
    let kept: Vec<_> = (1..=1000u64)
        .rev()
        .filter(|&id| rule.judge(&version((RowKind::Put, id)), false, &table).unwrap() != RowVerdict::Drop)
        .collect();
    assert_eq!(kept, [1000, 499, 2]);
}
