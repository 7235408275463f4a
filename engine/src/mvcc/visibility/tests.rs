//! The truth table, and walks over the versions of a row.

use super::*;
use crate::base::ids::CommandId;

/// Transactions 1 to 9 committed, 10 to 19 run, 20 to 29 rolled back, 30 and 31 are the reader's own.
struct Host;

impl TxnStatus for Host {
    fn is_own(&self, txn: TxnId) -> bool {
        (30..40).contains(&txn.0)
    }

    fn state(&self, txn: TxnId) -> Result<TxnState> {
        Ok(match txn.0 {
            1..10 => TxnState::Committed,
            20..30 => TxnState::Aborted,
            _ => TxnState::InProgress,
        })
    }
}

/// Taken when 5 to 19 and the reader ran, in command 4.
fn at() -> TxnSnapshot {
    let running: Vec<_> = (5..20).chain([30]).map(TxnId).collect();
    TxnSnapshot { oldest: TxnId(5), next: TxnId(40), running: running.into(), command: CommandId(4) }
}

fn stamp(txn: u64, command: u32) -> Option<Stamp> {
    Some(Stamp { txn: TxnId(txn), command: CommandId(command) })
}

#[test]
fn the_time_of_a_writer() {
    for (txn, command, want) in [
        (4, 0, Time::Before),
        (5, 0, Time::After),
        (12, 0, Time::InProgress),
        (25, 0, Time::Aborted),
        (30, 3, Time::OwnEarlier),
        (30, 4, Time::OwnLater),
        (31, 9, Time::OwnLater),
        (90, 0, Time::InProgress),
    ] {
        assert_eq!(time_at(stamp(txn, command), &at(), &Host).unwrap(), want, "{txn}");
    }
    assert_eq!(time_at(None, &at(), &Host).unwrap(), Time::Frozen);
    assert_eq!(time_now(stamp(5, 0), &Host).unwrap(), Time::Before);
    assert_eq!(time_now(stamp(30, 9), &Host).unwrap(), Time::OwnEarlier);
}

#[test]
fn the_truth_table() {
    let counts = [Time::Frozen, Time::Before, Time::OwnEarlier];
    let passed_over = [Time::OwnLater, Time::After, Time::InProgress, Time::Aborted];
    for kind in [RowKind::Put, RowKind::Speculative] {
        assert!(counts.iter().all(|&time| seen(time, kind) == Seen::Row));
        assert!(passed_over.iter().all(|&time| seen(time, kind) == Seen::AskOlder));
    }
    for kind in [RowKind::Tombstone, RowKind::Moved] {
        assert!(counts.iter().all(|&time| seen(time, kind) == Seen::NoRow));
        assert!(passed_over.iter().all(|&time| seen(time, kind) == Seen::AskOlder));
    }
}

fn walk(versions: &[(RowKind, Option<Stamp>)], snapshot: &Snapshot) -> (Option<usize>, Walk) {
    let mut walk = Walk::default();
    for (at, &(kind, stamp)) in versions.iter().enumerate() {
        let payload: &[u8] = if kind == RowKind::Moved { b"k" } else { b"" };
        let version = RowVersion { kind, number: 0, stamp, payload };
        match walk.step(&version, snapshot, &Host).unwrap() {
            Seen::Row => return (Some(at), walk),
            Seen::NoRow => return (None, walk),
            Seen::AskOlder => {}
        }
    }
    (None, walk)
}

#[test]
fn walks() {
    use RowKind::{Moved, Put, Tombstone};
    let updated = [(Put, stamp(12, 0)), (Put, stamp(25, 0)), (Put, stamp(6, 0)), (Put, stamp(3, 0)), (Put, None)];
    let (row, found) = walk(&updated, &Snapshot::At(at()));
    assert_eq!((row, found.newer, found.writing), (Some(3), stamp(6, 0), Some(TxnId(12))));
    let (row, found) = walk(&updated, &Snapshot::Now);
    assert_eq!((row, found.newer), (Some(2), stamp(12, 0)));
    assert_eq!(walk(&updated, &Snapshot::Any).0, Some(0));
    let deleted = [(Tombstone, stamp(7, 0)), (Put, None)];
    assert_eq!(walk(&deleted, &Snapshot::At(at())).0, Some(1), "deleted after the snapshot");
    assert_eq!(walk(&deleted, &Snapshot::Now).0, None);
    assert_eq!(walk(&deleted, &Snapshot::NonVacuumable(TxnId(8))).0, None, "nobody can see it");
    assert_eq!(walk(&deleted, &Snapshot::NonVacuumable(TxnId(7))).0, Some(1));
    let inserting = [(Put, stamp(12, 0))];
    let (row, found) = walk(&inserting, &Snapshot::Dirty);
    assert_eq!((row, found.writing), (None, Some(TxnId(12))));
    let moving = [(Moved, stamp(30, 3)), (Put, None)];
    assert_eq!(walk(&moving, &Snapshot::At(at())).0, None, "moved by the reader itself");
    assert_eq!(walk(&moving, &Snapshot::At(at().at_command(CommandId(3)))).0, Some(1), "by a later command");
}
