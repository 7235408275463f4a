//! What the check of visibility costs: scans and point reads of rows whose writers are named, of rows that are frozen, and of
//! plain values of the same size at the same place.
//!
//! A flush freezes rows that everybody sees. So *named* rows lie in a memtable, *frozen* ones in files, and each has the plain
//! values at the same place beside it. The cost of a check is the difference, by the row: each iteration of a scan reads
//! [`ROWS`] rows.
#![expect(clippy::unwrap_used, reason = "a bench stops where it fails")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ssd_bench::data::key;
use ssd_bench::random::mix;
use ssd_engine::{Durability, Engine, Isolation, Options, RowTree, Tree};

const ROWS: u64 = 200_000;
/// Rows of each transaction that writes.
const ROWS_PER_TXN: u64 = 10;

/// Plain values and rows with the same keys and payloads, in memory or in files.
fn filled(dir: &std::path::Path, in_files: bool) -> (Engine, Tree, RowTree) {
    let options = Options { memtable_bytes: 128 << 20, ..Options::default() };
    let engine = Engine::open(dir, options).unwrap();
    let (plain, rows) = (engine.tree("plain").unwrap(), engine.row_tree("rows").unwrap());
    for first in (0..ROWS).step_by(usize::try_from(ROWS_PER_TXN).unwrap()) {
        let mut txn = engine.begin(Isolation::ReadCommitted).unwrap();
        for number in first..first + ROWS_PER_TXN {
            plain.put(&key(number), &[7; 100]).unwrap();
            txn.put(&rows, &key(number), &[7; 100]).unwrap();
        }
        txn.commit(Durability::Process).unwrap();
    }
    if in_files {
        engine.vacuum().unwrap();
    }
    (engine, plain, rows)
}

fn scan_plain(tree: &Tree) -> usize {
    let mut cursor = tree.scan::<&[u8]>(..).unwrap();
    let mut bytes = 0;
    while let Some((key, value)) = cursor.next_row().unwrap() {
        bytes += key.len() + value.len();
    }
    bytes
}

fn scan_rows(engine: &Engine, tree: &RowTree) -> usize {
    let mut txn = engine.begin(Isolation::RepeatableRead).unwrap();
    let mut cursor = txn.scan::<&[u8]>(tree, ..).unwrap();
    let mut bytes = 0;
    while let Some((key, value)) = cursor.next_row().unwrap() {
        bytes += key.len() + value.len();
    }
    bytes
}

fn visibility(c: &mut Criterion) {
    for (place, in_files) in [("named-in-memory", false), ("frozen-in-files", true)] {
        let dir = tempfile::tempdir().unwrap();
        let (engine, plain, rows) = filled(dir.path(), in_files);
        let expected = usize::try_from(ROWS).unwrap() * 116;
        assert_eq!((scan_plain(&plain), scan_rows(&engine, &rows)), (expected, expected));
        let mut group = c.benchmark_group(format!("visibility/{place}"));
        group.sample_size(20).throughput(Throughput::Elements(ROWS));
        group.bench_function("scan/plain", |b| b.iter(|| black_box(scan_plain(&plain))));
        group.bench_function("scan/rows", |b| b.iter(|| black_box(scan_rows(&engine, &rows))));
        group.sample_size(50).throughput(Throughput::Elements(1));
        let mut at = 0;
        group.bench_function("get/plain", |b| {
            b.iter(|| {
                at += 1;
                black_box(plain.get(&key(mix(at) % ROWS)).unwrap().unwrap());
            });
        });
        let mut txn = engine.begin(Isolation::RepeatableRead).unwrap();
        group.bench_function("get/rows", |b| {
            b.iter(|| {
                at += 1;
                black_box(txn.get(&rows, &key(mix(at) % ROWS)).unwrap().unwrap());
            });
        });
        group.finish();
    }
}

criterion_group!(benches, visibility);
criterion_main!(benches);
