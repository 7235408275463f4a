use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Order of the list: key ascending, trailer descending.
type Place = (Vec<u8>, cmp::Reverse<Trailer>);
type Model = BTreeMap<Place, Vec<u8>>;

fn list(bytes: usize) -> Skiplist {
    let mut layout = Layout::new();
    let parts = Skiplist::reserve(&mut layout, "test", bytes);
    Skiplist::new(&Region::anonymous(&layout).unwrap(), parts)
}

fn put(list: &Skiplist, height: u8, key: &[u8], trailer: u64, value: &[u8], splice: &mut Splice) {
    let mut room = list.reserve_space(entry_size(key.len(), value.len(), height)).unwrap();
    list.insert(&mut room, height, key, Trailer(trailer), value, splice);
}

/// Order on every level, levels nested in each other, hints before their nodes. Returns the entries in order.
fn check(list: &Skiplist) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let level_nodes = |level: usize| {
        let mut nodes = Vec::new();
        let mut link = list.link(HEAD, level).load(Ordering::Acquire);
        while node_of(link) != 0 {
            let node = node_of(link);
            assert_eq!(link, list.target(list.key(node), Trailer(0)).link_to(node), "fingerprint in the link");
            nodes.push(node);
            link = list.link(node, level).load(Ordering::Acquire);
        }
        nodes
    };
    let all = level_nodes(0);
    let entries: Vec<_> = all.iter().map(|&node| list.entry(node)).collect();
    for pair in entries.windows(2) {
        let [a, b] = pair else { unreachable!() };
        assert!(compare((a.key, a.trailer), (b.key, b.trailer)).is_lt(), "level 0 rises");
    }
    let place: std::collections::HashMap<u32, usize> = all.iter().enumerate().map(|(at, &node)| (node, at)).collect();
    for (at, &node) in all.iter().enumerate() {
        let hint = list.arena.half(node + PREVIOUS).load(Ordering::Acquire);
        assert!(hint == HEAD || place[&hint] < at, "hint before its node");
        let tail = list.arena.half(node + TAIL).load(Ordering::Acquire);
        assert!(tail == 0 || (place[&tail] > at && list.key(tail) == list.key(node)), "tail behind its node");
    }
    for level in 1..HEIGHT_MAX {
        let places: Vec<_> = level_nodes(level).iter().map(|node| place[node]).collect();
        assert!(places.windows(2).all(|w| w[0] < w[1]), "level {level} rises");
    }
    entries.iter().map(|e| (e.key.to_vec(), e.trailer.0, e.value.to_vec())).collect()
}

fn flat(model: &Model) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    model.iter().map(|((key, trailer), value)| (key.clone(), trailer.0.0, value.clone())).collect()
}

/// Keys of few bytes, so that prefixes of each other, ties of fingerprints and repeats are frequent.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(0xFF)];
    prop_oneof![
        prop::collection::vec(byte, 0..8),
        (0u32..50).prop_map(|n| [b"aa\0\0", n.to_be_bytes().as_slice()].concat()),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn at<'a>(iter: &Iter<'a>) -> Option<(&'a [u8], Trailer)> {
    iter.valid().then(|| (iter.key(), iter.trailer()))
}

fn at_model<'a>(entry: Option<(&'a Place, &Vec<u8>)>) -> Option<(&'a [u8], Trailer)> {
    entry.map(|((key, trailer), _)| (key.as_slice(), trailer.0))
}

/// What a list may be told to expect: ascending, none the beginning of another, also where they are cut off.
fn prefixes() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::btree_set(keys(), 0..6).prop_map(|sorted| {
        let mut out: Vec<Vec<u8>> = Vec::new();
        for mut prefix in sorted {
            prefix.truncate(fingerprint::PREFIX_LEN_MAX);
            if out.last().is_none_or(|last| !prefix.starts_with(last)) {
                out.push(prefix);
            }
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_sorted_map(
        prefixes in prop_oneof![Just(vec![]), Just(vec![b"a".to_vec()]), Just(vec![b"aa\0\0".to_vec()]), prefixes()],
        entries in prop::collection::vec((keys(), 1u64..6, 0usize..3, 1u8..=6), 0..200),
        probes in prop::collection::vec((keys(), 0u64..7), 0..60),
    ) {
        let list = list(64 << 10);
        list.reset(&prefixes);
        let mut model = Model::new();
        let mut splices = [Splice::default(), Splice::default(), Splice::default()];
        for (key, trailer, lane, height) in &entries {
            let value = format!("{key:?}@{trailer}").into_bytes();
            put(&list, *height, key, *trailer, &value, &mut splices[*lane]);
            model.insert((key.clone(), cmp::Reverse(Trailer(*trailer))), value);
        }
        prop_assert_eq!(check(&list), flat(&model));
        prop_assert_eq!(list.entries(), model.len() as u64);
        for (key, bound) in &probes {
            let from = (key.clone(), cmp::Reverse(Trailer(*bound)));
            let want = model.range(&from..).next().filter(|((k, _), _)| k == key);
            let got = list.get(key, Trailer(*bound));
            prop_assert_eq!(got.map(|e| (e.trailer, e.value)), want.map(|((_, t), v)| (t.0, v.as_slice())));

            let mut iter = list.iter();
            iter.seek(key, Trailer(*bound));
            prop_assert_eq!(at(&iter), at_model(model.range(&from..).next()));
            let mut again = list.iter();
            again.restore(iter.position());
            prop_assert_eq!(at(&again), at(&iter));
            iter.seek_before(key, Trailer(*bound));
            prop_assert_eq!(at(&iter), at_model(model.range(..&from).next_back()));
            iter.seek_for_prev(key, Trailer(*bound));
            prop_assert_eq!(at(&iter), at_model(model.range(..=&from).next_back()));
            iter.prev();
            prop_assert_eq!(at(&iter), at_model(model.range(..=&from).rev().nth(1)));
        }
        let mut backwards = Vec::new();
        let mut iter = list.iter();
        iter.last();
        while iter.valid() {
            let entry = iter.entry();
            backwards.push((entry.key.to_vec(), entry.trailer.0, iter.value().to_vec()));
            iter.prev();
        }
        backwards.reverse();
        prop_assert_eq!(backwards, flat(&model));
    }

    #[test]
    fn fingerprints_follow_the_order(prefixes in prefixes(), a in (keys(), 0usize..8), b in (keys(), 0usize..8)) {
        let list = list(4096);
        list.reset(&prefixes);
        let join = |(key, at): (Vec<u8>, usize)| [prefixes.get(at).map_or(&[][..], Vec::as_slice), &key].concat();
        let (a, b) = (join(a), join(b));
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        prop_assert!(list.fingerprints.of(&low) <= list.fingerprints.of(&high));
    }
}

#[test]
fn fingerprints_tell_keys_of_expected_prefixes_apart() {
    let list = list(4096);
    let prefixes: Vec<_> =
        (0..fingerprint::PREFIXES_MAX as u32 + 1).map(|tree| [&b"tree "[..], &tree.to_be_bytes()].concat()).collect();
    list.reset(&prefixes);
    let last = fingerprint::PREFIXES_MAX - 1;
    for prefix in &prefixes[..=last] {
        let rows =
            (0..1000u32).map(|row| list.fingerprints.of(&[prefix.as_slice(), &(row << 12).to_be_bytes()].concat()));
        assert_eq!(rows.collect::<std::collections::BTreeSet<_>>().len(), 1000);
    }
    assert_eq!(list.fingerprints.of(&prefixes[last + 1]), u32::MAX, "one too many");
    assert_eq!(list.fingerprints.of(b"tree"), 0);
}

/// A list of rows with many versions, each put beside the one before it, is as one whose versions were searched for; also when several
/// threads add versions of the same rows.
#[test]
fn newer_versions_are_put_beside_older_ones() {
    const ROWS: u64 = 50;
    let (list, plain) = (list(4 << 20), list(4 << 20));
    let mut splice = Splice::default();
    let key = |row: u64| row.to_be_bytes();
    let newest: Vec<_> = (0..ROWS).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
    for row in 0..ROWS {
        let mut room = list.reserve_space(entry_size(8, 4, 3)).unwrap();
        let place = list.insert(&mut room, 3, &key(row), Trailer(1), b"root", &mut splice);
        newest[row as usize].store(place, Ordering::SeqCst);
    }
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (list, newest) = (&list, &newest);
            scope.spawn(move || {
                let mut splice = Splice::default();
                for at in 0..4000u64 {
                    let (row, trailer) = (mixed(at) % ROWS, Trailer(2 + at * 4 + thread));
                    let before = newest[row as usize].load(Ordering::SeqCst);
                    let mut room = list.reserve_space(entry_size(8, 4, 2)).unwrap();
                    let place = list
                        .insert_newer(&mut room, before, &key(row), trailer, b"next")
                        .unwrap_or_else(|| list.insert(&mut room, 2, &key(row), trailer, b"next", &mut splice));
                    assert_eq!(
                        list.insert_newer(&mut room, before, &key(row), trailer, b"next").unwrap_or(place),
                        place
                    );
                    newest[row as usize].store(place, Ordering::SeqCst);
                }
            });
        }
    });
    for row in 0..ROWS {
        put(&plain, 1, &key(row), 1, b"root", &mut splice);
    }
    for (at, thread) in (0..4000u64).flat_map(|at| (0..4).map(move |thread| (at, thread))) {
        put(&plain, 1, &key(mixed(at) % ROWS), 2 + at * 4 + thread, b"next", &mut splice);
    }
    assert_eq!(check(&list), check(&plain));
    assert_eq!(list.entries(), plain.entries());
    for row in 0..ROWS {
        let place = newest[row as usize].load(Ordering::SeqCst);
        for bound in [u64::MAX, 9000, 100, 1] {
            let found = plain.get(&key(row), Trailer(bound));
            assert_eq!(list.get(&key(row), Trailer(bound)), found);
            if list.relation(place, &key(row), Trailer(bound)) == Relation::AsNew {
                assert_eq!(list.get_from(place, &key(row), Trailer(bound)), found);
            }
        }
    }
}

#[test]
fn heights_thin_out_by_half() {
    let mut counts = [0u32; HEIGHT_MAX + 1];
    (0..1 << 20).for_each(|index| counts[usize::from(height(3, index))] += 1);
    assert_eq!(counts[0], 0);
    for pair in counts[1..12].windows(2) {
        let ratio = f64::from(pair[0]) / f64::from(pair[1]);
        assert!((1.8..2.2).contains(&ratio), "{counts:?}");
    }
    assert_eq!(height(7, 1 << 40), height(7, 1 << 40));
}

#[test]
fn a_zeroed_list_is_empty_and_a_reset_one_again() {
    let list = list(4096);
    let mut splice = Splice::default();
    for round in 0..3 {
        assert!(list.get(b"k", Trailer::MAX).is_none());
        let mut iter = list.iter();
        iter.first();
        assert!(!iter.valid());
        iter.last();
        assert!(!iter.valid());
        assert_eq!((list.entries(), list.used()), (0, 0));
        for n in 0..20u8 {
            put(&list, height(round, u64::from(n)), &[n], 1, b"value", &mut splice);
        }
        assert_eq!(check(&list).len(), 20);
        assert!(list.used() > 0 && list.used() <= list.capacity());
        list.reset(&[b"\x01"]);
    }
}

#[test]
fn a_full_list_refuses_space_and_keeps_what_it_has() {
    let list = list(4096);
    let size = entry_size(1, 8, 1);
    let count = list.capacity() / size;
    for n in 0..count {
        put(&list, 1, &[n as u8], n as u64, &[1; 8], &mut Splice::default());
    }
    assert!(list.reserve_space(size).is_none());
    assert_eq!(check(&list).len(), count);
}

#[test]
fn a_batch_shares_a_reservation_and_repeats_take_no_space() {
    let list = list(4096);
    let mut splice = Splice::default();
    let size = entry_size(3, 2, 2);
    let mut room = list.reserve_space(2 * size).unwrap();
    for value in [b"v1", b"v2", b"v3"] {
        list.insert(&mut room, 2, b"key", Trailer(9), value, &mut splice);
    }
    assert_eq!(room.remaining(), size);
    list.insert(&mut room, 2, b"kez", Trailer(9), b"v4", &mut splice);
    assert_eq!((room.remaining(), list.entries()), (0, 2));
    assert_eq!(list.get(b"key", Trailer(9)).unwrap().value, b"v1");
    assert!(list.get(b"key", Trailer(8)).is_none());
}

#[test]
#[should_panic(expected = "an entry beyond its reservation")]
fn an_entry_must_fit_its_reservation() {
    let list = list(4096);
    let mut room = list.reserve_space(8).unwrap();
    list.insert(&mut room, 1, b"key", Trailer(1), b"value", &mut Splice::default());
}

#[test]
fn versions_are_passed_in_one_step() {
    let list = list(64 << 10);
    let mut splice = Splice::default();
    // Neighbours whose fingerprints are the same, and a version that comes late.
    for (key, trailer) in [(&b"aaaa1"[..], 1), (b"aaaa3", 1), (b"aaaa2", 1), (b"aaaa2", 0)] {
        put(&list, 1, key, trailer, b"", &mut splice);
    }
    for trailer in 2..100 {
        put(&list, height(5, trailer), b"aaaa2", trailer, b"", &mut splice);
    }
    let mut iter = list.iter();
    iter.first();
    let mut seen = Vec::new();
    while iter.valid() {
        seen.push((iter.key().to_vec(), iter.trailer().0));
        iter.pass_versions();
    }
    let all = [(b"aaaa1".to_vec(), 1), (b"aaaa2".to_vec(), 99), (b"aaaa2".to_vec(), 0), (b"aaaa3".to_vec(), 1)];
    assert_eq!(seen, all, "the one that came late follows on its own");
}

#[test]
fn splices_do_not_leak_between_lists() {
    let (one, two) = (list(4096), list(4096));
    let mut splice = Splice::default();
    for n in 0..20u8 {
        put(if n % 3 == 0 { &one } else { &two }, height(0, u64::from(n)), &[n], 1, b"", &mut splice);
    }
    assert_eq!((check(&one).len(), check(&two).len()), (7, 13));
}

fn mixed(n: u64) -> u64 {
    let bits = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

/// Threads insert their own keys, one of them also keys that all others insert, while readers walk both ways.
fn insert_together(common: &[u8], key_of: impl Fn(u64, u64) -> [u8; 16] + Sync) {
    const THREADS: u64 = 4;
    const EACH: u64 = 5000;
    let list = list(8 << 20);
    list.reset(&[common]);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (list, key_of, done) = (&list, &key_of, &done);
            scope.spawn(move || {
                let mut splice = Splice::default();
                for n in 0..EACH {
                    let mut key = key_of(thread, n);
                    put(list, height(thread, n), &key, 1, &key, &mut splice);
                    if n % 4 == 0 {
                        // The same entry from every thread: exactly one may stay.
                        key = [0x33; 16];
                        key[..8].copy_from_slice(&mixed(n).to_be_bytes());
                        put(list, height(9, n), &key, 2, &key, &mut splice);
                    }
                    assert!(list.get(&key, Trailer::MAX).is_some());
                }
                done.fetch_add(1, Ordering::Release);
            });
        }
        for backwards in [false, true] {
            let (list, done) = (&list, &done);
            scope.spawn(move || {
                let mut last_count = 0;
                while done.load(Ordering::Acquire) < THREADS {
                    let mut iter = list.iter();
                    if backwards {
                        iter.last()
                    } else {
                        iter.first()
                    };
                    let mut count = 0u64;
                    while iter.valid() {
                        let entry = iter.entry();
                        assert_eq!(entry.key, entry.value);
                        if backwards {
                            iter.prev()
                        } else {
                            iter.next()
                        };
                        if iter.valid() {
                            let rises = compare((entry.key, entry.trailer), (iter.key(), iter.trailer())).is_lt();
                            assert_eq!(rises, !backwards);
                        }
                        count += 1;
                    }
                    assert!(count >= last_count, "entries never go away");
                    last_count = count;
                }
            });
        }
    });
    let entries = check(&list);
    assert_eq!(entries.len() as u64, THREADS * EACH + EACH / 4);
    assert_eq!(list.entries(), entries.len() as u64);
}

#[test]
fn threads_insert_random_keys_together() {
    insert_together(b"", |thread, n| {
        let mut key = [thread as u8; 16];
        key[..8].copy_from_slice(&mixed(n * 4 + thread + 1).to_be_bytes());
        key
    });
}

#[test]
fn threads_insert_neighbouring_sequences_together() {
    // All threads append to one region of the key space, so that their splices go stale all the time.
    insert_together(&[0; 4], |thread, n| {
        let mut key = [thread as u8; 16];
        key[..8].copy_from_slice(&n.to_be_bytes());
        key
    });
}

#[test]
fn threads_insert_falling_sequences_with_equal_fingerprints() {
    insert_together(b"", |thread, n| {
        let mut key = [thread as u8; 16];
        key[..8].copy_from_slice(&(5000 - n).to_be_bytes());
        key
    });
}

#[cfg(feature = "shuttle")]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::mem::sync::model;

    /// Every thread inserts its entries, each of (key, trailer, height), in order through one splice.
    fn model_of(iterations: usize, threads: &'static [&'static [(u8, u64, u8)]]) {
        model::check(iterations, move || {
            let list = Arc::new(list(4096));
            let running: Vec<_> = threads
                .iter()
                .map(|entries| {
                    let list = list.clone();
                    shuttle::thread::spawn(move || {
                        let mut splice = Splice::default();
                        for &(key, trailer, height) in *entries {
                            put(&list, height, &[key], trailer, &[key], &mut splice);
                            assert_eq!(list.get(&[key], Trailer(trailer)).unwrap().trailer, Trailer(trailer));
                        }
                    })
                })
                .collect();
            let mut iter = list.iter();
            iter.last();
            while iter.valid() {
                let entry = iter.entry();
                assert_eq!(entry.key, entry.value);
                iter.prev();
                assert!(!iter.valid() || compare((iter.key(), iter.trailer()), (entry.key, entry.trailer)).is_lt());
            }
            running.into_iter().for_each(|t| t.join().unwrap());
            let mut want: Vec<_> =
                threads.concat().iter().map(|&(key, trailer, _)| (key, cmp::Reverse(trailer))).collect();
            want.sort_unstable();
            want.dedup();
            let got: Vec<_> = check(&list).iter().map(|(key, trailer, _)| (key[0], cmp::Reverse(*trailer))).collect();
            assert_eq!(got, want);
            assert_eq!(list.entries(), want.len() as u64);
        });
    }

    /// Two threads put versions beside the first one of a key, and a third puts another key before it.
    #[test]
    fn beside_one_version() {
        model::check(1500, || {
            let list = Arc::new(list(4096));
            let mut room = list.reserve_space(entry_size(1, 1, 2)).unwrap();
            let first = list.insert(&mut room, 2, &[5], Trailer(1), &[5], &mut Splice::default());
            let beside = |trailers: &'static [u64]| {
                let list = Arc::clone(&list);
                shuttle::thread::spawn(move || {
                    for &trailer in trailers {
                        let mut room = list.reserve_space(entry_size(1, 1, 1)).unwrap();
                        assert!(list.insert_newer(&mut room, first, &[5], Trailer(trailer), &[5]).is_some());
                        assert_eq!(list.get(&[5], Trailer(trailer)).unwrap().trailer, Trailer(trailer));
                    }
                })
            };
            let mut running = vec![beside(&[2, 4]), beside(&[3, 2])];
            let before = Arc::clone(&list);
            running.push(shuttle::thread::spawn(move || put(&before, 1, &[4], 1, &[4], &mut Splice::default())));
            running.into_iter().for_each(|thread| thread.join().unwrap());
            let got: Vec<_> = check(&list).iter().map(|(key, trailer, _)| (key[0], *trailer)).collect();
            assert_eq!(got, [(4, 1), (5, 4), (5, 3), (5, 2), (5, 1)]);
            assert_eq!(list.entries(), 5);
        });
    }

    #[test]
    fn neighbours() {
        model_of(1500, &[&[(1, 1, 2), (3, 1, 3), (5, 1, 1)], &[(2, 1, 3), (4, 1, 2)]]);
    }

    #[test]
    fn equal_entries_and_versions() {
        model_of(1500, &[&[(1, 1, 2), (2, 1, 2)], &[(1, 1, 3), (1, 2, 1)], &[(2, 1, 1)]]);
    }

    #[test]
    fn falling_and_rising() {
        model_of(1500, &[&[(6, 1, 2), (4, 1, 2), (2, 1, 2)], &[(1, 1, 2), (3, 1, 2), (5, 1, 2)]]);
    }
}
