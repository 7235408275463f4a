//! Blocks against a sorted model, damaged blocks, golden bytes.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::builder::BlockBuilder;
use super::iter::{BlockIter, block_get, check_block};
use super::*;
use crate::base::checksum::key_hash;
use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer, compare};
use crate::format::golden;
use crate::fuzz::block::fuzz_block;

type Entries = Vec<(Vec<u8>, Trailer, Vec<u8>)>;

fn build(entries: &Entries, interval: usize, hash_index: bool) -> Vec<u8> {
    let mut builder = BlockBuilder::new(BLOCK_SIZE_MAX, interval, hash_index);
    for (key, trailer, value) in entries {
        assert!(builder.add(key, key_hash(key), *trailer, value));
    }
    let size = builder.size();
    let payload = builder.finish().to_vec();
    assert!(payload.len() <= size, "the size is never underestimated");
    payload
}

/// Keys over a small alphabet, so that prefixes are shared and versions pile up.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0u8)], 0..6), vec(any::<u8>(), 0..300)]
}

fn entries() -> impl Strategy<Value = Entries> {
    let version = (0u64..6, prop_oneof![9 => Just(Kind::Put), 1 => Just(Kind::Delete)], vec(any::<u8>(), 0..20));
    btree_map(key(), vec(version, 1..5), 1..60).prop_map(|map| {
        let mut out = Entries::new();
        for (key, mut versions) in map {
            versions.sort_by_key(|v| std::cmp::Reverse(v.0));
            versions.dedup_by_key(|v| v.0);
            out.extend(versions.into_iter().map(|(s, kind, v)| (key.clone(), Trailer::new(SeqNo(s), kind), v)));
        }
        out
    })
}

fn at(iter: &BlockIter<&[u8]>) -> Option<(Vec<u8>, Trailer, Vec<u8>)> {
    iter.valid().then(|| (iter.key().to_vec(), iter.trailer(), iter.value().to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn blocks_hold_what_was_put_in(entries in entries(), interval in 1usize..20, hash in any::<bool>()) {
        let payload = build(&entries, interval, hash);
        check_block(&payload, key_hash).unwrap();
        let mut iter = BlockIter::new(payload.as_slice()).unwrap();
        prop_assert_eq!(iter.count() as usize, entries.len());
        iter.first().unwrap();
        for entry in &entries {
            prop_assert_eq!(at(&iter), Some(entry.clone()));
            iter.next().unwrap();
        }
        prop_assert!(!iter.valid() && !iter.next().unwrap());
        iter.last().unwrap();
        for entry in entries.iter().rev() {
            prop_assert_eq!(at(&iter), Some(entry.clone()));
            iter.prev().unwrap();
        }
        prop_assert!(!iter.valid() && !iter.prev().unwrap());
    }

    #[test]
    fn searches_find_what_the_model_finds(
        entries in entries(), interval in 1usize..20, hash in any::<bool>(), others in vec(key(), 20), bound in 0u64..7,
    ) {
        let payload = build(&entries, interval, hash);
        let mut iter = BlockIter::new(payload.as_slice()).unwrap();
        let bound = if bound == 6 { Trailer(0) } else { Trailer::seek(SeqNo(bound)) };
        for key in others.iter().chain(entries.iter().map(|e| &e.0)) {
            let first = entries.partition_point(|e| compare((&e.0, e.1), (key, bound)).is_lt());
            iter.seek(key, bound).unwrap();
            prop_assert_eq!(at(&iter), entries.get(first).cloned());
            let got = block_get(&payload, key, key_hash(key), bound).unwrap();
            let want = entries.get(first).filter(|e| e.0 == *key).map(|e| (e.1, e.2.as_slice()));
            prop_assert_eq!(got, want);
            let behind = entries.partition_point(|e| compare((&e.0, e.1), (key, bound)).is_le());
            iter.seek_for_prev(key, bound).unwrap();
            prop_assert_eq!(at(&iter), behind.checked_sub(1).map(|i| entries[i].clone()));
        }
    }

    #[test]
    fn stored_blocks_come_back(raw in vec(prop_oneof![Just(7u8), any::<u8>()], 0..3000), compress in any::<bool>()) {
        let mut stored = vec![1, 2, 3];
        let len = Sealer::new(compress).seal(&raw, BlockType::Index, &mut stored);
        prop_assert_eq!(stored.len(), 3 + len as usize);
        let mut out = vec![0; raw.len() + 5];
        prop_assert_eq!(open(&stored[3..], BlockType::Index, &mut out), Ok(raw.len()));
        prop_assert_eq!(&out[..raw.len()], &raw[..]);
        let mut vec = vec![9; 10];
        Stored::check(&stored[3..], BlockType::Index).unwrap().open_vec(&mut vec).unwrap();
        prop_assert_eq!(&vec, &raw);
        prop_assert!(open(&stored[3..], BlockType::Data, &mut out).is_err());
        prop_assert!(raw.is_empty() || open(&stored[3..], BlockType::Index, &mut out[..raw.len() - 1]).is_err());
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        fuzz_block(&bytes);
    }
}

#[test]
fn compression_is_kept_only_when_it_pays() {
    let mut stored = Vec::new();
    assert!(Sealer::new(true).seal(&[5; 4096], BlockType::Data, &mut stored) < 200);
    let mut noise = vec![0u8; 4096];
    let mut state = 1u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    // A tenth is not enough.
    noise[..300].fill(0);
    stored.clear();
    assert_eq!(Sealer::new(true).seal(&noise, BlockType::Data, &mut stored) as usize, 4096 + STORED_TAIL_LEN);
}

#[test]
fn blocks_stop_at_their_limit() {
    let mut builder = BlockBuilder::new(4096, 16, true);
    let trailer = Trailer::new(SeqNo(0), Kind::Put);
    let mut count = 0u32;
    while builder.add(&count.to_be_bytes(), key_hash(&count.to_be_bytes()), trailer, &[1; 50]) {
        count += 1;
    }
    assert_eq!((builder.count(), builder.last_key()), (count, &(count - 1).to_be_bytes()[..]));
    let len = builder.finish().len();
    assert!((4096 - 70..=4096).contains(&len), "{len}");
    builder.reset();
    assert!(builder.add(b"k", 0, trailer, &[0; 100_000]), "a single entry may be longer");
    assert!(!builder.add(b"l", 0, trailer, b""));
    check_block(builder.finish(), |_| 0).unwrap();
}

#[test]
fn many_restarts_do_without_buckets() {
    let trailer = Trailer::new(SeqNo(0), Kind::Put);
    let entries = (0u32..600).map(|i| (i.to_be_bytes().to_vec(), trailer, vec![])).collect();
    check_block(&build(&entries, 1, true), key_hash).unwrap();
    assert_eq!(build(&entries, 1, true).len(), build(&entries, 1, false).len());
}

fn sample() -> Vec<u8> {
    let mut entries = Entries::new();
    for (key, seqno, kind, value) in [
        (&b"\x01\x01apple"[..], 9, Kind::Put, &b"red"[..]),
        (b"\x01\x01apple", 4, Kind::Delete, b""),
        (b"\x01\x01apricot", 0, Kind::Put, b"orange"),
        (b"\x01\x01banana", 70_000, Kind::Put, b"yellow"),
        (b"\x01\x01bananas", 3, Kind::Put, b""),
        (b"\x01\x02", 1, Kind::Put, b"other tree"),
    ] {
        entries.push((key.to_vec(), Trailer::new(SeqNo(seqno), kind), value.to_vec()));
    }
    build(&entries, 4, true)
}

#[test]
fn golden_bytes() {
    let mut stored = Vec::new();
    Sealer::new(false).seal(&sample(), BlockType::Data, &mut stored);
    golden::check(include_str!("../testdata/block.hex"), &stored);
}

#[test]
fn damaged_blocks_do_no_harm() {
    let sample = sample();
    let with_key = |block: &[u8]| [&[4, 1, 1, b'a', b'p'], block].concat();
    golden::damage(&with_key(&sample), fuzz_block);
    for compress in [false, true] {
        let mut stored = Vec::new();
        Sealer::new(compress).seal(&[sample.as_slice(), &[0; 300]].concat(), BlockType::Data, &mut stored);
        golden::damage(&with_key(&stored), fuzz_block);
        for bit in 0..stored.len() * 8 {
            stored[bit / 8] ^= 1 << (bit % 8);
            assert!(Stored::check(&stored, BlockType::Data).is_err(), "bit {bit} is not covered");
            stored[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
