//! The background processes: one guardian and some compactors, static, single-threaded, free to call the server.

mod activity;
pub mod compactor;
pub mod guardian;

use std::sync::atomic::{AtomicU8, Ordering};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use ssd_engine::lsm::hosted::Job;
use ssd_engine::lsm::stats::Counter;
use ssd_engine::{Error, Result};

use crate::ffi::externs;
use crate::guc;
use crate::link;

/// What kind of process this is, as far as waiting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A process with a session, or another one of the server.
    Backend = 0,
    /// The guardian.
    Guardian = 1,
    /// A compactor.
    Compactor = 2,
}

static ROLE: AtomicU8 = AtomicU8::new(Role::Backend as u8);

fn is(role: Role) -> bool {
    ROLE.load(Ordering::Relaxed) == role as u8
}

pub(crate) fn play(role: Role) {
    ROLE.store(role as u8, Ordering::Relaxed);
}

/// Shows a job of the engine's; what a session or the startup process does is shown by the server.
pub fn job_begins(job: Job) {
    if !is(Role::Backend) {
        activity::begins(&activity::describe(job));
    }
}

/// The job that began last has ended.
pub fn job_ends() {
    if !is(Role::Backend) {
        activity::ends();
    }
}

/// Reports and counts a job that failed and will be tried again.
fn job_failed(error: &Error) {
    link::lsm().stats().add(Counter::JobErrors, 1);
    crate::error::report(error, pgrx::PgLogLevel::LOG);
}

/// Registers the processes; only while libraries are preloaded.
pub fn register() {
    BackgroundWorkerBuilder::new("ssdlsm guardian")
        .set_type("ssdlsm guardian")
        .set_library("ssdlsm")
        .set_function("ssdlsm_guardian_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(std::time::Duration::from_secs(1)))
        .load();
    for number in 0..guc::COMPACTION_WORKERS.get() {
        BackgroundWorkerBuilder::new(&format!("ssdlsm compactor {number}"))
            .set_type("ssdlsm compactor")
            .set_library("ssdlsm")
            .set_function("ssdlsm_compactor_main")
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::ConsistentState)
            .set_restart_time(Some(std::time::Duration::from_secs(1)))
            .load();
    }
}

/// What whoever waits for the engine in this process has to look at.
///
/// # Errors
/// Closed, in a compactor that was told to end.
pub fn check_interrupts() -> Result<()> {
    if is(Role::Guardian) {
        at_work();
        return Ok(());
    }
    if is(Role::Compactor) {
        at_work();
        // SAFETY: a flag that a signal handler sets.
        let ends = unsafe { std::ptr::read_volatile(&raw const pg_sys::ShutdownRequestPending) } != 0;
        return if ends { Err(Error::Closed("the server shuts down".into())) } else { Ok(()) };
    }
    // SAFETY: set at start of the process.
    unsafe {
        if pg_sys::MyBackendType == pg_sys::BackendType::B_STARTUP {
            externs::guarded(|| externs::HandleStartupProcInterrupts());
            return Ok(());
        }
    }
    link::check_for_interrupts();
    Ok(())
}

/// Answers what other processes wait for, without ending anything.
pub fn at_work() {
    if is(Role::Backend) {
        return;
    }
    // SAFETY: a flag that a signal handler sets, and what it asks for, which raises nothing for the kinds there are.
    unsafe {
        if std::ptr::read_volatile(&raw const pg_sys::ProcSignalBarrierPending) != 0 {
            pg_sys::ProcessProcSignalBarrier();
        }
    }
}

/// Waits for the latch, a moment at most; whether the postmaster is dead.
pub(crate) fn nap(milliseconds: i64) -> bool {
    // SAFETY: guarded; the latch is this process's own.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_POSTMASTER_DEATH;
        let happened = pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
        happened & pg_sys::WL_POSTMASTER_DEATH as i32 != 0
    }
}

/// Reads the configuration anew when it was told to; between jobs. What is wrong in it is logged.
pub(crate) fn reload() {
    // SAFETY: a flag that a signal handler sets, and nothing of the engine is held.
    unsafe {
        if std::ptr::read_volatile(&raw const pg_sys::ConfigReloadPending) != 0 {
            std::ptr::write_volatile(&raw mut pg_sys::ConfigReloadPending, 0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Whether this process was told to end.
pub(crate) fn told_to_end() -> bool {
    // SAFETY: a flag that a signal handler sets.
    unsafe { std::ptr::read_volatile(&raw const pg_sys::ShutdownRequestPending) != 0 }
}

/// Sets the signals that both kinds of processes take, and takes them.
pub(crate) fn take_signals() {
    // SAFETY: at the start of the process; the handlers are the server's own.
    unsafe {
        pg_sys::pqsignal(libc_signal::SIGTERM, Some(externs::SignalHandlerForShutdownRequest));
        pg_sys::pqsignal(libc_signal::SIGHUP, Some(externs::SignalHandlerForConfigReload));
        pg_sys::pqsignal(libc_signal::SIGUSR1, Some(externs::procsignal_sigusr1_handler));
        pg_sys::pqsignal(libc_signal::SIGINT, std::mem::transmute::<usize, pg_sys::pqsigfunc>(1));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    activity::starts();
}

mod libc_signal {
    pub(super) const SIGHUP: i32 = 1;
    pub(super) const SIGINT: i32 = 2;
    pub(super) const SIGUSR1: i32 = 10;
    pub(super) const SIGTERM: i32 = 15;
}
