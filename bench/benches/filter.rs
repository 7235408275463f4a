//! What the Bloom filter saves: point reads of keys that are not there, and of keys that are, with and without filters, on a
//! cached tree of several sorted runs.
#![expect(clippy::unwrap_used, reason = "a bench stops where it fails")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ssd_bench::random::mix;
use ssd_engine::{Engine, Options, Tree};

const ROWS: u64 = 400_000;
/// Flushed files that a read may have to look into beside the rest.
const FLUSHES: u64 = 3;

/// Rows have the even numbers.
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"user000000000000";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn filled(dir: &std::path::Path, bits: u8) -> (Engine, Tree) {
    let options = Options { filter_bits_per_key: bits, ..Options::default() };
    let engine = Engine::open(dir, options).unwrap();
    let tree = engine.tree("rows").unwrap();
    for number in 0..ROWS {
        tree.put(&key(2 * number), &[7; 100]).unwrap();
    }
    engine.compact().unwrap();
    for flush in 0..FLUSHES {
        for number in (flush..ROWS).step_by(50) {
            tree.put(&key(2 * number), &[7; 100]).unwrap();
        }
        engine.flush().unwrap();
    }
    (engine, tree)
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("filter");
    for (name, bits) in [("10-bits", 10), ("none", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let (_engine, tree) = filled(dir.path(), bits);
        let mut value = Vec::new();
        for number in 0..ROWS {
            value.clear();
            assert!(tree.get_into(&key(2 * number), &mut value).unwrap());
        }
        for (what, odd) in [("absent", 1), ("present", 0)] {
            let mut at = 0;
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter(|| {
                    at += 1;
                    value.clear();
                    black_box(tree.get_into(&key(2 * (mix(at) % ROWS) + odd), &mut value).unwrap());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
