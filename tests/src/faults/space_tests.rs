//! A disk that is full for a while: reads go on, writes are refused with a clear error, and all work resumes by itself.

use std::path::Path;
use std::time::Duration;

use ssd_engine::env::Env;
use ssd_engine::env::memory::Crash;

use super::harm::fresh;
use super::script::steps;
use crate::sim::check::describe;
use crate::sim::store::{DIR, Store};

/// Bytes that the disk still takes when it becomes full, in turn: nothing, or enough to get half way through a job.
const SPARE: [u64; 3] = [0, 8 << 10, 40 << 10];

fn fill_up(store: &Store, spare: u64) {
    store.env.disk_capacity(None);
    // What an unlimited disk reports is this much less what is used.
    let used = (1 << 40) - store.env.free_space(Path::new(DIR)).unwrap();
    store.env.disk_capacity(Some(used + spare));
}

/// Does what fails for want of space again and again; whether anything failed.
fn suffer(store: &mut Store, reserve: bool) -> bool {
    let mut refused = false;
    for turn in 0..240 {
        let outcome = match turn % 40 {
            10 => store.engine().flush(),
            20 => store.sync(),
            30 => store.drop_tree(2),
            35 => store.engine().compact(),
            _ => store.write(),
        };
        if let Err(error) = outcome {
            refused = true;
            assert!(error.is_no_space(), "turn {turn}: {}", describe(&error));
            store.settle().unwrap();
        }
        if turn % 20 == 0 {
            store.check_all().unwrap();
            store.engine().verify().unwrap();
        }
        if reserve {
            store.env.sleep(Duration::from_secs(1));
            let _ = store.engine().run_next_job();
        }
    }
    refused
}

/// Fills the disk after each step of the workload that leaves the engine open.
fn full_after_each_step(reserve: u64) {
    let count = steps().len();
    for stop in 0..count {
        for spare in SPARE {
            let mut store = fresh();
            store.options.disk_reserve_bytes = reserve;
            for step in &steps()[..=stop] {
                (step.run)(&mut store).unwrap();
            }
            if store.open.is_none() {
                continue;
            }
            let context = format!("full but for {spare} bytes after \"{}\"", steps()[stop].name);
            fill_up(&store, spare);
            assert!(suffer(&mut store, reserve > 0), "{context}: nothing failed");
            store.env.disk_capacity(None);
            store.env.sleep(Duration::from_secs(1));
            store.engine().run_next_job().unwrap_or_else(|e| panic!("{context}, space is back: {}", describe(&e)));
            for _ in 0..50 {
                store.write().unwrap_or_else(|e| panic!("{context}, space is back: {}", describe(&e)));
            }
            store.drop_tree(1).unwrap();
            store.checkpoint().unwrap();
            store.engine().compact().unwrap();
            store.check_all().unwrap();
            store.crash(Crash::Process);
            store.open().unwrap();
            store.check_recovered(false).unwrap();
            store.engine().verify().unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_survived_without_a_reserve() {
    full_after_each_step(0);
}

#[test]
fn a_full_disk_is_survived_with_a_reserve() {
    full_after_each_step(100 << 10);
}

#[test]
fn with_a_reserve_writes_are_refused_before_anything_fails() {
    let mut store = fresh();
    store.options.disk_reserve_bytes = 400 << 10;
    store.open().unwrap();
    for _ in 0..5 {
        store.write().unwrap();
    }
    fill_up(&store, 50 << 10);
    store.env.sleep(Duration::from_secs(1));
    store.engine().run_next_job().unwrap();
    let error = store.write().unwrap_err();
    assert!(error.is_no_space() && error.to_string().contains("nearly full"), "{error}");
    store.settle().unwrap();
    store.check_all().unwrap();
    let error = store.engine().settle().and_then(|()| store.engine().compact()).unwrap_err();
    assert!(error.is_no_space() && error.to_string().contains("compact"), "nobody waits for ever: {error}");
    store.env.disk_capacity(None);
    store.env.sleep(Duration::from_secs(1));
    store.engine().run_next_job().unwrap();
    store.write().unwrap();
    store.engine().compact().unwrap();
    store.check_all().unwrap();
}
