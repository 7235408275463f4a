//! How a process of the server reaches the engine.
//!
//! The first process of a life of the cluster that needs it opens it (after a crash that is the startup process, which replays),
//! the others attach; both happen lazily, under a lock, and never in the postmaster. A process that writes also counts itself
//! among the *writers*, which waits until the guardian guards: a checkpoint that completed before could lose what is written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, ThreadId};

use pgrx::pg_guard;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use ssd_engine::base::ids::{Lsn, TreeId};
use ssd_engine::db::hosted::{HostParts, attach_hosted, open_hosted, region_is_open};
use ssd_engine::env::counted::{CountedEnv, Descriptors};
use ssd_engine::env::default_env;
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::hosted::{Host, Job, Placed, Wait};
use ssd_engine::lsm::row_host::TreeKind;
use ssd_engine::mvcc::latch::RowLatches;
use ssd_engine::mvcc::row_locks::RowLocks;
use ssd_engine::mvcc::rows::RowStore;
use ssd_engine::wal::{Appended, Log};
use ssd_engine::{Error, Options, Result};

use crate::backup;
use crate::error::{self, OrRaise};
use crate::ffi::externs;
use crate::ops::trees;
use crate::shmem::{self, Lock, Tranche};
use crate::xact::aborted::ABORTED_TREE;
use crate::xact::garbage::Rows;
use crate::{io, wait_event, wal};

/// The tree that takes row locks the table in memory has no room for.
pub const LOCK_TREE: TreeId = TreeId(1);
/// The tree that remembers how far row numbers were handed out.
pub const NUMBER_TREE: TreeId = TreeId(2);
/// Milliseconds that a writer waits for the guardian.
const ARMING_MS_MAX: u32 = 60_000;

/// What this process has of the engine.
pub struct Process {
    /// The rows.
    pub store: RowStore,
}

static PROCESS: OnceLock<Process> = OnceLock::new();
/// Whether this process counts among the writers.
static WRITES: AtomicBool = AtomicBool::new(false);
/// Whether this process flushes when it waits: the startup process and the guardian.
static FLUSHES: AtomicBool = AtomicBool::new(false);

/// Says that this process does flushes by itself.
pub fn flush_here() {
    FLUSHES.store(true, Ordering::Relaxed);
}

/// Where the engine's files are.
#[must_use]
pub fn directory() -> PathBuf {
    // The server's working directory is the data directory.
    PathBuf::from("ssdlsm")
}

/// The engine, opened or attached to now at the latest. Raises an error when that fails.
pub fn process() -> &'static Process {
    if let Some(process) = PROCESS.get() {
        return process;
    }
    let _ = shmem::shared();
    let copied = backup::replayed_from();
    let opened = Lock::Open.with(|| open_or_attach(copied));
    let lsm = opened.or_raise();
    let locks = RowLocks::new(Arc::clone(&lsm), LOCK_TREE);
    let store = RowStore::new(lsm, Arc::new(Latches), locks);
    // SAFETY: guarded; the callback is a function of this library.
    unsafe { pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::from(0usize)) };
    PROCESS.get_or_init(|| Process { store })
}

/// Whether this process has used the engine.
pub fn is_used() -> bool {
    PROCESS.get().is_some()
}

/// The engine's tree of files and memtables.
pub fn lsm() -> &'static Arc<Lsm> {
    process().store.lsm()
}

fn open_or_attach(copied: Option<Lsn>) -> Result<Arc<Lsm>> {
    let region = shmem::region();
    let counted = CountedEnv::new(default_env(), Arc::new(ServerDescriptors::new()));
    let options = Options { env: Some(io::watched(counted)), ..shmem::options() };
    let parts = HostParts { log: Arc::new(ServerLog), host: Arc::new(Server), rows: Arc::new(Rows), copied };
    if region_is_open(&options, &region) {
        attach_hosted(&directory(), options, region, parts)
    } else {
        let lsm = open_hosted(&directory(), options, region, parts)?;
        RowLocks::new(Arc::clone(&lsm), LOCK_TREE).recover_kept()?;
        // In recovery that is for its end.
        if shmem::shared().crashed.load(Ordering::SeqCst) != 0 && !in_recovery() {
            trees::reset_unlogged(&lsm)?;
        }
        Ok(lsm)
    }
}

/// The engine, for a process that is going to write. Waits for the guardian; raises an error when it does not come.
pub fn writer() -> &'static Process {
    let process = process();
    if WRITES.load(Ordering::Relaxed) {
        return process;
    }
    // SAFETY: set at start of the process.
    if !unsafe { pg_sys::IsUnderPostmaster } {
        error::unsupported("changes in single-user mode");
    }
    let mut shown = None;
    for _ in 0..ARMING_MS_MAX / 10 {
        if join() {
            return process;
        }
        check_for_interrupts();
        shown.get_or_insert_with(|| wait_event::show(wait_event::of(Tranche::Guardian)));
        // SAFETY: a pause.
        unsafe { pg_sys::pg_usleep(10_000) };
    }
    drop(shown);
    error::fail(
        PgSqlErrorCode::ERRCODE_CANNOT_CONNECT_NOW,
        "the guardian of ssdlsm does not run, so that rows cannot be changed",
        "Look for its messages in the server's log, and see that max_worker_processes leaves room for it.",
    );
}

/// Counts this process among the writers, if the guardian guards and it is not counted yet; whether it is. Raises nothing.
pub fn join() -> bool {
    if WRITES.load(Ordering::Relaxed) {
        return true;
    }
    let shared = shmem::shared();
    let joined = Lock::Attach.with(|| {
        let open = shared.closing.load(Ordering::SeqCst) == 0 && shared.armed.load(Ordering::SeqCst) != 0;
        if open {
            shared.attached.fetch_add(1, Ordering::SeqCst);
        }
        open
    });
    WRITES.store(joined, Ordering::Relaxed);
    joined
}

#[pg_guard]
unsafe extern "C-unwind" fn leave(_code: i32, _arg: pg_sys::Datum) {
    if let Some(process) = PROCESS.get() {
        process.store.lsm().forget_process();
    }
    if WRITES.swap(false, Ordering::Relaxed) {
        shmem::shared().attached.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until nobody goes by a list of files that was made before: for whoever has made a file under a number that had one before,
/// before rows are written under it.
pub fn wait_for_collectors() {
    while shmem::shared().collecting.load(Ordering::SeqCst) != 0 {
        check_for_interrupts();
        // SAFETY: a pause.
        unsafe { pg_sys::pg_usleep(10_000) };
    }
}

/// `CHECK_FOR_INTERRUPTS()`.
#[inline]
pub fn check_for_interrupts() {
    // SAFETY: a flag that signal handlers set; the call is guarded.
    unsafe {
        if std::ptr::read_volatile(&raw const pg_sys::InterruptPending) != 0 {
            pg_sys::ProcessInterrupts();
        }
    }
}

/// Whether the server is still (or, a standby, always) in recovery.
#[must_use]
pub fn in_recovery() -> bool {
    // SAFETY: see the externs.
    unsafe { externs::RecoveryInProgress() }
}

/// Makes the server's log stable up to `upto`; in recovery, notes that it must be replayed to there.
pub fn flush_log(upto: Lsn) {
    // SAFETY: guarded; every caller's position is one that the log has reached.
    unsafe { pg_sys::XLogFlush(upto.0) };
}

/// Everything logged (in recovery: replayed) so far lies below.
pub fn log_position() -> Lsn {
    let in_recovery = in_recovery();
    // SAFETY: see the externs.
    Lsn(unsafe {
        if in_recovery { externs::GetXLogReplayRecPtr(std::ptr::null_mut()) } else { externs::GetXLogInsertEndRecPtr() }
    })
}

/// The server's account of descriptors that it has not opened itself. It knows of no threads, but without io_uring a thread may
/// be the last that holds a file.
struct ServerDescriptors {
    thread: ThreadId,
    /// Given back by other threads, and not told to the server yet.
    late: AtomicU32,
}

impl ServerDescriptors {
    fn new() -> Self {
        Self { thread: thread::current().id(), late: AtomicU32::new(0) }
    }

    fn settle(&self) {
        for _ in 0..self.late.swap(0, Ordering::Relaxed) {
            // SAFETY: see the externs.
            unsafe { externs::ReleaseExternalFD() }
        }
    }
}

impl Descriptors for ServerDescriptors {
    fn acquire(&self) -> bool {
        self.settle();
        // SAFETY: see the externs; files are opened by the process's own thread.
        unsafe { externs::AcquireExternalFD() }
    }
    fn reserve(&self) {
        self.settle();
        // SAFETY: as in `acquire`.
        unsafe { externs::ReserveExternalFD() }
    }
    fn release(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
        if thread::current().id() == self.thread {
            self.settle();
        }
    }
}

struct ServerLog;

impl Log for ServerLog {
    fn append(&self, _payload: &[u8], _count: u64) -> Result<Appended> {
        Err(Error::usage("the server logs by itself", ""))
    }
    fn flush(&self, upto: Lsn) -> Result<()> {
        flush_log(upto);
        Ok(())
    }
    fn position(&self) -> Lsn {
        log_position()
    }
    fn durable(&self) -> Lsn {
        Lsn(0)
    }
}

struct Server;

impl Host for Server {
    fn write(&self, placed: Placed<'_>) -> Result<()> {
        wal::log_and_insert(placed, &[]);
        Ok(())
    }
    fn check_interrupts(&self) -> Result<()> {
        crate::worker::check_interrupts()
    }
    fn at_work(&self) {
        crate::worker::at_work();
    }
    fn wait_began(&self, wait: Wait) {
        wait_event::set(wait_event::of(match wait {
            Wait::Memtable => Tranche::Memtable,
            Wait::Turn => Tranche::Throttle,
        }));
    }
    fn wait_ended(&self) {
        wait_event::end();
    }
    fn job_began(&self, job: Job) {
        crate::worker::job_begins(job);
    }
    fn job_ended(&self) {
        crate::worker::job_ends();
    }
    fn waits_long(&self, what: &str) {
        let told = "ssdlsm waits for a memtable to be written to a file";
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, told, "ssdlsm")
            .set_detail(format!("It waits for {what}."))
            .report(PgLogLevel::LOG);
    }
    fn flushes_itself(&self) -> bool {
        FLUSHES.load(Ordering::Relaxed)
    }
    fn tree_kind(&self, tree: TreeId) -> TreeKind {
        match tree {
            LOCK_TREE => TreeKind::Locks,
            NUMBER_TREE | ABORTED_TREE => TreeKind::Values,
            _ => TreeKind::Rows,
        }
    }
    fn keeps_files(&self) -> bool {
        backup::is_running()
    }
}

struct Latches;

impl RowLatches for Latches {
    fn latched(&self, number: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        Lock::Row(number).with(work)
    }
}
