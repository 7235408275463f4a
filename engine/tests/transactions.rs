//! Transactions from outside: what they see, what stands in their way, and what is left after an end of any kind.

use std::sync::mpsc;
use std::time::Duration;

use ssd_engine::{
    Class, ConflictKind, Durability, Engine, Isolation, LockMode, Options, RowLockMode, TransactionOptions,
};

fn open(dir: &std::path::Path) -> Engine {
    let options = Options {
        memtable_bytes: 1 << 20,
        cache_bytes: 4 << 20,
        log_segment_bytes: 1 << 20,
        log_ring_bytes: 1 << 20,
        deadlock_timeout: Duration::ZERO,
        ..Options::default()
    };
    Engine::open(dir, options).expect("opens")
}

#[test]
fn what_is_committed_is_seen_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let mut txn = engine.begin(Isolation::ReadCommitted).unwrap();
    txn.put(&tree, b"a", b"1").unwrap();
    txn.put(&tree, b"b", b"2").unwrap();
    let savepoint = txn.savepoint().unwrap();
    txn.put(&tree, b"a", b"3").unwrap();
    assert!(txn.delete(&tree, b"b").unwrap());
    assert_eq!(txn.get(&tree, b"b").unwrap(), None);
    txn.rollback_to(savepoint).unwrap();
    assert_eq!(txn.get(&tree, b"a").unwrap().unwrap(), b"1");
    let mut other = engine.begin(Isolation::ReadCommitted).unwrap();
    assert_eq!(other.get(&tree, b"a").unwrap(), None);
    txn.commit(Durability::Process).unwrap();
    assert_eq!(other.get(&tree, b"a").unwrap().unwrap(), b"1");
    other.put(&tree, b"lost", b"x").unwrap();
    drop(other);
    engine.flush().unwrap();
    let mut running = engine.begin(Isolation::ReadCommitted).unwrap();
    running.put(&tree, b"running", b"x").unwrap();
    running.put(&tree, b"a", b"x").unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    drop((running, tree));
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let rows = |engine: &Engine| {
        let mut txn = engine.begin(Isolation::RepeatableRead).unwrap();
        txn.scan::<Vec<u8>>(&tree, ..).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let want = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())];
    assert_eq!(rows(&engine), want);
    engine.vacuum().unwrap();
    assert_eq!(rows(&engine), want);
}

#[test]
fn the_first_updater_wins() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    engine.transact(Isolation::ReadCommitted, Durability::Process, |txn| txn.put(&tree, b"k", b"0")).unwrap();
    let mut first = engine.begin(Isolation::RepeatableRead).unwrap();
    let mut second = engine.begin(Isolation::RepeatableRead).unwrap();
    assert_eq!(second.get(&tree, b"k").unwrap().unwrap(), b"0");
    first.put(&tree, b"k", b"1").unwrap();
    first.commit(Durability::Process).unwrap();
    let error = second.put(&tree, b"k", b"2").unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert_eq!(error.to_string(), "could not serialize access due to concurrent update");
    assert_eq!(second.get(&tree, b"k").unwrap_err().class(), Class::Usage, "it has failed");
    assert!(second.commit(Durability::Process).is_err());
    let mut third = engine.begin(Isolation::ReadCommitted).unwrap();
    assert!(!third.insert(&tree, b"k", b"3").unwrap());
    assert!(third.insert(&tree, b"new", b"3").unwrap());
    assert_eq!(third.get(&tree, b"k").unwrap().unwrap(), b"1");
}

#[test]
fn waiters_go_on_when_the_holder_ends() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let mut holder = engine.begin(Isolation::ReadCommitted).unwrap();
    holder.put(&tree, b"k", b"first").unwrap();
    let (started, has_started) = mpsc::channel();
    let waiter = std::thread::spawn({
        let (engine, tree) = (engine.clone(), tree.clone());
        move || {
            let mut txn = engine.begin(Isolation::ReadCommitted).unwrap();
            started.send(()).unwrap();
            txn.put(&tree, b"k", b"second").unwrap();
            txn.commit(Durability::Process).unwrap();
        }
    });
    has_started.recv().unwrap();
    holder.commit(Durability::Process).unwrap();
    waiter.join().unwrap();
    let mut txn = engine.begin(Isolation::ReadCommitted).unwrap();
    assert_eq!(txn.get(&tree, b"k").unwrap().unwrap(), b"second");
    txn.lock_tree(&tree, LockMode::AccessExclusive).unwrap();
    let hurried = TransactionOptions { lock_timeout: Some(Duration::from_millis(1)), ..TransactionOptions::default() };
    let mut other = engine.begin_with(hurried).unwrap();
    let error = other.lock_tree(&tree, LockMode::AccessShare).unwrap_err();
    assert_eq!((error.class(), error.conflict_kind()), (Class::Conflict, Some(ConflictKind::LockTimeout)));
}

#[test]
fn a_statement_ends_when_its_time_is_up() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    engine.transact(Isolation::ReadCommitted, Durability::Process, |txn| txn.put(&tree, b"free", b"")).unwrap();
    let mut holder = engine.begin(Isolation::ReadCommitted).unwrap();
    holder.put(&tree, b"held", b"").unwrap();
    holder.lock_tree(&tree, LockMode::Share).unwrap();
    let kind_of = |error: ssd_engine::Error| (error.class(), error.conflict_kind());
    let out_of_time = (Class::Conflict, Some(ConflictKind::StatementTimeout));
    let begin = |lock_timeout, statement_timeout| {
        let options = TransactionOptions { lock_timeout, statement_timeout, ..TransactionOptions::default() };
        engine.begin_with(options).unwrap()
    };
    let (short, long) = (Some(Duration::from_millis(1)), Some(Duration::from_secs(600)));

    // The wait for a row, and for a tree; whichever limit is lower says so.
    assert_eq!(kind_of(begin(long, short).put(&tree, b"held", b"x").unwrap_err()), out_of_time);
    assert_eq!(kind_of(begin(None, short).lock_tree(&tree, LockMode::RowExclusive).unwrap_err()), out_of_time);
    let error = begin(short, long).put(&tree, b"held", b"x").unwrap_err();
    assert_eq!(kind_of(error), (Class::Conflict, Some(ConflictKind::LockTimeout)));

    // A call has all of the time, calls of one statement share it; a failed one goes on after its savepoint.
    let mut txn = begin(None, Some(Duration::ZERO));
    txn.put(&tree, b"free", b"1").unwrap();
    txn.put(&tree, b"free", b"2").unwrap();
    let savepoint = txn.savepoint().unwrap();
    txn.begin_statement();
    assert_eq!(kind_of(txn.put(&tree, b"free", b"3").unwrap_err()), out_of_time);
    assert_eq!(txn.get(&tree, b"free").unwrap_err().class(), Class::Usage, "the transaction has failed");
    txn.rollback_to(savepoint).unwrap();
    txn.end_statement();
    assert_eq!(txn.get(&tree, b"free").unwrap().unwrap(), b"2");
    assert_eq!(kind_of(txn.scan::<&[u8]>(&tree, ..).unwrap().next_row().unwrap_err()), out_of_time);
}

#[test]
fn one_of_a_deadlock_fails_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    engine
        .transact(Isolation::ReadCommitted, Durability::Process, |txn| {
            txn.put(&tree, b"a", b"")?;
            txn.put(&tree, b"b", b"")
        })
        .unwrap();
    let both_hold = std::sync::Barrier::new(2);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let run = |own: &'static [u8], theirs: &'static [u8]| {
            let (engine, tree, both_hold) = (&engine, &tree, &both_hold);
            scope.spawn(move || {
                let mut txn = engine.begin(Isolation::ReadCommitted).unwrap();
                assert!(txn.lock(tree, own, RowLockMode::Update).unwrap());
                both_hold.wait();
                let outcome = txn
                    .lock(tree, theirs, RowLockMode::Update)
                    .map_err(|error| (error.conflict_kind(), error.to_string()));
                if outcome.is_ok() {
                    txn.commit(Durability::Process).unwrap()
                } else {
                    txn.abort()
                }
                outcome
            })
        };
        [run(b"a", b"b"), run(b"b", b"a")].map(|thread| thread.join().unwrap()).into()
    });
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(failed.len(), 1, "{outcomes:?}");
    let (kind, text) = failed[0];
    assert_eq!(*kind, Some(ConflictKind::Deadlock));
    assert!(text.starts_with("deadlock detected: ") && text.contains("row '"), "{text}");
}

#[test]
fn serializable_refuses_write_skew() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("doctors on call").unwrap();
    let put = |key: &[u8], value: &[u8]| {
        engine.transact(Isolation::Serializable, Durability::Process, |txn| txn.put(&tree, key, value)).unwrap();
    };
    for isolation in [Isolation::RepeatableRead, Isolation::Serializable] {
        put(b"alice", b"on call");
        put(b"bob", b"on call");
        let on_call = |txn: &mut ssd_engine::Transaction| {
            txn.scan::<Vec<u8>>(&tree, ..).unwrap().filter(|row| row.as_ref().unwrap().1 == b"on call").count()
        };
        let mut alice = engine.begin(isolation).unwrap();
        let mut bob = engine.begin(isolation).unwrap();
        assert_eq!((on_call(&mut alice), on_call(&mut bob)), (2, 2));
        let go = |mut txn: ssd_engine::Transaction, key: &[u8]| {
            txn.put(&tree, key, b"off")?;
            txn.commit(Durability::Process)
        };
        let outcomes = [go(alice, b"alice"), go(bob, b"bob")];
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert_eq!(refused, usize::from(isolation == Isolation::Serializable), "{outcomes:?}");
    }
}

#[test]
fn an_insert_asks_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let process = Durability::Process;
    for isolation in [Isolation::RepeatableRead, Isolation::Serializable] {
        engine.transact(isolation, process, |txn| txn.put(&tree, b"there", b"0")).unwrap();
        let mut txn = engine.begin(isolation).unwrap();
        assert_eq!(txn.get(&tree, b"gone").unwrap(), None);
        engine.transact(isolation, process, |other| other.delete(&tree, b"there")).unwrap();
        engine.transact(isolation, process, |other| other.put(&tree, b"gone", b"1")).unwrap();
        engine.transact(isolation, process, |other| other.delete(&tree, b"gone")).unwrap();
        assert!(!txn.insert(&tree, b"there", b"2").unwrap(), "the snapshot has it");
        let error = txn.insert(&tree, b"gone", b"2").unwrap_err();
        assert_eq!(error.to_string(), "could not serialize access due to concurrent update");
    }
}

#[test]
fn a_key_share_that_finds_no_row_is_a_read() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let mut writer = engine.begin(Isolation::Serializable).unwrap();
    assert_eq!(writer.get(&tree, b"flag").unwrap(), None);
    assert!(writer.insert(&tree, b"row", b"").unwrap());
    let mut reader = engine.begin(Isolation::Serializable).unwrap();
    assert!(!reader.lock(&tree, b"row", RowLockMode::KeyShare).unwrap());
    let outcomes = [
        reader.put(&tree, b"flag", b"").and_then(|()| reader.commit(Durability::Process)),
        writer.commit(Durability::Process),
    ];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "{outcomes:?}");
}

#[test]
fn who_was_refused_by_serializable_is_refused_behind_a_savepoint_too() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let mut pivot = engine.begin(Isolation::Serializable).unwrap();
    assert_eq!(pivot.get(&tree, b"a").unwrap(), None);
    let mut reader = engine.begin(Isolation::Serializable).unwrap();
    assert_eq!(reader.get(&tree, b"b").unwrap(), None);
    engine.transact(Isolation::Serializable, Durability::Process, |txn| txn.put(&tree, b"a", b"")).unwrap();
    assert_eq!(reader.get(&tree, b"c").unwrap(), None);
    reader.put(&tree, b"d", b"").unwrap();
    let savepoint = pivot.savepoint().unwrap();
    let first = pivot.put(&tree, b"b", b"").unwrap_err();
    pivot.rollback_to(savepoint).unwrap();
    let again = pivot.put(&tree, b"b", b"").unwrap_err();
    assert_eq!((first.class(), again.to_string()), (Class::Conflict, first.to_string()));
    pivot.rollback_to(savepoint).unwrap();
    assert_eq!(pivot.commit(Durability::Process).unwrap_err().class(), Class::Conflict);
    reader.commit(Durability::Process).unwrap();
}

#[test]
fn a_prepared_transaction_survives_with_its_locks() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    engine.transact(Isolation::ReadCommitted, Durability::Process, |txn| txn.put(&tree, b"locked", b"")).unwrap();
    let mut txn = engine.begin(Isolation::ReadCommitted).unwrap();
    txn.put(&tree, b"k", b"prepared").unwrap();
    assert!(txn.lock(&tree, b"locked", RowLockMode::Share).unwrap());
    txn.prepare(b"p").unwrap();
    engine.close().unwrap();
    drop(tree);
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    assert_eq!(engine.prepared().unwrap().iter().map(|p| p.name.clone()).collect::<Vec<_>>(), [b"p"]);
    let hurried = TransactionOptions { lock_timeout: Some(Duration::from_millis(1)), ..TransactionOptions::default() };
    for key in [&b"k"[..], b"locked"] {
        let mut other = engine.begin_with(hurried).unwrap();
        assert!(other.put(&tree, key, b"x").unwrap_err().to_string().contains("timeout"));
    }
    engine.commit_prepared(b"p", Durability::Machine).unwrap();
    assert_eq!(engine.commit_prepared(b"p", Durability::Machine).unwrap_err().class(), Class::Usage);
    let mut after = engine.begin(Isolation::ReadCommitted).unwrap();
    assert_eq!(after.get(&tree, b"k").unwrap().unwrap(), b"prepared");
    after.put(&tree, b"locked", b"x").unwrap();
}

#[test]
fn trees_of_rows_and_of_values_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.tree("values").unwrap();
    engine.row_tree("rows").unwrap();
    assert_eq!(engine.row_tree("values").err().unwrap().class(), Class::Usage);
    assert_eq!(engine.tree("rows").err().unwrap().class(), Class::Usage);
    assert_eq!(engine.row_tree("\0mine").err().unwrap().class(), Class::Usage);
    let names: Vec<_> = engine.trees().unwrap().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, [b"values".to_vec(), b"rows".to_vec()], "the engine's own are not shown");
}

#[test]
fn space_comes_back_when_the_old_snapshot_ends() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let put = |value: &[u8]| {
        engine.transact(Isolation::ReadCommitted, Durability::Process, |txn| txn.put(&tree, b"hot", value)).unwrap();
    };
    put(&[0; 1000]);
    let mut old = engine.begin(Isolation::RepeatableRead).unwrap();
    assert_eq!(old.get(&tree, b"hot").unwrap().unwrap(), [0; 1000]);
    for n in 0..20_000u32 {
        put(&[n as u8; 1000]);
    }
    engine.vacuum().unwrap();
    let bytes = |engine: &Engine| engine.stats().unwrap().levels.iter().map(|level| level.bytes).sum::<u64>();
    assert!(bytes(&engine) < 100_000, "{} bytes for two versions of a row of 1000", bytes(&engine));
    let entries = |engine: &Engine| engine.stats().unwrap().levels.iter().map(|level| level.entries).sum::<u64>();
    let with_two = entries(&engine);
    assert_eq!(old.get(&tree, b"hot").unwrap().unwrap(), [0; 1000]);
    drop(old);
    engine.vacuum().unwrap();
    let versions = |engine: &Engine| {
        let mut txn = engine.begin(Isolation::RepeatableRead).unwrap();
        txn.scan::<Vec<u8>>(&tree, ..).unwrap().count()
    };
    assert_eq!(versions(&engine), 1);
    assert_eq!(entries(&engine), with_two - 1, "the old version is gone");
}

#[test]
fn a_locked_row_is_read_and_written_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let set = |key: &'static [u8], value: &'static [u8]| {
        engine.transact(Isolation::ReadCommitted, Durability::Process, |txn| txn.put(&tree, key, value)).unwrap();
    };
    set(b"a", b"1");
    set(b"b", b"1");
    let mut txn = engine.begin(Isolation::RepeatableRead).unwrap();
    assert_eq!(txn.get_locked(&tree, b"a", RowLockMode::NoKeyUpdate).unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(txn.get_locked(&tree, b"none", RowLockMode::Update).unwrap(), None);
    let before_b = txn.savepoint().unwrap();
    assert!(txn.get_locked(&tree, b"b", RowLockMode::KeyShare).unwrap().is_some());
    assert!(txn.get_locked(&tree, b"b", RowLockMode::Update).unwrap().is_some());
    txn.put(&tree, b"b", b"mine").unwrap();
    txn.rollback_to(before_b).unwrap();
    // The lock of b went with the savepoint, so others may change it, and that is a conflict for this one.
    set(b"b", b"2");
    txn.put(&tree, b"a", b"2").unwrap();
    assert_eq!(txn.get(&tree, b"a").unwrap().as_deref(), Some(&b"2"[..]));
    let after_a = txn.savepoint().unwrap();
    assert_eq!(txn.put(&tree, b"b", b"lost").unwrap_err().conflict_kind(), Some(ConflictKind::Serialization));
    txn.rollback_to(after_a).unwrap();
    txn.commit(Durability::Process).unwrap();
    let mut after = engine.begin(Isolation::ReadCommitted).unwrap();
    assert_eq!(after.get(&tree, b"a").unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(after.get(&tree, b"b").unwrap().as_deref(), Some(&b"2"[..]));
}

/// Versions that a snapshot needs stay, and no others: of each update beside it no more than the record of its commit, and
/// one compaction after its end brings all of it back.
#[test]
fn a_long_snapshot_keeps_what_it_sees_and_no_more() {
    const UPDATES: u64 = 300_000;
    /// A record of a commit in a file, compressed, and some that a trim is about to remove.
    const RECORD_BYTES: u64 = 8;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tree = engine.row_tree("t").unwrap();
    let set = |value: u64| {
        let value = [value.to_le_bytes(); 12].concat();
        engine.transact(Isolation::ReadCommitted, Durability::Process, |txn| txn.put(&tree, b"hot", &value)).unwrap();
    };
    let file_bytes = || engine.stats().unwrap().levels.iter().map(|level| level.bytes).sum::<u64>();
    set(0);
    let mut old = engine.begin(Isolation::RepeatableRead).unwrap();
    let seen = old.get(&tree, b"hot").unwrap().unwrap();
    let mut largest = 0;
    for value in 1..=UPDATES {
        set(value);
        if value.is_multiple_of(1 << 12) {
            largest = largest.max(file_bytes());
        }
    }
    assert_eq!(old.get(&tree, b"hot").unwrap().unwrap(), seen);
    engine.vacuum().unwrap();
    let beside = file_bytes();
    drop(old);
    engine.vacuum().unwrap();
    let after = file_bytes();
    println!("{UPDATES} updates: at most {largest} bytes of files, {beside} beside the snapshot, {after} after");
    assert!(largest < UPDATES * RECORD_BYTES, "{largest} bytes of files beside one snapshot");
    assert!(after < 16 << 10, "{after} bytes of files for one row");
    let mut now = engine.begin(Isolation::ReadCommitted).unwrap();
    assert_eq!(now.get(&tree, b"hot").unwrap().unwrap()[..8], UPDATES.to_le_bytes());
}
