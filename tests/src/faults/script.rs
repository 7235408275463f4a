//! The fixed workload: everything that an engine does to its files, in as few operations on the disk as possible.

use ssd_engine::{Error, Options};

use crate::rng::Rng;
use crate::sim::model::Op;
use crate::sim::store::Store;
use crate::sim::workload::{self, NUMBER_KEY};

/// One step of the workload.
pub struct Step {
    /// For messages.
    pub name: &'static str,
    /// Reads only: it succeeds whatever failed before it, unless the process is dead.
    pub reads: bool,
    /// Does it.
    pub run: fn(&mut Store) -> Result<(), Error>,
}

/// Options with which the workload crosses every boundary.
#[must_use]
pub fn options() -> Options {
    Options {
        memtable_bytes: 64 << 10,
        memtables: 2,
        cache_bytes: 64 << 10,
        block_bytes: 4 << 10,
        target_file_bytes: 16 << 10,
        base_level_bytes: 32 << 10,
        level_multiplier: 2,
        background_threads: 0,
        log_segment_bytes: 16 << 10,
        log_ring_bytes: 64 << 10,
        log_recycle: 1,
        disk_reserve_bytes: 0,
        snapshots: 16,
        ..Options::default()
    }
}

/// Seed of the world and of the operations.
pub const SEED: u64 = 20;

/// The operations' chance.
#[must_use]
pub const fn rng() -> Rng {
    Rng::new(SEED)
}

const fn does(name: &'static str, run: fn(&mut Store) -> Result<(), Error>) -> Step {
    Step { name, reads: false, run }
}

const fn reads(name: &'static str, run: fn(&mut Store) -> Result<(), Error>) -> Step {
    Step { name, reads: true, run }
}

/// The workload. Steps after an open need an open engine.
#[must_use]
pub fn steps() -> Vec<Step> {
    vec![
        does("open", Store::open),
        does("small batches", |store| writes(store, 6, 3)),
        does("a value larger than a block", |store| large(store, 20_000, false)),
        reads("snapshot", Store::snapshot),
        does("more batches", |store| writes(store, 10, 4)),
        does("a range of keys deleted", delete_range),
        does("flush", |store| store.engine().flush()),
        reads("a scan stays open", |store| store.start_scan(false).and_then(|()| store.continue_scan(3))),
        does("a durable value larger than a memtable", |store| large(store, 70_000, true)),
        does("batches over another flush", |store| writes(store, 12, 0).and_then(|()| store.engine().flush())),
        reads("get", Store::get),
        reads("the snapshot", Store::check_snapshot),
        does("compaction", |store| store.engine().compact()),
        reads("the scan goes on", |store| store.continue_scan(1000)),
        does("jobs", |store| store.jobs(20)),
        does("checkpoint", Store::checkpoint),
        does("a tree dropped and made again", |store| store.drop_tree(2)),
        does("batches into all trees", |store| writes(store, 8, 5)),
        reads("scan", Store::scan),
        does("close", Store::close),
        does("open again", Store::open),
        reads("all rows", Store::check_all),
        does("a few more", |store| writes(store, 4, 2).and_then(|()| large(store, 30_000, false))),
        does("sync", Store::sync),
        reads("all rows again", Store::check_all),
        reads("verification", |store| store.engine().verify()),
    ]
}

/// Writes `count` batches, one in `durable` of them durable (0: none).
fn writes(store: &mut Store, count: usize, durable: usize) -> Result<(), Error> {
    for at in 1..=count {
        let ops = workload::batch(&mut store.rng, &store.model);
        store.write_ops(ops, durable > 0 && at.is_multiple_of(durable))?;
    }
    Ok(())
}

/// Writes one value of `len` bytes that do not compress.
fn large(store: &mut Store, len: usize, durable: bool) -> Result<(), Error> {
    let value = (0..len).map(|_| store.rng.next() as u8).collect();
    let key = workload::model_key(&mut store.rng);
    let number = Op::Put((0, NUMBER_KEY.to_vec()), store.model.next_number().to_string().into_bytes());
    store.write_ops(vec![Op::Put(key, value), number], durable)
}

fn delete_range(store: &mut Store) -> Result<(), Error> {
    let number = Op::Put((0, NUMBER_KEY.to_vec()), store.model.next_number().to_string().into_bytes());
    let range = Op::DeleteRange(1, b"k1".to_vec(), b"key/with/a/common/prefix/0002".to_vec());
    store.write_ops(vec![range, number], false)
}
