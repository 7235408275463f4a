//! Reads of a tree whose rows are not cached: what arrives of the device at the top of the engine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ssd_engine::{Engine, Options, Tree};

use super::{Load, Pattern};
use crate::Result;
use crate::data::{Values, is_value_of, key};
use crate::measure::{Latencies, Usage};
use crate::random::Random;
use crate::spec::Measured;

/// Bytes that a point read fetches: a block of 8 KiB with its tail, widened to whole pages of 4 KiB.
pub const GET_LEN: usize = 12 << 10;
/// Reads that the engine keeps in flight for rows that are asked for together.
pub const MULTI_GET_DEPTH: usize = ssd_engine::lsm::queues::DEPTH;
/// Rows asked for together: so many that the queue is full most of the time.
const MULTI_GET_ROWS: u64 = 1024;
/// Reads that a long scan keeps in flight.
pub const SCAN_DEPTH: usize = 3;
/// The tree has this part of the bytes of the file of the other loads.
pub const SHARE: u64 = 4;

const VALUE_LEN: usize = 1000;
/// Holds index and filters, and hardly any rows.
const CACHE_BYTES: usize = 16 << 20;

/// Where the tree is, beside the file at `path`.
#[must_use]
pub fn dir(path: &Path) -> PathBuf {
    path.with_extension("tree")
}

fn open(path: &Path) -> Result<(Engine, Tree)> {
    // Without compression, so that the device is what limits and not the processor.
    let options = Options { cache_bytes: CACHE_BYTES, compress: false, ..Options::default() };
    let engine = Engine::open(dir(path), options)?;
    let tree = engine.tree("rows")?;
    Ok((engine, tree))
}

/// Makes a tree of about `bytes` bytes.
///
/// # Errors
/// The engine's.
pub fn fill(path: &Path, bytes: u64) -> Result<()> {
    if dir(path).exists() {
        std::fs::remove_dir_all(dir(path))?;
    }
    let (engine, tree) = open(path)?;
    let mut values = Values::new(VALUE_LEN, 1);
    for id in 0..bytes / VALUE_LEN as u64 {
        tree.put(&key(id), values.next(id))?;
    }
    engine.compact()?;
    Ok(engine.close()?)
}

fn rows(tree: &Tree) -> Result<u64> {
    let last = tree.scan_backward::<&[u8]>(..)?.next().ok_or("the tree is empty")??.0;
    let digits = std::str::from_utf8(&last)?.trim_start_matches("user");
    Ok(digits.parse::<u64>()? + 1)
}

/// Does the load.
///
/// # Errors
/// The engine's; a row that is missing or wrong.
pub fn run(path: &Path, load: &Load) -> Result<Measured> {
    let (engine, tree) = open(path)?;
    let rows = rows(&tree)?;
    let (usage, start) = (Usage::now(), Instant::now());
    let mut out = Measured::default();
    let latencies = match load.pattern {
        Pattern::TreeScan => scan(&tree, load)?,
        Pattern::TreeMultiGet => multi_gets(&tree, rows, load)?,
        _ => gets(&tree, rows, load)?,
    };
    out.seconds = start.elapsed().as_secs_f64();
    Usage::now().since(&usage, &mut out);
    latencies.report(&mut out);
    if load.pattern == Pattern::TreeScan {
        // In units that compare: blocks fetched from the device.
        out.ops = (out.device_read / load.block as u64).max(1);
    }
    engine.close()?;
    Ok(out)
}

/// Gets by as many threads as operations are to be in flight.
fn gets(tree: &Tree, rows: u64, load: &Load) -> Result<Latencies> {
    let deadline = Instant::now() + Duration::from_secs_f64(load.seconds);
    on_threads(load.depth, |thread| {
        let (mut random, mut value) = (Random::new(5 + thread), Vec::new());
        let mut latencies = Latencies::start()?;
        loop {
            let id = random.below(rows);
            value.clear();
            if !tree.get_into(&key(id), &mut value)? || !is_value_of(&value, id, VALUE_LEN) {
                return Err(format!("row {id} is missing or wrong").into());
            }
            if latencies.lap() >= deadline {
                return Ok(latencies);
            }
        }
    })
}

/// Gets of many rows together by one thread; each has the latency of its batch.
fn multi_gets(tree: &Tree, rows: u64, load: &Load) -> Result<Latencies> {
    let deadline = Instant::now() + Duration::from_secs_f64(load.seconds);
    let mut random = Random::new(5);
    let mut latencies = Latencies::start()?;
    loop {
        let ids: Vec<u64> = (0..MULTI_GET_ROWS).map(|_| random.below(rows)).collect();
        let keys: Vec<_> = ids.iter().map(|&id| key(id)).collect();
        for (id, value) in ids.iter().zip(tree.multi_get(&keys)?) {
            if !value.is_some_and(|value| is_value_of(&value, *id, VALUE_LEN)) {
                return Err(format!("row {id} is missing or wrong").into());
            }
        }
        if latencies.lap_of(MULTI_GET_ROWS) >= deadline {
            return Ok(latencies);
        }
    }
}

/// The latencies of `count` threads that do `work`, which is told their numbers.
fn on_threads(count: usize, work: impl Fn(u64) -> Result<Latencies> + Sync) -> Result<Latencies> {
    let (mut all, work) = (Latencies::start()?, &work);
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..count as u64).map(|thread| scope.spawn(move || work(thread))).collect();
        for thread in threads {
            all.add(&thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok(())
    })?;
    Ok(all)
}

/// Scans from the front to the end, again and again.
fn scan(tree: &Tree, load: &Load) -> Result<Latencies> {
    let deadline = Instant::now() + Duration::from_secs_f64(load.seconds);
    let mut latencies = Latencies::start()?;
    loop {
        let (mut cursor, mut id) = (tree.scan::<&[u8]>(..)?, 0);
        while let Some((row, value)) = cursor.next_row()? {
            if row != key(id) || !is_value_of(value, id, VALUE_LEN) {
                return Err(format!("row {id} is missing or wrong").into());
            }
            id += 1;
            if id % 1024 == 0 && latencies.lap() >= deadline {
                return Ok(latencies);
            }
        }
        if latencies.lap() >= deadline {
            return Ok(latencies);
        }
    }
}
