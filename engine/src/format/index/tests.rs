//! Index blocks against a sorted model, damaged blocks, golden bytes.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::format::golden;
use crate::fuzz::index::fuzz_index;

fn handle(at: usize) -> BlockHandle {
    let stored_len = 5000 + at as u32 * 7;
    BlockHandle { offset: at as u64 * 100_000, stored_len, raw_len: stored_len - 9 + (at as u32 % 3) * 1000 }
}

fn build(entries: &[(Vec<u8>, Trailer)]) -> Vec<u8> {
    let mut builder = IndexBuilder::new(usize::MAX);
    for (at, (key, trailer)) in entries.iter().enumerate() {
        assert!(builder.add(key, *trailer, handle(at)));
        assert_eq!(builder.last(), Some((key.as_slice(), *trailer)));
    }
    let size = builder.size();
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert_eq!(out.len(), size);
    assert!(builder.is_empty());
    out
}

/// Keys whose heads collide and whose zeros are easily confused with padding.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let letters = || prop_oneof![4 => Just(0u8), 1 => Just(1u8), 1 => Just(255u8)];
    prop_oneof![vec(letters(), 0..14), vec(letters(), 0..5).prop_map(|v| [&b"prefix"[..], &v].concat())]
}

proptest! {
    #[test]
    fn searches_find_what_the_model_finds(
        set in btree_set((key(), 0u64..3), 1..60), others in vec(key(), 30), prefix in vec(any::<u8>(), 0..4),
    ) {
        let with = |key: &[u8]| [prefix.as_slice(), key].concat();
        let mut entries: Vec<_> = set.into_iter().map(|(k, t)| (with(&k), Trailer(t))).collect();
        entries.sort_by(|a, b| crate::base::key::compare((&a.0, a.1), (&b.0, b.1)));
        let payload = build(&entries);
        let index = IndexBlock::parse(&payload).unwrap();
        index.check().unwrap();
        let mut separator = Vec::new();
        for (at, (key, trailer)) in entries.iter().enumerate() {
            prop_assert_eq!(index.handle(at), Ok(handle(at)));
            prop_assert_eq!(index.separator(at, &mut separator), Ok(*trailer));
            prop_assert_eq!(&separator, key);
        }
        let near = entries.iter().map(|e| e.0.clone());
        for key in others.iter().map(|k| with(k)).chain(others.clone()).chain(near) {
            for bound in [0, 1, 2, u64::MAX].map(Trailer) {
                let want = entries
                    .partition_point(|e| crate::base::key::compare((&e.0, e.1), (&key, bound)).is_lt());
                prop_assert_eq!(index.search(&key, bound), Ok(want), "{:?} {:?}", key, bound);
            }
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        fuzz_index(&bytes);
    }
}

#[test]
fn partitions_stop_at_their_limit() {
    let mut builder = IndexBuilder::new(4096);
    let mut count = 0;
    while builder.add(format!("some prefix {count:08}").as_bytes(), Trailer(0), handle(count)) {
        count += 1;
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert!((4096 - 40..=4096).contains(&out.len()), "{}", out.len());
    assert!(builder.add(&[1; 10_000], Trailer(0), handle(0)), "a single entry may be longer");
    assert!(!builder.add(&[2; 10_000], Trailer(0), handle(0)));
}

#[test]
fn golden_bytes() {
    let keys = [&b"\x01\x01ab"[..], b"\x01\x01abcdefghijk", b"\x01\x01b"];
    let entries: Vec<_> = keys.iter().enumerate().map(|(at, key)| (key.to_vec(), Trailer(at as u64 * 300))).collect();
    let payload = build(&entries);
    golden::check(include_str!("../testdata/index.hex"), &payload);
    golden::damage(&[&[3, 1, 1, b'a'], payload.as_slice()].concat(), fuzz_index);
}
