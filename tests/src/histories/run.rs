//! Makes a history: threads that run random transactions on an engine in a real directory, for a bounded number of operations.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ssd_engine::{Class, Durability, Engine, Error, Isolation, Options, RowLockMode, RowTree, Transaction};

use crate::histories::check::{Anomaly, Done, Item, Key, Read, check};
use crate::rng::Rng;

/// How much a history has.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Threads.
    pub threads: u64,
    /// Transactions of each.
    pub transactions: u32,
    /// Rows.
    pub keys: u32,
}

/// What came of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions that committed.
    pub committed: u64,
    /// Transactions that rolled back.
    pub aborted: u64,
}

/// Opens the engine that the histories run on.
///
/// # Errors
/// As `Engine::open`.
pub fn open(dir: &Path) -> Result<Engine, Error> {
    let options = Options {
        memtable_bytes: 256 << 10,
        cache_bytes: 1 << 20,
        log_segment_bytes: 1 << 20,
        log_ring_bytes: 1 << 20,
        deadlock_timeout: Duration::from_millis(1),
        ..Options::default()
    };
    Engine::open(dir, options)
}

struct Stage<'s> {
    engine: &'s Engine,
    tree: RowTree,
    isolation: Isolation,
    size: Size,
    clock: AtomicU64,
    next: AtomicU32,
}

fn row(key: Key) -> Vec<u8> {
    format!("row {key:04}").into_bytes()
}

fn encode(list: &[Item]) -> Vec<u8> {
    list.iter().flat_map(|item| [item.txn.to_le_bytes(), item.at.to_le_bytes()].concat()).collect()
}

fn decode(bytes: &[u8]) -> Vec<Item> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    bytes.chunks(8).map(|item| Item { txn: number(&item[..4]), at: number(&item[4..]) }).collect()
}

/// Runs a history in a tree of its own and checks it.
///
/// # Errors
/// An anomaly, or an error that nothing explains.
pub fn attempt(engine: &Engine, tree: &str, isolation: Isolation, size: Size, seed: u64) -> Result<Counts, Anomaly> {
    let text = |error: Error| error.to_string();
    let tree = engine.row_tree(tree).map_err(text)?;
    let fill = |txn: &mut Transaction| (0..size.keys).try_for_each(|key| txn.put(&tree, &row(key), b""));
    engine.transact(Isolation::ReadCommitted, Durability::Process, fill).map_err(text)?;
    let stage =
        Stage { engine, tree: tree.clone(), isolation, size, clock: AtomicU64::new(0), next: AtomicU32::new(1) };
    let history: Vec<Done> = std::thread::scope(|scope| {
        let run = |thread| {
            let stage = &stage;
            scope.spawn(move || stage.thread(Rng::new(seed << 8 | thread)))
        };
        let threads: Vec<_> = (0..size.threads).map(run).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("threads do not panic");
        threads.into_iter().map(join).collect::<Result<Vec<_>, Error>>()
    })
    .map_err(text)?
    .concat();
    let read = |txn: &mut Transaction| {
        let lists = (0..size.keys).map(|key| Ok((key, decode(&txn.get(&tree, &row(key))?.unwrap_or_default()))));
        lists.collect::<Result<HashMap<_, _>, Error>>()
    };
    let last = engine.transact(Isolation::RepeatableRead, Durability::Process, read).map_err(text)?;
    check(isolation, &history, &last).map_err(|what| format!("{isolation:?}, seed {seed}: {what}"))?;
    let committed = history.iter().filter(|done| done.committed).count() as u64;
    Ok(Counts { committed, aborted: history.len() as u64 - committed })
}

impl Stage<'_> {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn thread(&self, mut rng: Rng) -> Result<Vec<Done>, Error> {
        let mut history = Vec::new();
        for _ in 0..self.size.transactions {
            match rng.below(400) {
                0 => self.engine.flush()?,
                1 => self.engine.vacuum()?,
                _ => {}
            }
            history.push(self.transaction(&mut rng)?);
        }
        Ok(history)
    }

    fn transaction(&self, rng: &mut Rng) -> Result<Done, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let begun = self.now();
        let mut done = Done { number, time: (begun, 0), committed: false, reads: Vec::new(), appends: Vec::new() };
        let mut txn = self.engine.begin(self.isolation)?;
        let worked = self.work(rng, &mut txn, &mut done);
        let outcome = match worked {
            Ok(()) if rng.one_in(12) => {
                txn.abort();
                Ok(false)
            }
            Ok(()) => txn.commit(Durability::Process).map(|()| true),
            Err(error) => {
                txn.abort();
                Err(error)
            }
        };
        done.committed = match outcome {
            Ok(committed) => committed,
            Err(error) if error.class() == Class::Conflict && self.may_refuse(&error) => false,
            Err(error) => return Err(error),
        };
        done.time.1 = self.now();
        Ok(done)
    }

    /// Read committed knows no conflicts but deadlocks.
    fn may_refuse(&self, error: &Error) -> bool {
        self.isolation != Isolation::ReadCommitted || error.to_string().starts_with("deadlock")
    }

    fn work(&self, rng: &mut Rng, txn: &mut Transaction, done: &mut Done) -> Result<(), Error> {
        let mut count = 0;
        for _ in 0..=rng.below(6) {
            // Few keys are hot, so that transactions meet, and in any order, so that some are stuck.
            let key = rng.below(u64::from(self.size.keys)).min(rng.below(u64::from(self.size.keys))) as Key;
            let item = Item { txn: done.number, at: count };
            match rng.below(20) {
                0..7 => {
                    let from = self.now();
                    let list = decode(&txn.get(&self.tree, &row(key))?.unwrap_or_default());
                    done.reads.push(Read {
                        time: (from, self.now()),
                        rows: vec![(key, list)],
                        own: done.appends.clone(),
                    });
                }
                7..10 => {
                    let from = self.now();
                    let rows = txn.scan::<Vec<u8>>(&self.tree, ..)?.collect::<Result<Vec<_>, _>>()?;
                    let rows: Vec<_> = (0..).zip(rows.iter().map(|(_, list)| decode(list))).collect();
                    done.reads.push(Read { time: (from, self.now()), rows, own: done.appends.clone() });
                }
                10..12 => {
                    let savepoint = txn.savepoint()?;
                    self.append(rng, txn, key, item)?;
                    txn.rollback_to(savepoint)?;
                    count += 1;
                }
                _ => {
                    self.append(rng, txn, key, item)?;
                    done.appends.push((key, item));
                    count += 1;
                }
            }
        }
        Ok(())
    }

    /// In read committed the row is locked before it is read; above, the snapshot sees to it.
    fn append(&self, rng: &mut Rng, txn: &mut Transaction, key: Key, item: Item) -> Result<(), Error> {
        if self.isolation == Isolation::ReadCommitted || rng.one_in(3) {
            txn.lock(&self.tree, &row(key), RowLockMode::Update)?;
        }
        let mut list = decode(&txn.get(&self.tree, &row(key))?.unwrap_or_default());
        list.push(item);
        txn.put(&self.tree, &row(key), &encode(&list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_make_no_anomaly() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path()).unwrap();
        let size = Size { threads: 4, transactions: 500, keys: 8 };
        for (seed, isolation) in (1..).zip([
            Isolation::ReadCommitted,
            Isolation::RepeatableRead,
            Isolation::Serializable,
            Isolation::ReadCommitted,
            Isolation::RepeatableRead,
            Isolation::Serializable,
        ]) {
            let counts = attempt(&engine, &format!("tree {seed}"), isolation, size, seed).unwrap();
            assert!(counts.committed > 100, "{isolation:?}: {counts:?}");
        }
    }
}
