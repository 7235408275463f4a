//! The cache as a whole. Every block's bytes follow from its key, so a frame that holds another block shows.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::error::Error;

const FRAME: usize = 4096;
const POLICIES: [Policy; 2] = [Policy::Clock, Policy::Lru];

fn cache(frames: usize, policy: Policy) -> BlockCache {
    BlockCache::private(&CacheOptions { bytes: frames * FRAME, frame_bytes: FRAME, policy }).unwrap()
}

fn key(file: u64, offset: u64) -> BlockKey {
    BlockKey { file: FileNumber(file), offset }
}

fn seed(key: BlockKey) -> u64 {
    (key.file.0 << 32 ^ key.offset).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn block_len(key: BlockKey) -> usize {
    8 + (seed(key) >> 40) as usize % (FRAME - 8) / 8 * 8
}

fn fill(key: BlockKey, bytes: &mut [u8]) -> usize {
    let len = block_len(key);
    bytes.fill(0xEE);
    for (place, word) in bytes[..len].chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(seed(key) + place as u64).to_le_bytes());
    }
    len
}

fn check(key: BlockKey, bytes: &[u8]) {
    assert_eq!(bytes.len(), block_len(key), "length of {key:?}");
    for (place, word) in bytes.chunks_exact(8).enumerate() {
        assert_eq!(word, (seed(key) + place as u64).to_le_bytes(), "word {place} of {key:?}");
    }
}

fn load(cache: &BlockCache, key: BlockKey, kind: BlockKind) -> Option<Frame<'_>> {
    let frame = cache.get_or_load(key, kind, &mut |bytes| Ok(fill(key, bytes))).unwrap();
    frame.inspect(|frame| check(key, frame))
}

fn is_cached(cache: &BlockCache, key: BlockKey) -> bool {
    cache.get(key, BlockKind::Data).inspect(|frame| check(key, frame)).is_some()
}

fn occupied(cache: &BlockCache) -> u64 {
    let is_full = |&frame: &u32| matches!(cache.frames.state(frame), State::Visible | State::Invisible);
    (0..cache.frames.count() as u32).filter(is_full).count() as u64
}

fn broken_disk() -> Error {
    Error::io(Path::new("1.sst"), "read", std::io::Error::other("broken disk"))
}

#[test]
fn loads_once_and_hits_after() {
    for policy in POLICIES {
        let cache = cache(4, policy);
        assert_eq!(cache.frame_len(), FRAME);
        assert!(cache.get(key(1, 0), BlockKind::Index).is_none());
        drop(load(&cache, key(1, 0), BlockKind::Index).unwrap());
        let again = cache.get_or_load(key(1, 0), BlockKind::Index, &mut |_| panic!("it is cached")).unwrap().unwrap();
        check(key(1, 0), &again);
        check(key(1, 0), &cache.get(key(1, 0), BlockKind::Index).unwrap());
        let expect = KindStats { hits: 2, misses: 2, inserts: 1, evictions: 0, no_frame: 0 };
        assert_eq!(cache.stats(), CacheStats { index: expect, ..CacheStats::default() });
        assert!((cache.stats().total().hit_rate() - 0.5).abs() < 1e-9);
    }
}

#[test]
fn without_frames_nothing_is_cached() {
    for policy in POLICIES {
        let cache = cache(0, policy);
        assert!(load(&cache, key(1, 0), BlockKind::Data).is_none());
        assert!(cache.get(key(1, 0), BlockKind::Data).is_none());
        cache.erase_file(FileNumber(1));
        assert_eq!((cache.frame_len(), cache.stats().data.no_frame), (FRAME, 1));
    }
}

#[test]
fn handles_on_one_region_share_the_blocks() {
    let mut layout = Layout::new();
    let options = CacheOptions { bytes: 8 * FRAME, frame_bytes: FRAME, policy: Policy::Clock };
    let parts = BlockCache::reserve(&mut layout, &options);
    let region = Region::inherited(&layout).unwrap();
    let (one, other) = (BlockCache::new(&region, parts), BlockCache::new(&region, parts));
    drop(load(&one, key(3, 8), BlockKind::Data));
    drop(region);
    assert!(is_cached(&other, key(3, 8)));
    drop(one);
    assert_eq!(other.stats().data.hits, 1);
}

#[test]
fn concurrent_callers_share_one_load() {
    const CALLERS: u64 = 4;
    for policy in POLICIES {
        let cache = cache(4, policy);
        let (loads, key) = (AtomicU64::new(0), key(1, 4096));
        thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let mut load = |bytes: &mut [u8]| {
                        loads.fetch_add(1, Ordering::Relaxed);
                        // Everybody has looked and missed before the load ends.
                        while cache.stats().data.misses < CALLERS {
                            thread::yield_now();
                        }
                        Ok(fill(key, bytes))
                    };
                    let frame = cache.get_or_load(key, BlockKind::Data, &mut load).unwrap().unwrap();
                    check(key, &frame);
                });
            }
        });
        assert_eq!((loads.into_inner(), cache.stats().data.inserts), (1, 1));
    }
}

#[test]
fn a_failed_load_frees_the_frame_and_waiters_retry() {
    for policy in POLICIES {
        let cache = cache(1, policy);
        let (loads, key) = (AtomicU64::new(0), key(1, 0));
        thread::scope(|scope| {
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut load = |bytes: &mut [u8]| match loads.fetch_add(1, Ordering::Relaxed) {
                            0 => {
                                while cache.stats().data.misses < 3 {
                                    thread::yield_now();
                                }
                                Err(broken_disk())
                            }
                            _ => Ok(fill(key, bytes)),
                        };
                        let result = cache.get_or_load(key, BlockKind::Data, &mut load);
                        // No frame: the only one was another caller's at that moment.
                        result.map(|frame| frame.iter().for_each(|frame| check(key, frame))).is_err()
                    })
                })
                .collect();
            let failed = callers.into_iter().map(|caller| caller.join().unwrap());
            assert_eq!(failed.filter(|&failed| failed).count(), 1);
        });
        assert_eq!(loads.into_inner(), 2);
    }
}

#[test]
fn a_panic_in_a_load_leaks_nothing() {
    for policy in POLICIES {
        let cache = cache(1, policy);
        for len in [None, Some(FRAME + 1)] {
            let mut load = |_: &mut [u8]| Ok(len.expect("the loader's own panic"));
            let result =
                catch_unwind(AssertUnwindSafe(|| cache.get_or_load(key(1, 0), BlockKind::Data, &mut load).is_ok()));
            assert!(result.is_err());
            assert!(!is_cached(&cache, key(1, 0)));
        }
        assert!(load(&cache, key(1, 0), BlockKind::Data).is_some());
        assert_eq!(cache.stats().data.inserts, 1);
    }
}

#[test]
fn pinned_blocks_stay() {
    for policy in POLICIES {
        let cache = cache(3, policy);
        let mut pinned: Vec<_> =
            (0..3).map(|n| (key(1, n), load(&cache, key(1, n), BlockKind::Data).unwrap())).collect();
        assert!(load(&cache, key(2, 0), BlockKind::Data).is_none());
        assert_eq!(cache.stats().data.no_frame, 1);
        pinned.remove(1);
        for n in 0..20 {
            assert!(load(&cache, key(2, n), BlockKind::Data).is_some());
            pinned.iter().for_each(|(key, frame)| check(*key, frame));
        }
        assert!(!is_cached(&cache, key(1, 1)));
        assert_eq!(cache.stats().data.evictions, 20);
    }
}

#[test]
fn a_load_may_look_up_other_blocks_and_gets_none_for_its_own() {
    let cache = cache(4, Policy::Clock);
    let mut outer = |bytes: &mut [u8]| {
        assert!(load(&cache, key(2, 0), BlockKind::Index).is_some());
        assert!(load(&cache, key(1, 0), BlockKind::Data).is_none());
        Ok(fill(key(1, 0), bytes))
    };
    check(key(1, 0), &cache.get_or_load(key(1, 0), BlockKind::Data, &mut outer).unwrap().unwrap());
}

#[test]
fn index_and_filter_blocks_outlive_data() {
    let cache = cache(64, Policy::Clock);
    for n in 0..8 {
        drop(load(&cache, key(1, n), BlockKind::Index));
        drop(load(&cache, key(2, n), BlockKind::Filter));
    }
    (0..48).for_each(|n| drop(load(&cache, key(3, n), BlockKind::Data)));
    // Room for 48 new blocks: the data makes it, although it is younger.
    (0..48).for_each(|n| drop(load(&cache, key(4, n), BlockKind::Data)));
    let stats = cache.stats();
    assert_eq!((stats.index.evictions, stats.filter.evictions, stats.data.evictions), (0, 0, 48));
    // Unused for long they go as well.
    (0..500).for_each(|n| drop(load(&cache, key(5, n), BlockKind::Data)));
    assert_eq!(cache.stats().index.evictions, 8);
}

#[test]
fn a_scan_does_not_push_used_blocks_out() {
    let cache = cache(64, Policy::Clock);
    let hot = |n: u64| key(1, n);
    (0..32).for_each(|n| drop(load(&cache, hot(n), BlockKind::Data)));
    for n in 0..2000 {
        drop(load(&cache, key(2, n), BlockKind::Data));
        assert!(is_cached(&cache, hot(n % 32)), "after {n} blocks of the scan");
    }
}

#[test]
fn the_lru_drops_the_least_recent() {
    let cache = cache(4, Policy::Lru);
    (0..4).for_each(|n| drop(load(&cache, key(1, n), BlockKind::Data)));
    assert!(is_cached(&cache, key(1, 0)));
    drop(load(&cache, key(2, 0), BlockKind::Data));
    drop(load(&cache, key(2, 1), BlockKind::Data));
    let left = (0..4).filter(|&n| is_cached(&cache, key(1, n))).collect::<Vec<_>>();
    assert_eq!(left, [0, 3]);
}

#[test]
fn blocks_of_an_erased_file_go_first() {
    for policy in POLICIES {
        let cache = cache(8, policy);
        for n in 0..4 {
            drop(load(&cache, key(1, n), BlockKind::Index));
            drop(load(&cache, key(2, n), BlockKind::Data));
        }
        let pinned = cache.get(key(1, 0), BlockKind::Index).unwrap();
        cache.erase_file(FileNumber(1));
        assert_eq!(cache.stats().index.evictions, 3, "all but the pinned one");
        assert!((0..4).all(|n| !is_cached(&cache, key(1, n))));
        check(key(1, 0), &pinned);
        if policy == Policy::Clock {
            (0..3).for_each(|n| drop(load(&cache, key(3, n), BlockKind::Index)));
            assert!((0..4).filter(|&n| is_cached(&cache, key(2, n))).count() >= 3, "the free frames were taken");
        }
        check(key(1, 0), &pinned);
        drop(pinned);
        (0..30).for_each(|n| drop(load(&cache, key(4, n), BlockKind::Data)));
        assert_eq!(cache.stats().index.evictions, cache.stats().index.inserts);
    }
}

#[test]
fn frames_of_dead_loaders_are_found() {
    const NO_PROCESS: u32 = 0x3FFF_FFFF;
    for policy in POLICIES {
        let cache = cache(2, policy);
        let die_loading = |key: BlockKey| {
            let owned = cache.claim().unwrap();
            let name = [key.file.0, key.offset];
            let mut filling = cache.enter(owned, name, BlockHash::of(key), BlockKind::Data).ok().unwrap();
            filling.owned.take().unwrap().abandon_as(NO_PROCESS);
        };
        die_loading(key(1, 0));
        assert!(load(&cache, key(1, 0), BlockKind::Data).is_some(), "by one who waits for the block");
        die_loading(key(1, 1));
        die_loading(key(1, 2));
        let both = [load(&cache, key(2, 0), BlockKind::Data), load(&cache, key(2, 1), BlockKind::Data)];
        assert!(both.iter().all(Option::is_some), "by one who needs a frame");
        drop(both);
        assert_eq!(occupied(&cache), 2);
    }
}

/// Threads that look up, load, fail and panic over few frames and many keys. Then nothing may be lost or double.
fn storm(frames: usize, policy: Policy, rounds: u64) {
    const THREADS: u64 = 6;
    let cache = cache(frames, policy);
    let (lookups, loads, barrier) = (AtomicU64::new(0), AtomicU64::new(0), Barrier::new(THREADS as usize));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cache, lookups, loads, barrier) = (&cache, &lookups, &loads, &barrier);
            scope.spawn(move || {
                let mut random = thread.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut held: Option<(BlockKey, Frame<'_>)> = None;
                barrier.wait();
                for round in 0..rounds {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let key = key(random >> 20 & 3, random >> 24 & 7);
                    let kind = [BlockKind::Data, BlockKind::Index, BlockKind::Filter][key.file.0 as usize % 3];
                    let fate = random >> 40 & 63;
                    lookups.fetch_add(1, Ordering::Relaxed);
                    if fate == 0 {
                        cache.erase_file(FileNumber(3));
                    }
                    let mut load = |bytes: &mut [u8]| {
                        let len = fill(key, bytes);
                        match fate {
                            1 => Err(broken_disk()),
                            2 if round % 8 == 0 => std::panic::resume_unwind(Box::new("a loader's panic")),
                            _ => {
                                loads.fetch_add(1, Ordering::Relaxed);
                                Ok(len)
                            }
                        }
                    };
                    let found = match fate {
                        3..16 => cache.get(key, kind),
                        _ => catch_unwind(AssertUnwindSafe(|| cache.get_or_load(key, kind, &mut load)))
                            .map_or(None, |result| result.unwrap_or(None)),
                    };
                    if let Some(frame) = &found {
                        check(key, frame);
                    }
                    if let Some((key, frame)) = &held {
                        check(*key, frame);
                    }
                    match fate & 3 {
                        0 => held = found.map(|frame| (key, frame)),
                        1 => held = None,
                        _ => {}
                    }
                }
            });
        }
    });
    let total = cache.stats().total();
    assert_eq!(total.hits + total.misses, lookups.into_inner());
    assert_eq!(total.inserts, loads.into_inner());
    assert_eq!(total.inserts - total.evictions, occupied(&cache));
    assert!(total.evictions > 0 && total.hits > 0);
    let all: Vec<_> = (0..frames as u64).map(|n| load(&cache, key(9, n), BlockKind::Data)).collect();
    assert!(all.iter().all(Option::is_some), "a frame was lost");
    let entries: usize = cache.table.entries();
    assert_eq!(entries, frames, "the table knows each frame once");
}

#[test]
fn threads_see_the_right_blocks_in_tiny_caches() {
    for policy in POLICIES {
        for frames in [2, 3, 8] {
            storm(frames, policy, 4000);
        }
    }
}

#[test]
fn threads_see_the_right_blocks_in_more_shards() {
    for policy in POLICIES {
        storm(20, policy, 4000);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Load(u64, u64, u8),
    Get(u64, u64),
    Fail(u64, u64),
    Keep(u64, u64),
    Release(usize),
    Erase(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (file, offset) = (0..4u64, 0..6u64);
    let op = prop_oneof![
        6 => (file.clone(), offset.clone(), 0..3u8).prop_map(|(f, o, k)| Op::Load(f, o, k)),
        3 => (file.clone(), offset.clone()).prop_map(|(f, o)| Op::Get(f, o)),
        1 => (file.clone(), offset.clone()).prop_map(|(f, o)| Op::Fail(f, o)),
        2 => (file.clone(), offset).prop_map(|(f, o)| Op::Keep(f, o)),
        2 => (0..4usize).prop_map(Op::Release),
        1 => file.prop_map(Op::Erase),
    ];
    prop::collection::vec(op, 0..200)
}

/// Runs `ops` one after the other. `kept` is the model: what is pinned must be found and unchanged, unless erased.
fn run(cache: &BlockCache, ops: &[Op]) {
    let frames = cache.frames.count();
    let mut kept: HashMap<BlockKey, Vec<Frame<'_>>> = HashMap::new();
    let mut erased = Vec::new();
    for op in ops {
        let pinned: usize = kept.len() + erased.len();
        match *op {
            Op::Load(f, o, kind) => {
                let kind = [BlockKind::Data, BlockKind::Index, BlockKind::Filter][kind as usize];
                let found = load(cache, key(f, o), kind).is_some();
                assert!(found || pinned >= frames, "no frame although one is free");
                assert!(found || !kept.contains_key(&key(f, o)));
            }
            Op::Get(f, o) => assert!(is_cached(cache, key(f, o)) || !kept.contains_key(&key(f, o))),
            Op::Fail(f, o) => {
                let was_cached = is_cached(cache, key(f, o));
                let result = cache.get_or_load(key(f, o), BlockKind::Data, &mut |_| Err(broken_disk()));
                assert_eq!(matches!(result, Ok(Some(_))), was_cached);
                drop(result);
                assert_eq!(is_cached(cache, key(f, o)), was_cached);
            }
            Op::Keep(f, o) => {
                if let Some(frame) = load(cache, key(f, o), BlockKind::Data) {
                    kept.entry(key(f, o)).or_default().push(frame);
                }
            }
            Op::Release(nth) => {
                let key = kept.keys().copied().nth(nth);
                key.and_then(|key| kept.remove(&key));
            }
            Op::Erase(f) => {
                cache.erase_file(FileNumber(f));
                erased.extend(kept.extract_if(|key, _| key.file.0 == f));
            }
        }
        kept.iter().chain(erased.iter().map(|(key, frames)| (key, frames))).for_each(|(key, frames)| {
            frames.iter().for_each(|frame| check(*key, frame));
        });
        let total = cache.stats().total();
        assert_eq!(total.inserts - total.evictions, occupied(cache));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn behaves_like_a_map_that_forgets(frames in 1..8usize, ops in ops()) {
        POLICIES.into_iter().for_each(|policy| run(&cache(frames, policy), &ops));
    }
}

#[cfg(feature = "shuttle")]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::mem::sync::model;

    /// Two frames, three keys, three threads, one of which fails a load and erases: the whole of a miss under every schedule
    /// that the model draws.
    fn misses(policy: Policy) {
        model::check(1500, move || {
            let cache = Arc::new(cache(2, policy));
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let cache = cache.clone();
                    shuttle::thread::spawn(move || {
                        for round in 0..2 {
                            let key = key(1, (thread + round) % 3);
                            if (thread, round) == (2, 0) {
                                let _ = cache.get_or_load(key, BlockKind::Data, &mut |_| Err(broken_disk()));
                                cache.erase_file(FileNumber(1));
                            } else {
                                drop(load(&cache, key, BlockKind::Data));
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let total = cache.stats().total();
            assert_eq!((total.hits + total.misses, total.inserts - total.evictions), (6, occupied(&cache)));
            let both = [load(&cache, key(2, 0), BlockKind::Data), load(&cache, key(2, 1), BlockKind::Data)];
            assert!(both.iter().all(Option::is_some), "a frame was lost");
            assert_eq!(cache.table.entries(), 2);
        });
    }

    #[test]
    fn misses_under_the_clock() {
        misses(Policy::Clock);
    }

    #[test]
    fn misses_under_the_lru() {
        misses(Policy::Lru);
    }

    #[test]
    fn one_load_for_two_callers() {
        model::check(3000, || {
            let cache = Arc::new(cache(2, Policy::Clock));
            let callers = [(), ()].map(|()| {
                let cache = cache.clone();
                shuttle::thread::spawn(move || drop(load(&cache, key(1, 0), BlockKind::Data).unwrap()))
            });
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            assert_eq!(cache.stats().data.inserts, 1);
        });
    }
}
