//! Options out of range, and options that do not fit what the directory was created with.

use ssd_engine::{Class, Engine, Options};

use crate::place::{Place, options, refused, rows, tree};

#[test]
fn absurd_options_name_themselves_and_what_to_change() {
    type Change = fn(&mut Options);
    let table: [(&str, Change); 26] = [
        ("memtables", |o| o.memtables = 0),
        ("memtables", |o| o.memtables = 1),
        ("memtables", |o| o.memtables = usize::MAX),
        ("memtable_bytes", |o| o.memtable_bytes = 0),
        ("memtable_bytes", |o| o.memtable_bytes = usize::MAX),
        ("block_bytes", |o| o.block_bytes = 0),
        ("block_bytes", |o| o.block_bytes = 5000),
        ("block_bytes", |o| o.block_bytes = 1 << 30),
        ("cache_bytes", |o| o.cache_bytes = usize::MAX),
        ("filter_bits_per_key", |o| o.filter_bits_per_key = u8::MAX),
        ("target_file_bytes", |o| o.target_file_bytes = 0),
        ("target_file_bytes", |o| o.target_file_bytes = u64::MAX),
        ("level_multiplier", |o| o.level_multiplier = 0),
        ("level_multiplier", |o| o.level_multiplier = 1),
        ("level_multiplier", |o| o.level_multiplier = u32::MAX),
        ("background_threads", |o| o.background_threads = usize::MAX),
        ("background_bytes_per_second", |o| o.background_bytes_per_second = Some(0)),
        ("log_segment_bytes", |o| o.log_segment_bytes = 0),
        ("log_segment_bytes", |o| o.log_segment_bytes = (64 << 10) + 1),
        ("log_segment_bytes", |o| o.log_segment_bytes = u64::MAX),
        ("log_ring_bytes", |o| o.log_ring_bytes = 0),
        ("log_ring_bytes", |o| o.log_ring_bytes = 100_000),
        ("log_ring_bytes", |o| o.log_ring_bytes = 1 << 40),
        ("snapshots", |o| o.snapshots = 0),
        ("snapshots", |o| o.snapshots = usize::MAX),
        ("log_archive", |o| o.log_archive = Some(std::path::PathBuf::new())),
    ];
    let place = Place::empty();
    for (name, change) in table {
        let mut options = options();
        change(&mut options);
        let text = refused(Engine::open(place.db(), options), Class::Usage);
        assert!(text.contains(&format!("option {name} ")), "{name}: {text}");
        assert!(!place.db().exists(), "{name}: refused before anything is created");
    }
}

#[test]
fn the_archive_is_another_directory() {
    let place = Place::closed();
    let text = refused(Engine::open(place.db(), Options { log_archive: Some(place.db()), ..options() }), Class::Usage);
    assert!(text.contains("option log_archive"), "{text}");
    place.assert_whole();
}

#[test]
fn other_sizes_than_the_directory_was_created_with() {
    let place = Place::closed();
    for block_bytes in [64 << 10, 8 << 10, 4 << 10] {
        let changed = Options { block_bytes, memtable_bytes: 2 << 20, log_ring_bytes: 1 << 20, ..options() };
        let engine = Engine::open(place.db(), changed).unwrap();
        let tree = tree(&engine);
        assert_eq!(rows(&tree), 500);
        for number in 0..500u32 {
            tree.put(format!("{number:04}").as_bytes(), &[7; 300]).unwrap();
        }
        engine.compact().unwrap();
        assert_eq!(rows(&tree), 500);
        engine.verify().unwrap();
        drop(tree);
        engine.close().unwrap();
    }
    let changed = Options { log_segment_bytes: 128 << 10, ..options() };
    let text = refused(Engine::open(place.db(), changed), Class::Usage);
    assert!(text.contains(".wal") && text.contains("Set log_segment_bytes to 65536"), "{text}");
    place.assert_whole();
}
