//! Single mistakes that the large tests found, as small as they get.

use std::path::Path;

use ssd_engine::env::fault::FaultKind;
use ssd_engine::env::memory::Crash;
use ssd_engine::mem::region::Region;
use ssd_engine::{Class, Engine};

use super::harm::fresh;
use crate::sim::store::{DIR, Store};

fn written() -> Store {
    let mut store = fresh();
    store.open().unwrap();
    for _ in 0..4 {
        for _ in 0..10 {
            store.write().unwrap();
        }
        store.engine().flush().unwrap();
    }
    store
}

#[test]
fn a_file_that_could_not_be_removed_is_removed_later() {
    let mut failed = 0;
    for nth in 1..120 {
        let mut store = written();
        store.env.faults().fail_at(nth, FaultKind::Eio);
        let first = store.engine().compact().and_then(|()| store.jobs(20));
        store.env.faults().clear();
        if store.engine().check_open().is_err() {
            continue;
        }
        failed += u32::from(first.is_err());
        store.engine().compact().unwrap();
        store.jobs(100).unwrap();
        let known: usize = store.engine().stats().unwrap().levels.iter().map(|level| level.files).sum();
        let there = store.env.files().iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).count();
        assert_eq!(there, known, "operation {nth} failed");
    }
    assert!(failed > 5, "{failed} failed");
}

#[test]
fn an_engine_that_was_shut_is_not_taken_for_one_that_was_never_opened() {
    let store = fresh();
    let layout = Engine::layout_of(&store.options);
    let region = Region::anonymous(&layout).unwrap();
    let engine = Engine::open_shared(Path::new(DIR), store.options.clone(), region.clone()).unwrap();
    assert!(Engine::attach(Path::new(DIR), store.options.clone(), region.clone()).is_ok());
    engine.close().unwrap();
    let error = Engine::attach(Path::new(DIR), store.options.clone(), region).map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Closed, "{error}");
}

#[test]
fn closing_an_engine_that_was_shut_makes_its_log_stable() {
    let mut store = fresh();
    store.open().unwrap();
    let mut shut = 0;
    for nth in 1..20 {
        for _ in 0..3 {
            store.write().unwrap();
        }
        // The manifest is written by the creation of a tree.
        store.env.faults().fail_at(nth, FaultKind::Eio);
        let _ = store.engine().tree(format!("tree of {nth}"));
        store.env.faults().clear();
        shut += u32::from(store.engine().check_open().is_err());
        store.close().unwrap();
        store.crash(Crash::Power);
        store.open().unwrap();
        store.check_recovered(true).unwrap();
    }
    assert!(shut > 1, "{shut} failures shut the engine");
}

#[test]
fn after_a_close_nobody_needs_the_batches_of_the_log() {
    use ssd_engine::env::Env;
    let mut store = fresh();
    store.open().unwrap();
    store.write().unwrap();
    store.close().unwrap();
    let dir = Path::new(DIR);
    let files = store.env.files();
    let segment = files.iter().find(|path| path.extension().is_some_and(|e| e == "wal")).unwrap();
    let bytes = store.env.read_file(segment).unwrap();
    // The batch is the first record: its payload starts behind the header's page and the record's header.
    assert!(bytes[4096..].iter().any(|&byte| byte != 0));
    store.env.remove(&dir.join("LOGBUF")).unwrap();
    assert!(store.env.flip_bit(segment, (4096 + 44) * 8));
    store.open().unwrap();
    store.check_recovered(true).unwrap();
}
