use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::format::version_edit::samples::{any_key, file};

fn check(mut keys: Vec<Vec<u8>>, probes: &[Vec<u8>]) {
    keys.sort();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let index = KeyIndex::build(&keys);
    for probe in probes.iter().map(Vec::as_slice).chain(keys.iter().copied()) {
        let want = keys.partition_point(|key| *key < probe);
        assert_eq!(index.lower_bound(probe, |at| keys[at]), want, "{probe:?} in {keys:?}");
    }
}

#[test]
fn keys_that_agree_for_long_become_nodes() {
    let key = |tail: &str| [&b"https://example.org/a/very/long/path/"[..], tail.as_bytes()].concat();
    let mut keys: Vec<_> = (0..500).map(|n| key(&format!("shelf-{:03}/item-{n:06}", n / 10))).collect();
    keys.extend((0..50).map(|n| format!("mailto:{n}").into_bytes()));
    keys.sort();
    let full: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let index = KeyIndex::build(&full);
    assert!(index.nodes.len() > 1 && index.nodes[0].pieces.len() == 550);
    let compared = std::cell::Cell::new(0);
    for (at, key) in full.iter().enumerate() {
        let found = index.lower_bound(key, |at| {
            compared.set(compared.get() + 1);
            full[at]
        });
        assert_eq!(found, at);
    }
    assert!(compared.get() <= 2 * full.len(), "{} whole keys compared", compared.get());
    check(keys.clone(), &[key(""), key("z"), b"https".to_vec(), b"zz".to_vec(), vec![]]);
}

#[test]
fn keys_that_each_branch_off_later_stay_small() {
    let keys: Vec<_> = (0..2000).map(|len| vec![7; 8 * len]).collect();
    let full: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let pieces: usize = KeyIndex::build(&full).nodes.iter().map(|node| node.pieces.len()).sum();
    assert!(pieces <= 2000 * PIECES_PER_KEY_MAX, "{pieces} pieces");
    check(keys, &[vec![7; 9999], vec![6; 9999], vec![8]]);
}

#[test]
fn no_keys_are_found_at_zero() {
    assert_eq!(KeyIndex::build(&[]).lower_bound(b"a", |_| b""), 0);
    assert_eq!(KeyIndex::default().lower_bound(b"a", |_| b""), 0);
    assert_eq!(Spans::default().candidates(b"a").count(), 0);
}

proptest! {
    #[test]
    fn search_agrees_with_whole_keys(keys in vec(any_key(), 0..40), probes in vec(any_key(), 1..20)) {
        check(keys, &probes);
    }

    #[test]
    fn search_agrees_behind_a_shared_prefix(
        keys in vec((0..3usize, any_key()), 0..40),
        probes in vec((0..4usize, any_key()), 1..20),
    ) {
        let heads: [&[u8]; 4] = [b"shared/by-all/one", b"shared/by-all/two/and-longer", b"shared/by-all/two", b"sh"];
        let glue = |(head, tail): (usize, Vec<u8>)| [heads[head], &tail].concat();
        let probes: Vec<_> = probes.into_iter().map(glue).collect();
        check(keys.into_iter().map(glue).collect(), &probes);
    }

    #[test]
    fn spans_rule_out_no_file_that_covers(
        bounds in vec((any_key(), any_key()), 0..10),
        probes in vec(any_key(), 1..20),
        shared in any_key(),
    ) {
        let glue = |key: &[u8]| [&shared, key].concat();
        let files: Vec<_> = bounds.iter().enumerate().map(|(at, (a, b))| {
            Arc::new(file(at as u64, &glue(a.min(b)), &glue(a.max(b)), (1, 2)))
        }).collect();
        let spans = Spans::build(&files);
        for probe in probes.iter().flat_map(|probe| [probe.clone(), glue(probe)]) {
            let candidates: Vec<_> = spans.candidates(&probe).collect();
            prop_assert!(candidates.is_sorted());
            for (at, file) in files.iter().enumerate() {
                prop_assert!(!file.covers(&probe) || candidates.contains(&at));
            }
        }
    }
}
