//! Reports against what was written.

use std::sync::Arc;

use super::*;
use crate::env::memory::MemoryEnv;
use crate::{Engine, Options};

fn engine() -> Engine {
    let options = Options {
        memtable_bytes: 1 << 20,
        memtables: 3,
        cache_bytes: 1 << 20,
        background_threads: 0,
        compress: false,
        disk_reserve_bytes: 0,
        env: Some(MemoryEnv::new(1)),
        ..Options::default()
    };
    Engine::open("db", options).unwrap()
}

/// Two trees in one file, the second three times as large.
fn filled(engine: &Engine) -> (TreeId, TreeId) {
    let (small, large) = (engine.tree("small").unwrap(), engine.tree("large").unwrap());
    for number in 0..1000u32 {
        small.put(&number.to_be_bytes(), &[7; 100]).unwrap();
    }
    for number in 0..3000u32 {
        large.put(&number.to_be_bytes(), &[7; 100]).unwrap();
    }
    (small.id(), large.id())
}

#[test]
fn memory_and_files_of_a_tree_are_told_apart() {
    let engine = engine();
    let (small, large) = filled(&engine);
    let lsm = Arc::clone(engine.lsm());
    let in_memory = lsm.tree_in_memory(small);
    assert_eq!((in_memory.files, in_memory.entries), (1, 1000));
    assert!(in_memory.bytes > 100_000, "{in_memory:?}");
    assert!(lsm.tree_levels(small).unwrap().iter().all(|part| *part == TreePart::default()));

    engine.flush().unwrap();
    assert_eq!(lsm.tree_in_memory(small), TreePart::default());
    let [small, large] = [small, large].map(|tree| lsm.tree_levels(tree).unwrap()[0]);
    assert_eq!((small.files, large.files), (1, 1));
    let total: u64 = lsm.level_stats().unwrap().iter().map(|level| level.bytes).sum();
    // The catalogue's tree may be there, too; each share is rounded down.
    assert!(
        small.bytes + large.bytes <= total && small.bytes + large.bytes > total - total / 10,
        "{small:?} {large:?}"
    );
    let ratio = large.bytes as f64 / small.bytes as f64;
    assert!((2.5..3.5).contains(&ratio), "{ratio}");
    assert!((900..1100).contains(&small.entries) && (2800..3200).contains(&large.entries), "{small:?} {large:?}");
}

#[test]
fn a_tree_is_hot_whose_first_keys_have_many_versions_in_memory() {
    let engine = engine();
    let (few, tree) = (engine.tree("few").unwrap(), engine.tree("hot").unwrap());
    few.put(b"a", b"1").unwrap();
    for version in 0..8u8 {
        assert!(!engine.lsm().begins_hot(tree.id(), 2, 8), "{version} versions");
        for key in [b"a", b"b", b"c"] {
            tree.put(key, &[version]).unwrap();
        }
    }
    tree.put(b"d", b"once").unwrap();
    let is_hot = |keys, versions| engine.lsm().begins_hot(tree.id(), keys, versions);
    assert!(is_hot(2, 8) && is_hot(3, 8) && is_hot(4, 1));
    assert!(!is_hot(4, 8) && !is_hot(2, 9), "the fourth key has one, the others eight");
    assert!(!engine.lsm().begins_hot(few.id(), 2, 2), "the next tree does not count");
    engine.flush().unwrap();
    assert!(!is_hot(1, 1), "only what is in memory");
}

#[test]
fn memtables_and_files_are_listed_as_they_are() {
    let engine = engine();
    filled(&engine);
    let lsm = engine.lsm();
    let uses: Vec<_> = lsm.memtable_stats().iter().map(|table| table.used_for).collect();
    assert_eq!(uses.iter().filter(|used| **used == MemtableUse::Active).count(), 1);
    assert_eq!(uses.len(), 3);
    let active = lsm.memtable_stats().into_iter().find(|table| table.used_for == MemtableUse::Active).unwrap();
    assert!(active.entries >= 4000 && active.used > 400_000 && active.used <= active.capacity, "{active:?}");

    engine.flush().unwrap();
    let active = lsm.memtable_stats().into_iter().find(|table| table.used_for == MemtableUse::Active).unwrap();
    assert_eq!(active.entries, 0);
    let files = lsm.file_stats().unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0].level == Level(0) && !files[0].is_compacting && files[0].meta.entries >= 4000);
    let background = lsm.background_stats().unwrap();
    assert_eq!((background.running, background.l0_runs, background.immutable_memtables), (0, 1, 0));
    assert_eq!((background.write_rate, background.disk_full), (0, false));
}
