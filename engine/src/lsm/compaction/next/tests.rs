use crate::Engine;
use crate::env::memory::MemoryEnv;
use crate::lsm::compaction::small_options;
use crate::lsm::stats::Counter;

fn engine() -> Engine {
    Engine::open("/db", small_options(MemoryEnv::new(3))).unwrap()
}

fn dropped_files(engine: &Engine) -> u64 {
    while engine.lsm().run_next_job().unwrap() {}
    engine.lsm().stats().get(Counter::FilesDropped)
}

#[test]
fn a_dropped_tree_is_not_read_to_get_rid_of_it() {
    let engine = engine();
    let (gone, stays) = (engine.tree("gone").unwrap(), engine.tree("stays").unwrap());
    for at in 0..3000u32 {
        let key = at.wrapping_mul(2_654_435_761).to_be_bytes();
        gone.put(&key, &[at as u8; 60]).unwrap();
        stays.put(&key, &[at as u8; 60]).unwrap();
    }
    engine.compact().unwrap();
    let snapshot = engine.snapshot().unwrap();
    let old = gone.clone();
    engine.drop_tree(&gone).unwrap();
    engine.flush().unwrap();
    assert_eq!(dropped_files(&engine), 0, "a snapshot still sees the tree");
    assert_eq!(old.scan_at::<&[u8]>(.., &snapshot).unwrap().count(), 3000);
    drop(snapshot);
    let read = engine.lsm().stats().get(Counter::CompactionReadBytes);
    assert!(dropped_files(&engine) > 5, "{:?}", engine.stats().unwrap().levels);
    let read = engine.lsm().stats().get(Counter::CompactionReadBytes) - read;
    assert!(read < 100_000, "{read} bytes read for a tree of some 200 KB in files of 16 KB");
    assert_eq!(stays.scan::<&[u8]>(..).unwrap().count(), 3000);
    assert_eq!(old.scan::<&[u8]>(..).unwrap().count(), 0);
}
