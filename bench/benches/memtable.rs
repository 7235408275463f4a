//! The memtable's skip list against crossbeam-skiplist: inserts and lookups of 16-byte keys and 100-byte values.
#![expect(clippy::unwrap_used, reason = "a bench stops where it fails")]

use std::cmp::Reverse;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use crossbeam_skiplist::SkipMap;
use ssd_bench::random::mix;
use ssd_engine::base::ids::SeqNo;
use ssd_engine::base::key::{Kind, Trailer};
use ssd_engine::mem::region::{Layout, Region};
use ssd_engine::mem::skiplist::{Skiplist, Splice, entry_size, height};

const ENTRIES: usize = 600_000;
const VALUE: [u8; 100] = [7; 100];
/// Inserts that share a reservation, as the entries of a small batch do.
const BATCH: usize = 1;

type Key = [u8; 16];

/// Keys in the order in which they are inserted, and the string that the memtable was told they share.
struct Workload {
    name: &'static str,
    keys: Vec<Key>,
    common: &'static [u8],
    /// Differs from another workload only in `common`, which means nothing to the other list.
    only_ours: bool,
}

/// As db_bench writes them: the number, big-endian, then zeros as text.
fn numbered(number: u64) -> Key {
    let mut key = *b"0000000000000000";
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

fn workloads() -> Vec<Workload> {
    let numbers = 0..ENTRIES as u64;
    let random = |n: u64| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&mix(n + 1).to_be_bytes());
        key[8..].copy_from_slice(&mix(n + 99).to_be_bytes());
        key
    };
    let mut shuffled: Vec<u64> = numbers.clone().collect();
    shuffled.sort_unstable_by_key(|&n| mix(n + 7));
    let shuffled: Vec<Key> = shuffled.into_iter().map(numbered).collect();
    vec![
        Workload { name: "random", keys: numbers.clone().map(random).collect(), common: b"", only_ours: false },
        Workload { name: "sequential", keys: numbers.map(numbered).collect(), common: &[0; 4], only_ours: false },
        Workload { name: "numbers", keys: shuffled.clone(), common: &[0; 4], only_ours: false },
        Workload { name: "numbers, common unknown", keys: shuffled, common: b"", only_ours: true },
    ]
}

trait Memtable: Sync {
    fn new(common: &[u8]) -> Self;
    fn insert_all(&self, keys: &[Key], first: usize);
    fn get(&self, key: &Key) -> usize;
}

struct Ours(Skiplist);

impl Memtable for Ours {
    fn new(common: &[u8]) -> Self {
        let mut layout = Layout::new();
        let parts = Skiplist::reserve(&mut layout, "bench", ENTRIES * 192);
        let list = Skiplist::new(&Region::anonymous(&layout).unwrap(), parts);
        list.reset(&[common]);
        Self(list)
    }

    fn insert_all(&self, keys: &[Key], first: usize) {
        let mut splice = Splice::default();
        for (batch, keys) in keys.chunks(BATCH).enumerate() {
            let at = first + batch * BATCH;
            let heights = (at as u64..).map(|index| height(1, index));
            let bytes = keys.iter().zip(heights.clone()).map(|(key, h)| entry_size(key.len(), VALUE.len(), h)).sum();
            let mut room = self.0.reserve_space(bytes).unwrap();
            for ((key, h), seqno) in keys.iter().zip(heights).zip(at as u64..) {
                self.0.insert(&mut room, h, key, Trailer::new(SeqNo(seqno), Kind::Put), &VALUE, &mut splice);
            }
        }
    }

    fn get(&self, key: &Key) -> usize {
        self.0.get(key, Trailer::MAX).unwrap().value.len()
    }
}

/// The key as a memtable of this kind would hold it: owned bytes and the trailer, newest first.
type TheirKey = (Box<[u8]>, Reverse<Trailer>);

struct Theirs(SkipMap<TheirKey, Box<[u8]>>);

impl Memtable for Theirs {
    fn new(_common: &[u8]) -> Self {
        Self(SkipMap::new())
    }

    fn insert_all(&self, keys: &[Key], first: usize) {
        for (key, seqno) in keys.iter().zip(first as u64..) {
            let trailer = Trailer::new(SeqNo(seqno), Kind::Put);
            self.0.insert((Box::from(key.as_slice()), Reverse(trailer)), Box::from(VALUE.as_slice()));
        }
    }

    fn get(&self, key: &Key) -> usize {
        // The bound must own its key here: some tens of nanoseconds of the microseconds that the search takes.
        let from = (Box::from(key.as_slice()), Reverse(Trailer::MAX));
        let entry = self.0.lower_bound(std::ops::Bound::Included(&from)).unwrap();
        assert_eq!(*entry.key().0, *key);
        entry.value().len()
    }
}

/// Runs `work` on `threads` equal parts of the keys at once; the time until all are done.
fn spread(keys: &[Key], threads: usize, work: impl Fn(&[Key], usize) + Sync) -> Duration {
    let part = keys.len() / threads;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 1..threads {
            let work = &work;
            scope.spawn(move || work(&keys[thread * part..(thread + 1) * part], thread * part));
        }
        work(&keys[..part], 0);
    });
    start.elapsed()
}

fn bench_insert<M: Memtable>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, workload: &Workload) {
    for threads in [1, 2] {
        group.bench_function(format!("{name}/{}/{threads} threads", workload.name), |bench| {
            bench.iter_custom(|rounds| {
                let mut time = Duration::ZERO;
                for _ in 0..rounds {
                    let table = M::new(workload.common);
                    time += spread(&workload.keys, threads, |keys, first| table.insert_all(keys, first));
                }
                time
            });
        });
    }
}

fn bench_get<M: Memtable>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, workload: &Workload) {
    let table = M::new(workload.common);
    table.insert_all(&workload.keys, 0);
    let mut wanted = workload.keys.clone();
    wanted.sort_unstable_by_key(|key| mix(u64::from_be_bytes(*key.first_chunk().unwrap()) ^ 0x5555));
    for threads in [1, 2] {
        group.bench_function(format!("{name}/{}/{threads} threads", workload.name), |bench| {
            bench.iter_custom(|rounds| {
                let get = |keys: &[Key], _| keys.iter().for_each(|key| _ = black_box(table.get(key)));
                (0..rounds).map(|_| spread(&wanted, threads, get)).sum()
            });
        });
    }
}

/// A round takes about a second, so a sample is one of them.
fn sampled<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Elements(ENTRIES as u64));
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(2));
    group
}

fn memtable(criterion: &mut Criterion) {
    let workloads = workloads();
    let mut group = sampled(criterion, "insert");
    for workload in &workloads {
        bench_insert::<Ours>(&mut group, "ours", workload);
        if !workload.only_ours {
            bench_insert::<Theirs>(&mut group, "crossbeam", workload);
        }
    }
    group.finish();
    let mut group = sampled(criterion, "get");
    for workload in &workloads {
        bench_get::<Ours>(&mut group, "ours", workload);
        if !workload.only_ours {
            bench_get::<Theirs>(&mut group, "crossbeam", workload);
        }
    }
    group.finish();
}

criterion_group!(benches, memtable);
criterion_main!(benches);
