//! Many threads: nobody sees a part of a commit, waiters are woken, locks exclude, and every deadlock ends.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[test]
fn nobody_sees_a_part_of_a_commit() {
    let world = World::new(11, TxnOptions { status_window: 1 << 10, ..TxnOptions::default() });
    let latest = [const { AtomicU64::new(0) }; 3];
    let writers_left = AtomicU64::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..400 {
                    let mut txn = world.begin();
                    let top = txn.write_id().unwrap();
                    txn.set_savepoint().unwrap();
                    let part = txn.write_id().unwrap();
                    latest[0].store(top.0, Ordering::SeqCst);
                    latest[1].store(part.0, Ordering::SeqCst);
                    latest[2].store(top.0 << 32 | part.0, Ordering::SeqCst);
                    txn.commit(Durability::Process).unwrap();
                }
                writers_left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while writers_left.load(Ordering::SeqCst) > 0 {
                    let both = latest[2].load(Ordering::SeqCst);
                    let ids = [TxnId(both >> 32), TxnId(both & 0xFFFF_FFFF)];
                    if both == 0 {
                        continue;
                    }
                    let seen = ids.map(|id| world.state(id));
                    let snapshot = world.txns().snapshot(CommandId(0));
                    let ran = ids.map(|id| snapshot.ran(id));
                    assert_eq!(ran[0], ran[1], "half of a commit in a snapshot");
                    if seen.contains(&TxnState::Committed) {
                        assert!(!ran[0], "seen committed, and then running");
                    }
                    if !ran[0] {
                        assert_eq!(ids.map(|id| world.state(id)), [TxnState::Committed; 2]);
                    }
                }
            });
        }
    });
}

#[test]
fn exclusive_locks_exclude_and_deadlocks_end() {
    let options = TxnOptions { deadlock_timeout: Duration::from_millis(1), ..TxnOptions::default() };
    let world = World::new(12, options);
    let (inside, deadlocks, done) = ([const { AtomicU64::new(0) }; 3], AtomicU64::new(0), AtomicU64::new(0));
    let (world, inside, deadlocks, done) = (&world, &inside, &deadlocks, &done);
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            scope.spawn(move || {
                for round in 0..60usize {
                    let mut txn = world.begin();
                    // Pairs of objects in every order.
                    let pair = [(thread + round) % 3, (thread * 2 + round + 1) % 3];
                    let mut taken = Vec::new();
                    for object in pair {
                        match txn.lock_table(LockObject(object as u64), LockMode::AccessExclusive, None) {
                            Ok(()) if taken.contains(&object) => {}
                            Ok(()) => {
                                assert_eq!(inside[object].fetch_add(1, Ordering::SeqCst), 0, "two inside");
                                taken.push(object);
                            }
                            Err(error) => {
                                assert!(matches!(error, WaitError::Deadlock { .. }), "{error}");
                                deadlocks.fetch_add(1, Ordering::SeqCst);
                                break;
                            }
                        }
                        std::thread::yield_now();
                    }
                    taken.iter().for_each(|&object| {
                        inside[object].fetch_sub(1, Ordering::SeqCst);
                    });
                    txn.rollback();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::SeqCst), 240);
}

#[test]
fn waiters_are_woken_by_the_end() {
    let world = World::new(13, TxnOptions::default());
    let mut holder = world.begin();
    let id = holder.write_id().unwrap();
    holder.lock_table(LockObject(1), LockMode::AccessExclusive, None).unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .map(|at| {
                let mut waiter = world.begin();
                scope.spawn(move || {
                    if at == 0 {
                        waiter.lock_table(LockObject(1), LockMode::AccessShare, None)
                    } else {
                        waiter.wait_for(&[id], &"a row", None)
                    }
                })
            })
            .collect();
        while world.txns().lobby.lock().waits().all_waiting().count() < 3 {
            std::thread::yield_now();
        }
        commit(&mut holder);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(world.state(id), TxnState::Committed);
}

#[test]
fn closing_ends_all_waits() {
    let world = World::new(14, TxnOptions::default());
    let mut holder = world.begin();
    let id = holder.write_id().unwrap();
    std::thread::scope(|scope| {
        let waiter = world.begin();
        let waiting = scope.spawn(move || waiter.wait_for(&[id], &"a row", None));
        while world.txns().lobby.lock().waits().all_waiting().count() < 1 {
            std::thread::yield_now();
        }
        world.txns().close();
        assert_eq!(waiting.join().unwrap(), Err(WaitError::Closed));
    });
}
