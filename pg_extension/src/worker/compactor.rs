//! A compactor: runs the engine's jobs one after the other.

use std::sync::atomic::Ordering;

use pgrx::pg_guard;
use pgrx::pg_sys;

use super::{Role, activity, nap, play, take_signals, told_to_end};
use crate::ffi::externs;
use crate::ops::trees;
use crate::xact::garbage::Outsider;
use crate::{error, link, shmem};

/// Milliseconds between two looks for work.
const IDLE_MS: i64 = 200;
/// Idle looks between two sweeps of row locks, when memory had no room for some.
const SWEEP_EVERY: u64 = 10;
/// Milliseconds to wait after a job failed.
const PAUSE_MS: i64 = 1000;

/// A compactor's main function.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn ssdlsm_compactor_main(_arg: pg_sys::Datum) {
    play(Role::Compactor);
    take_signals();
    // An error raised by the server in the middle of a job would leave locks of the engine broken: it is a panic.
    // SAFETY: a counter of this process.
    unsafe { pg_sys::CritSectionCount += 1 };
    let mut collected_at = 0;
    let mut idle = 0u64;
    loop {
        super::at_work();
        super::reload();
        if told_to_end() {
            break;
        }
        let pause = match link::lsm().run_next_job() {
            Ok(true) => 0,
            Ok(false) => {
                collect(&mut collected_at);
                idle += 1;
                if idle.is_multiple_of(SWEEP_EVERY) {
                    sweep_locks();
                }
                IDLE_MS
            }
            Err(_) if told_to_end() => break,
            // The guardian tells of it.
            Err(failed) if failed.is_no_space() => {
                link::lsm().note_disk_full();
                PAUSE_MS
            }
            Err(failed) => {
                super::job_failed(&failed);
                PAUSE_MS
            }
        };
        if nap(pause) {
            break;
        }
    }
    // SAFETY: nothing is held. Code 1: to be started again, should the server go on.
    unsafe {
        pg_sys::CritSectionCount = 0;
        pg_sys::proc_exit(1);
    }
}

/// Once after each checkpoint, which is when files of dropped relations go: ends the trees whose files are gone.
fn collect(collected_at: &mut u64) {
    // SAFETY: see the externs.
    let redo = unsafe { externs::GetRedoRecPtr() };
    if link::in_recovery() || redo == *collected_at {
        return;
    }
    // The process is known before it joins: its end takes it out again.
    let _ = link::process();
    if !link::join() {
        return;
    }
    activity::begins("looking for rows of dropped tables");
    shmem::shared().collecting.fetch_add(1, Ordering::SeqCst);
    let collected = trees::collect(link::lsm());
    shmem::shared().collecting.fetch_sub(1, Ordering::SeqCst);
    match collected {
        Ok(_) => *collected_at = redo,
        Err(failed) => error::report(&failed, pgrx::PgLogLevel::LOG),
    }
    activity::ends();
}

/// Frees the memory of row locks whose holders have ended, once there was no room for some.
fn sweep_locks() {
    let store = &link::process().store;
    if !store.lsm().control().has_spilled_locks() {
        return;
    }
    activity::begins("freeing row locks of transactions that have ended");
    if let Err(failed) = store.locks().sweep(store.latches(), &Outsider) {
        error::report(&failed, pgrx::PgLogLevel::LOG);
    }
    activity::ends();
}
