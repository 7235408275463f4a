//! The whole manager: commits, snapshots, savepoints, waits, two phases, crashes, trimming.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::ids::{CommandId, TreeId};
use crate::db::engine::Engine;
use crate::env::memory::{Crash, MemoryEnv};
use crate::error::Class;
use crate::options::{Durability, Options};

mod crashes;
mod threads;

/// An engine in a world of its own, and its transactions.
struct World {
    env: Arc<MemoryEnv>,
    engine: Option<Engine>,
    txns: Option<Arc<TxnManager>>,
    options: TxnOptions,
}

impl World {
    fn new(seed: u64, options: TxnOptions) -> Self {
        let mut world = Self { env: MemoryEnv::new(seed), engine: None, txns: None, options };
        world.open();
        world
    }

    fn open(&mut self) {
        let options = Options {
            env: Some(self.env.clone()),
            background_threads: 0,
            memtable_bytes: 256 << 10,
            cache_bytes: 1 << 20,
            log_ring_bytes: 64 << 10,
            log_segment_bytes: 256 << 10,
            disk_reserve_bytes: 0,
            ..Options::default()
        };
        let engine = Engine::open("/db", options).unwrap();
        let trees = SystemTrees {
            status: engine.tree("txn status").unwrap().id(),
            prepared: engine.tree("txn prepared").unwrap().id(),
        };
        let txns = TxnManager::open(Arc::clone(engine.lsm()), trees, self.options).unwrap();
        assert!(engine.lsm().row_host.set(txns.row_host()).is_ok());
        (self.engine, self.txns) = (Some(engine), Some(txns));
    }

    fn reopen(&mut self, how: Crash) {
        (self.txns, self.engine) = (None, None);
        self.env.crash(how);
        self.open();
    }

    fn txns(&self) -> &Arc<TxnManager> {
        self.txns.as_ref().unwrap()
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn begin(&self) -> Txn {
        self.txns().begin(Isolation::ReadCommitted, false)
    }

    fn state(&self, id: TxnId) -> TxnState {
        self.txns().state(id).unwrap()
    }
}

fn small() -> TxnOptions {
    TxnOptions { status_window: 8, id_step: 5, deadlock_timeout: Duration::ZERO, ..TxnOptions::default() }
}

fn commit(txn: &mut Txn) {
    txn.commit(Durability::Process).unwrap();
}

#[test]
fn ids_come_with_the_first_write() {
    let world = World::new(1, small());
    let mut reader = world.txns().begin(Isolation::RepeatableRead, true);
    reader.snapshot().unwrap();
    assert_eq!(reader.write_id().unwrap_err().to_string(), "cannot write in a read-only transaction");
    commit(&mut reader);
    let mut writer = world.begin();
    assert_eq!(writer.record().id(), None);
    assert_eq!(writer.write_id().unwrap(), TxnId(1));
    assert_eq!(writer.write_id().unwrap(), TxnId(1));
    assert!(writer.is_own(TxnId(1)) && !writer.is_own(TxnId(2)));
    assert_eq!(world.state(TxnId(1)), TxnState::InProgress);
    commit(&mut writer);
    assert_eq!(world.state(TxnId(1)), TxnState::Committed);
    assert_eq!(writer.commit(Durability::Process).unwrap_err().class(), Class::Usage);
}

#[test]
fn a_snapshot_is_of_one_moment() {
    let world = World::new(2, small());
    let mut other = world.begin();
    let id = other.write_id().unwrap();
    let mut repeatable = world.txns().begin(Isolation::RepeatableRead, false);
    let mut committed = world.txns().begin(Isolation::ReadCommitted, false);
    assert!(repeatable.snapshot().unwrap().ran(id) && committed.snapshot().unwrap().ran(id));
    commit(&mut other);
    repeatable.next_command().unwrap();
    let snapshot = repeatable.snapshot().unwrap();
    assert!(snapshot.ran(id) && snapshot.command == CommandId(1));
    assert!(!committed.snapshot().unwrap().ran(id));
    assert_eq!(world.txns().horizon().oldest, id);
    drop((snapshot, repeatable));
    assert!(world.txns().horizon().oldest > id);
}

#[test]
fn savepoints_end_on_their_own() {
    let world = World::new(3, small());
    let mut txn = world.begin();
    let savepoint = txn.set_savepoint().unwrap();
    let first = txn.write_id().unwrap();
    txn.set_savepoint().unwrap();
    let inner = txn.write_id().unwrap();
    txn.lock_table(LockObject(9), LockMode::Share, None).unwrap();
    let mut other = world.begin();
    assert_eq!(other.in_the_way(&[first, inner]), [first, inner]);
    txn.rollback_to(savepoint).unwrap();
    assert!(other.in_the_way(&[first, inner]).is_empty());
    assert_eq!([world.state(first), world.state(inner)], [TxnState::Aborted; 2]);
    assert!(!txn.is_own(first));
    assert!(other.try_lock_table(LockObject(9), LockMode::AccessExclusive).is_ok(), "the lock went with the savepoint");
    let second = txn.write_id().unwrap();
    txn.release_savepoint(savepoint).unwrap();
    let top = txn.record().id().unwrap();
    commit(&mut txn);
    assert_eq!([world.state(top), world.state(second)], [TxnState::Committed; 2]);
    assert_eq!([world.state(first), world.state(inner)], [TxnState::Aborted; 2]);
}

#[test]
fn states_outlive_the_window() {
    let world = World::new(4, small());
    let mut long = world.begin();
    let straggler = long.write_id().unwrap();
    let mut ids = Vec::new();
    for at in 0..40 {
        let mut txn = world.begin();
        ids.push((txn.write_id().unwrap(), at % 3 == 0));
        if at % 3 == 0 { commit(&mut txn) } else { txn.rollback() }
    }
    for _ in 0..2 {
        for &(id, committed) in &ids {
            assert_eq!(world.state(id), if committed { TxnState::Committed } else { TxnState::Aborted }, "{id}");
        }
        assert_eq!(world.state(straggler), TxnState::InProgress);
    }
    // Whoever asks too early learns nothing that stays.
    let next = TxnId(ids.last().unwrap().0.0 + 1);
    assert_eq!(world.state(next), TxnState::Aborted);
    let mut txn = world.begin();
    assert_eq!(txn.write_id().unwrap(), next);
    assert_eq!(world.state(next), TxnState::InProgress);
    commit(&mut long);
    assert_eq!(world.state(straggler), TxnState::Committed);
}

#[test]
fn a_deadlock_is_told_to_the_one_who_closes_it() {
    let world = World::new(5, small());
    let (mut a, mut b) = (world.begin(), world.begin());
    let (a_id, b_id) = (a.write_id().unwrap(), b.write_id().unwrap());
    assert!(a.start_wait(&[b_id], &Txn::row_text(b"k")).unwrap());
    assert_eq!(a.find_deadlock(), None);
    let error = b.wait_for(&[a_id], &Txn::row_text(b"j\n"), None).unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.class(), Class::Conflict);
    assert_eq!(
        error.to_string(),
        "deadlock detected: transaction 2 waits for row 'j\\n' held by transaction 1; \
         transaction 1 waits for row 'k' held by transaction 2"
    );
    assert!(a.is_waiting(), "the other one is not a victim");
    b.rollback();
    assert!(!a.is_waiting());
    assert_eq!(a.wait_for(&[b_id, TxnId(1)], &"", None), Ok(()), "ended, and its own");
}

#[test]
fn a_wait_has_a_limit() {
    let world = World::new(6, small());
    let (mut a, mut b) = (world.begin(), world.begin());
    let id = a.write_id().unwrap();
    let short = Some(Duration::from_millis(2));
    assert_eq!(b.wait_for(&[id], &"a row", short), Err(WaitError::Timeout));
    a.lock_table(LockObject(1), LockMode::RowExclusive, None).unwrap();
    assert_eq!(b.lock_table(LockObject(1), LockMode::Share, short), Err(WaitError::Timeout));
    assert_eq!(b.try_lock_table(LockObject(1), LockMode::Share), Err(vec![Party::Id(id)]));
    assert_eq!(b.table_locks(LockObject(1)).0, 0);
    assert!(b.start_lock(LockObject(1), LockMode::Share).unwrap());
    assert!(a.unlock_table(LockObject(1), LockMode::RowExclusive));
    assert!(!b.is_waiting());
    assert!(b.table_locks(LockObject(1)).has(LockMode::Share));
    world.txns().close();
    assert_eq!(b.wait_for(&[id], &"a row", None), Err(WaitError::Closed));
}

#[test]
fn who_asked_for_a_lock_and_ended_is_not_in_the_queue() {
    let world = World::new(7, small());
    let (mut a, mut b, mut c) = (world.begin(), world.begin(), world.begin());
    a.lock_table(LockObject(1), LockMode::Share, None).unwrap();
    assert!(b.start_lock(LockObject(1), LockMode::AccessExclusive).unwrap());
    assert!(c.start_lock(LockObject(1), LockMode::AccessShare).unwrap());
    drop(b);
    assert!(!c.is_waiting());
    drop((a, c));
    assert!(world.begin().try_lock_table(LockObject(1), LockMode::AccessExclusive).is_ok());
}

#[test]
fn prepared_transactions_outlive_a_restart_with_their_locks() {
    let mut world = World::new(8, small());
    let mut txn = world.txns().begin(Isolation::Serializable, false);
    txn.snapshot().unwrap();
    txn.on_read_key(TreeId(50), b"x").unwrap();
    txn.set_savepoint().unwrap();
    let part = txn.write_id().unwrap();
    let id = txn.record().id().unwrap();
    txn.lock_table(LockObject(4), LockMode::Share, None).unwrap();
    txn.lock_table(LockObject(4), LockMode::RowExclusive, None).unwrap();
    txn.prepare(b"first", b"row locks", b"payload").unwrap();
    assert_eq!(txn.commit(Durability::Machine).unwrap_err().to_string(), "transaction is prepared");
    let mut second = world.begin();
    assert_eq!(
        second.prepare(b"first", b"", b"").unwrap_err().to_string(),
        "transaction identifier \"first\" is already in use"
    );
    second.prepare(b"second", b"", b"").unwrap();
    let second = second.record().id().unwrap();
    for how in [Crash::Process, Crash::Power] {
        txn.rollback();
        world.reopen(how);
        txn = world.begin();
        let listed = world.txns().prepared();
        assert_eq!(listed.iter().map(|p| p.name.as_slice()).collect::<Vec<_>>(), [&b"first"[..], b"second"]);
        let first = &listed[0];
        assert_eq!((first.id, first.parts.as_slice()), (id, &[part][..]));
        assert_eq!((first.row_locks.as_slice(), first.payload.as_slice()), (&b"row locks"[..], &b"payload"[..]));
        assert_eq!([id, part, second].map(|id| world.state(id)), [TxnState::InProgress; 3]);
        assert_eq!(txn.in_the_way(&[part]), [part]);
        assert_eq!(txn.try_lock_table(LockObject(4), LockMode::Share), Err(vec![Party::Id(id)]));
        assert!(world.txns().horizon().oldest <= id);
    }
    assert!(txn.start_wait(&[part], &"a row").unwrap());
    world.txns().commit_prepared(b"first", Durability::Machine).unwrap();
    assert!(!txn.is_waiting());
    assert!(txn.try_lock_table(LockObject(4), LockMode::Share).is_ok());
    world.txns().rollback_prepared(b"second", Durability::Machine).unwrap();
    let error = world.txns().commit_prepared(b"first", Durability::Machine).unwrap_err();
    assert_eq!(error.to_string(), "prepared transaction with identifier \"first\" does not exist");
    drop(txn);
    world.reopen(Crash::Power);
    assert!(world.txns().prepared().is_empty());
    let states = [id, part, second].map(|id| world.state(id));
    assert_eq!(states, [TxnState::Committed, TxnState::Committed, TxnState::Aborted]);
}

#[test]
fn old_commit_records_go_once_nobody_can_ask() {
    let world = World::new(9, small());
    let mut committed = Vec::new();
    for _ in 0..30 {
        let mut txn = world.begin();
        committed.push(txn.write_id().unwrap());
        commit(&mut txn);
    }
    let records = |world: &World| {
        let tree = world.engine().find_tree(b"txn status").unwrap().unwrap();
        tree.scan::<&[u8]>(..).unwrap().map(|row| row.unwrap().0.len()).filter(|&len| len == 8).count()
    };
    let mut reader = world.txns().begin(Isolation::RepeatableRead, true);
    reader.snapshot().unwrap();
    assert!(!world.txns().trim_status().unwrap(), "the memtable may name them");
    assert!(!world.txns().trim_status().unwrap());
    // A reader that is younger than the bound does not count, one that is older does.
    let mut txn = world.begin();
    txn.write_id().unwrap();
    commit(&mut txn);
    world.engine().flush().unwrap();
    assert!(!world.txns().trim_status().unwrap(), "the reader may have a copy of what named them");
    assert_eq!(records(&world), 31);
    let young = world.txns().snapshot(CommandId(0));
    drop(reader);
    assert!(world.txns().trim_status().unwrap());
    assert_eq!(records(&world), 1, "the last one is younger than the mark");
    drop(young);
    let mut txn = world.begin();
    assert!(txn.write_id().unwrap() > *committed.last().unwrap());
}

#[test]
fn serializable_transactions_fail_as_a_whole() {
    let world = World::new(10, small());
    let tree = TreeId(50);
    let begin = || {
        let mut txn = world.txns().begin(Isolation::Serializable, false);
        txn.snapshot().unwrap();
        txn
    };
    let (mut a, mut b) = (begin(), begin());
    a.on_read_key(tree, b"x").unwrap();
    b.on_read_key(tree, b"y").unwrap();
    for (txn, written) in [(&mut a, b"y"), (&mut b, b"x")] {
        txn.write_id().unwrap();
        txn.on_write(tree, written).unwrap();
    }
    commit(&mut a);
    let b_id = b.record().id().unwrap();
    let error = b.commit(Durability::Process).unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert_eq!(b.record().phase(), Phase::Aborted);
    assert_eq!(world.state(b_id), TxnState::Aborted);
    assert_eq!(world.txns().ssi.lock().size(), (0, 0));
    let mut retry = begin();
    retry.on_read_key(tree, b"y").unwrap();
    commit(&mut retry);
}

#[test]
fn a_commit_that_may_not_be_stable_is_in_doubt() {
    let mut world = World::new(11, small());
    let (mut unsure, mut late, waiter) = (world.begin(), world.begin(), world.begin());
    let ids = [unsure.write_id().unwrap(), late.write_id().unwrap()];
    world.env.faults().fail_from(1, crate::env::fault::FaultKind::Eio);
    assert_eq!(unsure.commit(Durability::Machine).unwrap_err().class(), Class::Io);
    assert_eq!(unsure.record().phase(), Phase::InDoubt);
    assert_eq!(world.state(ids[0]), TxnState::InProgress, "nobody may act on it");
    assert_eq!(waiter.wait_for(&ids, &"a row", None), Err(WaitError::Closed));
    assert!(late.commit(Durability::Machine).is_err());
    assert_eq!(late.record().phase(), Phase::Aborted, "the log takes no more, so nothing was written");
    world.env.faults().clear();
    world.reopen(Crash::Power);
    assert_ne!(world.state(ids[0]), TxnState::InProgress);
    assert_eq!(world.state(ids[1]), TxnState::Aborted);
}
