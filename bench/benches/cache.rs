//! The block cache: what a hit costs with one and two threads, and what each policy makes of skewed misses and scans.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ssd_engine::base::ids::FileNumber;
use ssd_engine::cache::{BlockCache, BlockKey, BlockKind, CacheOptions, Policy};

const FRAME: usize = 4096;
const POLICIES: [(&str, Policy); 2] = [("clock", Policy::Clock), ("lru", Policy::Lru)];

fn cache(frames: usize, policy: Policy) -> BlockCache {
    BlockCache::private(&CacheOptions { bytes: frames * FRAME, frame_bytes: FRAME, policy }).expect("memory is there")
}

fn key(block: u32) -> BlockKey {
    BlockKey { file: FileNumber(u64::from(block >> 12)), offset: u64::from(block & 0xFFF) * 4096 }
}

fn kind(block: u32, index_every: u32) -> BlockKind {
    if index_every != 0 && block.is_multiple_of(index_every) { BlockKind::Index } else { BlockKind::Data }
}

fn look_up(cache: &BlockCache, block: u32, index_every: u32) {
    let mut load = |bytes: &mut [u8]| {
        bytes[0] = block as u8;
        Ok(FRAME)
    };
    let frame = cache.get_or_load(key(block), kind(block, index_every), &mut load).expect("the loader does not fail");
    black_box(frame.map(|frame| frame[0]));
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// `count` draws of blocks 0 to `blocks`, Zipfian with exponent `skew`, hot ones spread over the range.
fn zipf(blocks: u32, skew: f64, count: usize) -> Vec<u32> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=blocks)
        .map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        })
        .collect();
    let mut places: Vec<u32> = (0..blocks).collect();
    for at in (1..places.len()).rev() {
        places.swap(at, random.next() as usize % (at + 1));
    }
    (0..count)
        .map(|_| {
            let point = random.unit() * sum;
            places[sums.partition_point(|&upto| upto < point).min(places.len() - 1)]
        })
        .collect()
}

/// Time of `rounds` hits on each of `threads` threads, all on the blocks `draws`.
fn hits(cache: &BlockCache, draws: &[u32], threads: usize, rounds: u64) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let from = thread * draws.len() / 2;
                let order = draws[from..].iter().chain(&draws[..from]).cycle();
                for &block in order.take(rounds as usize) {
                    black_box(cache.get(key(block), BlockKind::Data).map(|frame| frame[0]));
                }
            });
        }
    });
    start.elapsed()
}

fn bench_hits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache_hit");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for (name, policy) in POLICIES {
        for blocks in [1_u32, 64, 4096] {
            let cache = cache(blocks as usize, policy);
            (0..blocks).for_each(|block| look_up(&cache, block, 0));
            // Both policies keep everything: as many blocks as frames.
            let mut random = Random(7);
            let draws: Vec<u32> = (0..1 << 14).map(|_| random.next() as u32 % blocks).collect();
            for threads in [1, 2] {
                let id = BenchmarkId::new(format!("{name}_{threads}_threads"), blocks);
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|rounds| hits(&cache, &draws, threads, rounds));
                });
            }
        }
    }
    group.finish();
}

fn bench_misses(criterion: &mut Criterion) {
    const FRAMES: usize = 4096;
    let mut group = criterion.benchmark_group("cache_zipf");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for blocks in [8192_u32, 40_960] {
        let draws = zipf(blocks, 0.99, 1 << 20);
        for (name, policy) in POLICIES {
            let cache = cache(FRAMES, policy);
            let mut order = draws.iter().cycle();
            group.bench_function(BenchmarkId::new(name, blocks), |bencher| {
                bencher.iter(|| look_up(&cache, *order.next().expect("it cycles"), 0));
            });
        }
    }
    group.finish();
}

/// Prints hit rates: they are the other half of a policy's cost.
#[expect(clippy::print_stdout, reason = "the result of the bench")]
fn hit_rates(_: &mut Criterion) {
    const FRAMES: usize = 4096;
    println!("\nhit rate, {FRAMES} frames");
    println!("{:>8} {:>6} {:>6} {:>6} | {:>8} {:>8} {:>8}", "blocks", "zipf", "scan", "policy", "all", "data", "index");
    for (blocks, skew) in [(8192, 0.99), (40_960, 0.99), (40_960, 0.8), (40_960, 1.2)] {
        let draws = zipf(blocks, skew, 1 << 20);
        for scan in [0_u32, 25] {
            for (name, policy) in POLICIES {
                let cache = cache(FRAMES, policy);
                let mut scanned = 0;
                let mut skewed = 0;
                let mut found = 0;
                for (at, &block) in draws.iter().enumerate() {
                    // Of 100 lookups `scan` walk through blocks that are read once.
                    if at as u32 % 100 < scan {
                        scanned += 1;
                        look_up(&cache, blocks + scanned, 0);
                        continue;
                    }
                    if at < draws.len() / 4 {
                        look_up(&cache, block, 32);
                        continue;
                    }
                    let before = cache.stats().total().hits;
                    look_up(&cache, block, 32);
                    skewed += 1;
                    found += cache.stats().total().hits - before;
                }
                let (stats, rate) = (cache.stats(), found as f64 / f64::from(skewed));
                let (data, index) = (stats.data.hit_rate(), stats.index.hit_rate());
                println!("{blocks:>8} {skew:>6} {scan:>5}% {name:>6} | {rate:>8.4} {data:>8.4} {index:>8.4}");
            }
        }
    }
}

criterion_group!(benches, bench_hits, bench_misses, hit_rates);
criterion_main!(benches);
