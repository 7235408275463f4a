//! SSTs written and read back in the simulated world: against a model, damaged, cut off, with faults.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::base::checksum::key_hash;
use crate::base::ids::{FileNumber, SeqNo, TxnId};
use crate::base::key::{Kind, Trailer, compare};
use crate::cache::{BlockCache, CacheOptions, Policy};
use crate::env::fault::FaultKind;
use crate::env::memory::MemoryEnv;
use crate::env::{Env, IoOp};
use crate::error::Class;
use crate::mem::aligned::AlignedBuf;

type Entry = (Vec<u8>, Trailer, Vec<u8>);

const PATH: &str = "/db/000007.sst";

fn options() -> SstOptions {
    SstOptions { block_bytes: 4096, write_chunk_bytes: 8192, ..SstOptions::default() }
}

fn cache(frames: usize) -> BlockCache {
    let options = CacheOptions { bytes: frames * 4096, frame_bytes: 4096, policy: Policy::Clock };
    BlockCache::private(&options).unwrap()
}

fn world() -> (Arc<MemoryEnv>, Arc<dyn Env>) {
    let memory = MemoryEnv::new(1);
    let env: Arc<dyn Env> = memory.clone();
    env.create_dir(Path::new("/db")).unwrap();
    (memory, env)
}

fn write(env: &Arc<dyn Env>, options: SstOptions, entries: &[Entry]) -> SstSummary {
    let mut writer = SstWriter::new(env, Path::new(PATH), FileNumber(7), options).unwrap();
    for (key, trailer, value) in entries {
        writer.add(key, *trailer, value).unwrap();
    }
    writer.finish().unwrap()
}

fn open(env: &Arc<dyn Env>) -> Arc<SstReader> {
    Arc::new(SstReader::open(env, Path::new(PATH), FileNumber(7), true).unwrap())
}

fn put(seqno: u64) -> Trailer {
    Trailer::new(SeqNo(seqno), Kind::Put)
}

/// `count` keys with values that do not compress, and several versions of every tenth key.
fn many(count: u64, value_len: usize) -> Vec<Entry> {
    let mut out = Vec::new();
    for number in 0..count {
        let key = format!("\x01\x01key{:010}", number * 2).into_bytes();
        for version in (0..if number % 10 == 0 { 4 } else { 1 }).rev() {
            let value = (0..value_len).map(|at| (key_hash(&[number as u8, version as u8, at as u8]) >> 7) as u8);
            out.push((key.clone(), put(100 + version), value.collect()));
        }
    }
    out
}

fn at(iter: &SstIter<'_>) -> Option<Entry> {
    iter.valid().then(|| (iter.key().to_vec(), iter.trailer(), iter.value().to_vec()))
}

fn get(reader: &SstReader, cache: &BlockCache, key: &[u8], bound: Trailer) -> Option<(Trailer, Vec<u8>)> {
    let mut found = b"before".to_vec();
    let trailer = reader.get(cache, key, key_hash(key), bound, &mut found).unwrap();
    trailer.map(|trailer| (trailer, found.split_off(6)))
}

fn sst_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0u8)], 1..10),
        2 => vec(any::<u8>(), 1..40),
        1 => (any::<u8>(), 200usize..3000).prop_map(|(b, len)| vec![b; len]),
    ]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let value = prop_oneof![8 => vec(any::<u8>(), 0..100), 1 => vec(any::<u8>(), 1000..9000)];
    let version = (0u64..50, prop_oneof![9 => Just(Kind::Put), 1 => Just(Kind::Delete)], value);
    btree_map(sst_key(), vec(version, 1..20), 1..60).prop_map(|map: BTreeMap<_, _>| {
        let mut out = Vec::new();
        for (key, mut versions) in map {
            versions.sort_by_key(|v| std::cmp::Reverse(v.0));
            versions.dedup_by_key(|v| v.0);
            out.extend(versions.into_iter().map(|(s, k, v)| (key.clone(), Trailer::new(SeqNo(s), k), v)));
        }
        out
    })
}

fn drawn_options() -> impl Strategy<Value = SstOptions> {
    (any::<bool>(), any::<bool>(), prop_oneof![Just(0u8), Just(10)], 1usize..20).prop_map(
        |(compress, hash_index, bits_per_key, restart_interval)| SstOptions {
            compress,
            hash_index,
            bits_per_key,
            restart_interval,
            ..options()
        },
    )
}

fn check_lookups(reader: &SstReader, cache: &BlockCache, entries: &[Entry], key: &[u8], bound: Trailer) {
    let first = entries.partition_point(|e| compare((&e.0, e.1), (key, bound)).is_lt());
    let value = |e: &Entry| if e.1.kind() == Some(Kind::Put) { e.2.clone() } else { vec![] };
    let want = entries.get(first).filter(|e| e.0 == key).map(|e| (e.1, value(e)));
    assert_eq!(get(reader, cache, key, bound), want);

    let mut found = Vec::new();
    let located = reader.locate(cache, key, key_hash(key), bound, &mut found).unwrap();
    let located = match located {
        Located::Absent => None,
        Located::Cached(trailer) => Some(trailer),
        Located::Block(handle) => {
            let IoOp::Read { file, offset, mut buf } = reader.read_op(&handle, AlignedBuf::zeroed(0)) else {
                panic!("not a read")
            };
            file.read_at(&mut buf, offset).unwrap();
            reader.get_in_block(cache, &handle, &buf, key, key_hash(key), bound, &mut found).unwrap()
        }
    };
    assert_eq!(located.map(|trailer| (trailer, found)), want);
}

fn check_seeks<'c>(iter: &mut SstIter<'c>, cache: &'c BlockCache, entries: &[Entry], key: &[u8], bound: Trailer) {
    let first = entries.partition_point(|e| compare((&e.0, e.1), (key, bound)).is_lt());
    iter.seek(cache, key, bound).unwrap();
    for place in first..first + 3 {
        assert_eq!(at(iter), entries.get(place).cloned());
        iter.next(cache).unwrap();
    }
    let behind = entries.partition_point(|e| compare((&e.0, e.1), (key, bound)).is_le());
    iter.seek_for_prev(cache, key, bound).unwrap();
    for back in 1..4 {
        assert_eq!(at(iter), behind.checked_sub(back).map(|place| entries[place].clone()));
        iter.prev(cache).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn files_hold_what_was_put_in(
        entries in entries(), options in drawn_options(), others in vec(sst_key(), 10), bound in 0u64..50, frames in 0usize..8,
    ) {
        let (_, env) = world();
        let summary = write(&env, options, &entries);
        let (reader, cache) = (open(&env), cache(frames));
        reader.verify(&mut |_| {}).unwrap();
        prop_assert_eq!(summary.size, reader.file_len());
        prop_assert_eq!((summary.entries, summary.smallest), (entries.len() as u64, entries[0].0.clone()));
        prop_assert_eq!(summary.largest, entries[entries.len() - 1].0.clone());
        for (at_end, mode) in [ReadAhead::Auto, ReadAhead::FillCache, ReadAhead::of_merge(1)].into_iter().enumerate() {
            // What somebody does not want is not read ahead, but there when he wants it all the same.
            let until = others.get(at_end).map(|key| Arc::from(&key[..]));
            let mut iter = SstIter::new(Arc::clone(&reader), mode).until(until);
            iter.first(&cache).unwrap();
            for entry in &entries {
                prop_assert_eq!(at(&iter), Some(entry.clone()));
                iter.next(&cache).unwrap();
            }
            prop_assert!(!iter.valid());
            iter.next(&cache).unwrap();
            prop_assert!(!iter.valid());
            iter.last(&cache).unwrap();
            for entry in entries.iter().rev() {
                prop_assert_eq!(at(&iter), Some(entry.clone()));
                iter.prev(&cache).unwrap();
            }
            prop_assert!(!iter.valid());
            iter.first(&cache).unwrap();
            for entry in &entries {
                // The iterator may be compared while it is parked, and its block may be gone by the time it goes on.
                iter = iter.park();
                prop_assert_eq!((iter.key(), iter.trailer()), (&entry.0[..], entry.1));
                cache.erase_file(FileNumber(7));
                iter.attach(&cache).unwrap();
                prop_assert_eq!(iter.value(), &entry.2[..]);
                iter.next(&cache).unwrap();
            }
            for key in others.iter().chain(entries.iter().step_by(7).map(|e| &e.0)) {
                check_seeks(&mut iter, &cache, &entries, key, Trailer::seek(SeqNo(bound)));
                check_seeks(&mut iter, &cache, &entries, key, Trailer(0));
            }
        }
        for key in others.iter().chain(entries.iter().map(|e| &e.0)) {
            check_lookups(&reader, &cache, &entries, key, Trailer::seek(SeqNo(bound)));
            check_lookups(&reader, &cache, &entries, key, Trailer::MAX);
        }
    }
}

#[test]
fn large_files_have_several_partitions_and_chunks() {
    let entries = many(60_000, 100);
    let (_, env) = world();
    let written = SstOptions { compress: false, write_chunk_bytes: 1 << 20, ..options() };
    let summary = write(&env, written, &entries);
    assert_eq!(summary.entries, entries.len() as u64);
    let (reader, cache) = (open(&env), cache(64));
    assert!(reader.partition_starts.len() > 5, "{}", reader.partition_starts.len());
    let mut checked = 0;
    reader.verify(&mut |bytes| checked = bytes).unwrap();
    assert_eq!(checked, summary.size);
    for mode in [ReadAhead::Auto, ReadAhead::FillCache, ReadAhead::of_merge(1)] {
        let mut iter = SstIter::new(Arc::clone(&reader), mode);
        iter.first(&cache).unwrap();
        for entry in &entries {
            assert!(iter.valid() && iter.key() == entry.0 && iter.value() == entry.2, "{mode:?}");
            iter.next(&cache).unwrap();
        }
        assert!(!iter.valid());
        // A seek in the middle of reading ahead makes what is in flight pointless.
        for place in [40_000, 100, 70_000, 69_990, 5] {
            let entry = &entries[place];
            iter.seek(&cache, &entry.0, entry.1).unwrap();
            for entry in &entries[place..place + 300] {
                assert_eq!(at(&iter).as_ref(), Some(entry));
                iter.next(&cache).unwrap();
            }
        }
    }
    let mut last = 0;
    for entry in entries.iter().step_by(1000) {
        let (rough, exact) = (reader.approximate_offset(&entry.0), reader.block_offset(&cache, &entry.0).unwrap());
        assert!(rough <= exact && exact >= last);
        last = exact;
    }
    assert_eq!(reader.approximate_offset(b"\xFF"), reader.properties().data_end);
}

#[test]
fn scans_leave_the_cache_to_others() {
    let entries = many(20_000, 100);
    let (_, env) = world();
    write(&env, options(), &entries);
    let (reader, cache) = (open(&env), cache(512));
    let mut iter = SstIter::new(reader, ReadAhead::Auto);
    iter.first(&cache).unwrap();
    while iter.valid() {
        iter.next(&cache).unwrap();
    }
    // The windows of the beginning pass through the cache, the stream after them does not.
    let data = cache.stats().data;
    assert_eq!(data.hits, 0);
    assert!((1..200).contains(&data.misses), "{} of some 500 blocks", data.misses);
}

#[test]
fn versions_of_one_key_may_straddle_blocks() {
    let mut entries = vec![(b"a".to_vec(), put(1), vec![])];
    entries.extend((0..3000).rev().map(|s| (b"hot".to_vec(), put(s), s.to_le_bytes().to_vec())));
    entries.push((b"hotter".to_vec(), put(1), vec![]));
    let (_, env) = world();
    write(&env, options(), &entries);
    let (reader, cache) = (open(&env), cache(32));
    reader.verify(&mut |_| {}).unwrap();
    for seqno in 0..3000u64 {
        let got = get(&reader, &cache, b"hot", Trailer::seek(SeqNo(seqno)));
        assert_eq!(got, Some((put(seqno), seqno.to_le_bytes().to_vec())));
    }
    assert_eq!(get(&reader, &cache, b"hot", Trailer(0)), None);
}

#[test]
fn jumbo_entries_pass() {
    let large = vec![0xAB; 3 << 20];
    let entries = [
        (b"a".to_vec(), put(3), b"small".to_vec()),
        (vec![b'b'; 16 << 10], put(2), large.clone()),
        (b"c".to_vec(), put(9), b"small".to_vec()),
    ];
    let (_, env) = world();
    let mut noise = entries.clone();
    for (at, byte) in noise[1].2.iter_mut().enumerate() {
        *byte = (key_hash(&(at as u64).to_le_bytes()) >> 9) as u8;
    }
    for entries in [&entries, &noise] {
        write(&env, options(), entries);
        let (reader, cache) = (open(&env), cache(32));
        reader.verify(&mut |_| {}).unwrap();
        for mode in [ReadAhead::Auto, ReadAhead::FillCache, ReadAhead::of_merge(1)] {
            let mut iter = SstIter::new(Arc::clone(&reader), mode);
            iter.first(&cache).unwrap();
            for entry in entries {
                assert!(at(&iter).as_ref() == Some(entry));
                iter.next(&cache).unwrap();
            }
        }
        assert!(get(&reader, &cache, &entries[1].0, Trailer::MAX) == Some((put(2), entries[1].2.clone())));
        env.remove(Path::new(PATH)).unwrap();
    }
}

#[test]
fn new_blocks_go_to_the_cache_while_there_is_room() {
    let entries = many(3000, 100);
    let (_, env) = world();
    let cache = cache(512);
    let mut writer = SstWriter::new(&env, Path::new(PATH), FileNumber(7), options()).unwrap();
    writer.fill_cache(&cache, CacheFill::Room);
    entries.iter().for_each(|(key, trailer, value)| writer.add(key, *trailer, value).unwrap());
    writer.finish().unwrap();
    assert!(cache.has_room());
    let reader = open(&env);
    for (key, trailer, value) in &entries {
        assert_eq!(get(&reader, &cache, key, *trailer).as_ref(), Some(&(*trailer, value.clone())));
    }
    assert_eq!(cache.stats().total().misses, 0, "all was there: data, index and filter");
}

#[test]
fn new_blocks_inherit_the_places_of_those_they_replace() {
    let entries = many(3000, 100);
    let (_, env) = world();
    let cache = cache(8);
    let mut writer = SstWriter::new(&env, Path::new(PATH), FileNumber(7), options()).unwrap();
    writer.fill_cache(&cache, CacheFill::Inherited);
    for (place, (key, trailer, value)) in entries.iter().enumerate() {
        writer.add(key, *trailer, value).unwrap();
        if place >= entries.len() - 100 {
            writer.note_cached();
        }
    }
    writer.finish().unwrap();
    let reader = open(&env);
    let misses_of = |entry: &Entry| {
        let before = cache.stats().data.misses;
        assert!(get(&reader, &cache, &entry.0, entry.1).is_some());
        cache.stats().data.misses - before
    };
    assert_eq!(misses_of(&entries[entries.len() - 1]), 0);
    assert_eq!(misses_of(&entries[0]), 1);
}

#[test]
fn range_tombstones_widen_the_file() {
    let (_, env) = world();
    let mut writer = SstWriter::new(&env, Path::new(PATH), FileNumber(7), options()).unwrap();
    writer.add_range_delete(b"k", b"p", SeqNo(50)).unwrap();
    writer.add(b"m", put(60), b"alive").unwrap();
    writer.add_range_delete(b"b", b"c", SeqNo(2)).unwrap();
    assert_eq!(writer.add_range_delete(b"c", b"c", SeqNo(2)).unwrap_err().class(), Class::Usage);
    [9, 8, 12, 10].map(TxnId).into_iter().for_each(|txn| writer.note_unfrozen(txn));
    let summary = writer.finish().unwrap();
    assert_eq!((&summary.smallest[..], &summary.largest[..], summary.largest_exclusive), (&b"b"[..], &b"p"[..], true));
    assert_eq!((summary.smallest_seqno, summary.largest_seqno), (SeqNo(2), SeqNo(60)));
    assert_eq!((summary.entries, summary.range_deletes), (1, 2));
    let reader = open(&env);
    reader.verify(&mut |_| {}).unwrap();
    assert_eq!(reader.range_tombstones().covering_seqno(b"m", SeqNo(60)), Some(SeqNo(50)));
    assert_eq!(reader.range_tombstones().covering_seqno(b"p", SeqNo(60)), None);
    assert_eq!((reader.properties().unfrozen_min, reader.properties().unfrozen_max), (8, 12));
}

#[test]
fn long_footers_take_a_second_read() {
    let (_, env) = world();
    let mut writer = SstWriter::new(&env, Path::new(PATH), FileNumber(7), options()).unwrap();
    let bound = |number: u32| [&[1; 40][..], &number.to_be_bytes()].concat();
    for number in 0..2000 {
        writer.add_range_delete(&bound(number), &bound(number + 1), SeqNo(u64::from(number))).unwrap();
    }
    assert!(writer.finish().unwrap().size > 100_000);
    let reader = open(&env);
    reader.verify(&mut |_| {}).unwrap();
    assert_eq!(reader.range_tombstones().covering_seqno(&bound(1500), SeqNo::MAX), Some(SeqNo(1500)));
}

#[test]
fn files_of_tombstones_alone_and_of_nothing_open() {
    let (_, env) = world();
    for tombstones in [1, 0] {
        let mut writer = SstWriter::new(&env, Path::new(PATH), FileNumber(7), options()).unwrap();
        for _ in 0..tombstones {
            writer.add_range_delete(b"k", b"p", SeqNo(50)).unwrap();
        }
        writer.finish().unwrap();
        let (reader, cache) = (open(&env), cache(4));
        reader.verify(&mut |_| {}).unwrap();
        assert_eq!(get(&reader, &cache, b"k", Trailer::MAX), None);
        let mut iter = SstIter::new(reader, ReadAhead::Auto);
        iter.first(&cache).unwrap();
        iter.last(&cache).unwrap();
        iter.seek(&cache, b"k", Trailer::MAX).unwrap();
        iter.seek_for_prev(&cache, b"k", Trailer::MAX).unwrap();
        assert!(!iter.valid());
        env.remove(Path::new(PATH)).unwrap();
    }
}

#[test]
fn every_bit_is_covered() {
    let (memory, env) = world();
    write(&env, options(), &many(100, 30));
    let len = open(&env).file_len();
    let path = Path::new(PATH);
    for bit in (0..len * 8).step_by(11) {
        assert!(memory.flip_bit(path, bit));
        let opened = SstReader::open(&env, path, FileNumber(7), true);
        let error = opened.and_then(|reader| reader.verify(&mut |_| {})).expect_err("a flipped bit goes unnoticed");
        assert_eq!(error.class(), Class::Corruption, "{error}");
        assert!(error.to_string().contains(PATH));
        memory.flip_bit(path, bit);
    }
    open(&env).verify(&mut |_| {}).unwrap();
}

#[test]
fn cut_files_are_refused() {
    let (memory, env) = world();
    write(&env, options(), &many(100, 30));
    let path = Path::new(PATH);
    let bytes = memory.read_file(path).unwrap();
    for len in (0..bytes.len()).step_by(97).chain((0..bytes.len()).step_by(4096)) {
        memory.write_file(path, &bytes[..len]);
        let error = SstReader::open(&env, path, FileNumber(7), true).err().unwrap();
        assert_eq!(error.class(), Class::Corruption);
    }
}

#[test]
fn failures_of_the_device_come_back() {
    let entries = many(2000, 50);
    for nth in 0..200 {
        let (memory, env) = world();
        memory.faults().fail_at(nth, FaultKind::Eio);
        let written = (|| {
            let mut writer = SstWriter::new(&env, Path::new(PATH), FileNumber(7), options())?;
            for (key, trailer, value) in &entries {
                writer.add(key, *trailer, value)?;
            }
            writer.finish()
        })();
        let cache = cache(8);
        let outcome = written.and_then(|_| {
            let reader = Arc::new(SstReader::open(&env, Path::new(PATH), FileNumber(7), true)?);
            let mut iter = SstIter::new(reader, ReadAhead::of_merge(20));
            iter.first(&cache)?;
            let mut count = 0;
            while iter.valid() {
                count += 1;
                iter.next(&cache)?;
            }
            assert_eq!(count, entries.len());
            Ok(())
        });
        match outcome {
            Err(error) => assert_eq!(error.class(), Class::Io, "{error}"),
            // The fault was beyond the last operation.
            Ok(()) => {
                assert!(nth > 10);
                return;
            }
        }
    }
    panic!("the work has no end");
}

#[test]
fn abandoned_files_vanish() {
    let (memory, env) = world();
    let mut writer = SstWriter::new(&env, Path::new(PATH), FileNumber(7), options()).unwrap();
    for (key, trailer, value) in many(2000, 50) {
        writer.add(&key, trailer, &value).unwrap();
    }
    assert!(writer.estimated_size() > 50_000);
    writer.abandon().unwrap();
    assert!(memory.files().is_empty());
}

#[test]
fn wrong_options_are_refused() {
    let (_, env) = world();
    for wrong in [
        SstOptions { block_bytes: 1000, ..options() },
        SstOptions { restart_interval: 0, ..options() },
        SstOptions { bits_per_key: 99, ..options() },
    ] {
        let refused = SstWriter::new(&env, Path::new(PATH), FileNumber(7), wrong).err().unwrap();
        assert_eq!(refused.class(), Class::Usage);
        assert!(!refused.hint().is_empty());
    }
}
