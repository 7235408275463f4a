//! The guardian: flushes memtables, and lets no checkpoint complete before what it would forget is in files.
//!
//! *The rule:* when a checkpoint with redo pointer R completes, everything logged before R is in files. A checkpoint waits for
//! every process that has `DELAY_CHKPT_COMPLETE` set with a valid local transaction id, so the guardian has both, always, and
//! never runs a transaction (its end would clear them). Each tick, when the redo pointer is the one that was flushed for, it takes
//! a new local id, which lets the checkpoint pass that had listed the old one; otherwise it flushes first. The comparison and the
//! new id happen under ProcArrayLock, as the checkpointer's listing does, so that a checkpoint that began meanwhile lists the new
//! id. The flag is never cleared: cleared and set again, it hung a checkpoint for good.
//!
//! Its end: at a shutdown everybody is told at once, and the checkpointer's turn comes when all are gone. So the guardian stays
//! until the last writer has left, closes the door, flushes, and goes; with code 1, since after code 0 it would never be started
//! again. An error in here would open the gate, and is a panic of the server. The death of the postmaster is taken like a
//! shutdown.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgrx::pg_guard;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use ssd_engine::Error;
use ssd_engine::base::ids::Lsn;

use super::{Role, activity, nap, play, take_signals, told_to_end};
use crate::ffi::externs;
use crate::ops::numbers;
use crate::shmem::{self, Lock};
use crate::{backup, error, link};

/// Milliseconds between two looks.
const TICK_MS: i64 = 10;
/// Milliseconds between two attempts on a full disk.
const FULL_NAP_MS: i64 = 500;
/// How often a full disk is told of.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Index of ProcArrayLock among the server's own locks.
const PROC_ARRAY_LOCK: usize = 4;

/// The guardian's main function.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn ssdlsm_guardian_main(_arg: pg_sys::Datum) {
    play(Role::Guardian);
    take_signals();
    link::flush_here();
    // An error becomes a panic while this is above zero.
    // SAFETY: a counter of this process.
    unsafe { pg_sys::CritSectionCount += 1 };
    let shared = shmem::shared();
    // SAFETY: the latch lives in shared memory.
    shared.guardian_latch.store(unsafe { pg_sys::MyLatch }, Ordering::SeqCst);
    let (mut armed, mut told) = (false, None);
    if !backup::is_known() {
        let what = "ssdlsm cannot tell when base backups of this server are taken";
        let hint = "Take them while no table of it is written to.";
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, what, "ssdlsm").set_hint(hint).report(PgLogLevel::WARNING);
    }
    loop {
        let postmaster_died = nap(TICK_MS);
        super::at_work();
        super::reload();
        if link::in_recovery() {
            if told_to_end() || postmaster_died {
                leave();
            }
            flush_full(&mut told);
            continue;
        }
        if !armed {
            arm();
            armed = true;
        }
        guard();
        flush_full(&mut told);
        if (told_to_end() || postmaster_died) && close_the_door() {
            finish();
            leave();
        }
    }
}

fn leave() -> ! {
    // SAFETY: nothing is held. Code 1: to be started again, should the server go on.
    unsafe {
        pg_sys::CritSectionCount = 0;
        pg_sys::proc_exit(1)
    }
}

/// Begins to hold checkpoints back, then lets writers in.
fn arm() {
    // SAFETY: the guardian's own entry among the processes; it is in the array since it has initialised its connection.
    unsafe {
        let me = &mut *pg_sys::MyProc;
        under_proc_array_lock(|| {
            me.lxid = externs::GetNextLocalTransactionId();
            me.delayChkptFlags |= externs::DELAY_CHKPT_COMPLETE;
        });
    }
    // Whatever was replayed and not flushed, or is in memory since a former guardian, comes first.
    guard();
    let shared = shmem::shared();
    Lock::Attach.with(|| {
        shared.closing.store(0, Ordering::SeqCst);
        shared.armed.store(1, Ordering::SeqCst);
    });
}

fn under_proc_array_lock(work: impl FnOnce()) {
    // SAFETY: one of the server's fixed locks.
    unsafe {
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(PROC_ARRAY_LOCK)).lock;
        externs::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        work();
        externs::LWLockRelease(lock);
    }
}

/// Flushes for a new redo pointer, or lets checkpoints of the old one pass.
fn guard() {
    let flushed_for = &shmem::shared().flushed_for;
    // SAFETY: see the externs.
    let redo = unsafe { externs::GetRedoRecPtr() };
    if redo != flushed_for.load(Ordering::SeqCst) {
        let what = format!("holding a checkpoint until all before {:X}/{:X} is in files", redo >> 32, redo as u32);
        activity::begins(&what);
        until_there_is_space(|| link::lsm().flush_for_checkpoint(Lsn(redo)));
        activity::ends();
        flushed_for.store(redo, Ordering::SeqCst);
    }
    let done = flushed_for.load(Ordering::SeqCst);
    under_proc_array_lock(|| {
        // SAFETY: as in `arm`.
        unsafe {
            if externs::GetRedoRecPtr() == done {
                (*pg_sys::MyProc).lxid = externs::GetNextLocalTransactionId();
            }
        }
    });
}

/// Does a `flush`. A full disk is waited out: the checkpoint stays held, reads go on.
fn until_there_is_space(flush: impl Fn() -> ssd_engine::Result<()>) {
    let mut told = None;
    while let Err(failed) = flush() {
        await_space(&failed, &mut told);
    }
}

/// Flushes memtables that are full.
fn flush_full(told: &mut Option<Instant>) {
    loop {
        match link::lsm().flush_oldest() {
            Ok(true) => *told = None,
            Ok(false) => return,
            Err(failed) => return await_space(&failed, told),
        }
    }
}

/// Refuses writers and waits a moment when `failed` says that the disk is full; it is told now and then. Any other failure is the
/// end.
fn await_space(failed: &Error, told: &mut Option<Instant>) {
    if !failed.is_no_space() {
        error::panic(failed);
    }
    link::lsm().note_disk_full();
    if told.is_none_or(|at| at.elapsed() > TELL_EVERY) {
        *told = Some(Instant::now());
        super::job_failed(failed);
    }
    activity::begins("waiting for space on the disk");
    nap(FULL_NAP_MS);
    activity::ends();
    super::at_work();
}

/// Lets nobody in any more, once nobody is in.
fn close_the_door() -> bool {
    let shared = shmem::shared();
    Lock::Attach.with(|| {
        if shared.attached.load(Ordering::SeqCst) > 0 {
            return false;
        }
        shared.closing.store(1, Ordering::SeqCst);
        shared.armed.store(0, Ordering::SeqCst);
        true
    })
}

/// Writes everything to files: the checkpoint of the shutdown comes next.
fn finish() {
    if let Err(failed) = numbers::settle(link::lsm()) {
        // Numbers are skipped, nothing else.
        error::report(&failed, PgLogLevel::LOG);
    }
    until_there_is_space(|| link::lsm().flush_below(Lsn(u64::MAX)).map(drop));
}
