//! Main shared memory: the engine's region, the words that processes of the server share beside it, and the locks.
//!
//! Both pieces are asked for before the segment is made and found again in every process at the same address, because every
//! process is a fork of the postmaster. After a crash of a backend the postmaster makes the segment anew, zeroed: zero is the
//! initial state of everything here.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_guard;
use pgrx::pg_sys;
use ssd_engine::mem::region::{Layout, Region};
use ssd_engine::{Engine, Options};

use crate::backup;
use crate::error;
use crate::ffi::externs;
use crate::guc;

/// Row latches: a power of two.
pub const LATCHES: usize = 256;
/// Locks over the table of row numbers.
pub const NUMBER_LOCKS: usize = 16;
/// Relations whose row numbers are kept in shared memory at once; others are looked up in the engine again.
pub const NUMBER_SLOTS: usize = 4096;

/// What locks are for. Each tranche has its name in `pg_stat_activity`; those that stand for a wait inside the engine have a lock
/// that nobody takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Tranche {
    /// Opening the engine and attaching to it.
    Open = 0,
    /// Joining and leaving the writers.
    Writers = 1,
    /// Row latches.
    Row = 2,
    /// Places of new rows.
    Places = 3,
    /// The wait for a memtable with room.
    Memtable = 4,
    /// The wait of a writer that is slowed.
    Throttle = 5,
    /// The wait for the guardian.
    Guardian = 6,
}

/// For each tranche its name and the count of its locks.
const TRANCHES: [(&CStr, usize); 7] = [
    (c"SsdlsmOpen", 1),
    (c"SsdlsmWriters", 1),
    (c"SsdlsmRow", LATCHES),
    (c"SsdlsmPlaces", NUMBER_LOCKS),
    (c"SsdlsmMemtable", 1),
    (c"SsdlsmThrottle", 1),
    (c"SsdlsmGuardian", 1),
];

/// Where a relation's next row goes.
#[repr(C)]
pub struct NumberSlot {
    /// The tree; 0 when the slot is free.
    pub tree: AtomicU64,
    /// The block of the next row.
    pub block: AtomicU64,
    /// Its slot, from 0 on.
    pub slot: AtomicU64,
    /// Bytes that a heap's page would have left there.
    pub free: AtomicU64,
    /// Blocks below this are reserved in the engine.
    pub reserved: AtomicU64,
    /// Rows that places were handed out for.
    pub rows: AtomicU64,
    /// Bytes that a heap takes for them.
    pub bytes: AtomicU64,
    /// Blocks whose rows everybody saw alike when VACUUM came last.
    pub visible: AtomicU64,
    /// Blocks when the server counted the rows last.
    pub counted: AtomicU64,
}

/// Words shared by all processes of the server.
#[repr(C)]
pub struct Shared {
    /// 1 while the guardian guards: rows may be written.
    pub armed: AtomicU32,
    /// 1 once the guardian has seen the last writer go at shutdown.
    pub closing: AtomicU32,
    /// Processes that may write.
    pub attached: AtomicU32,
    /// 1 when the cluster was not shut down before this life of its shared memory.
    pub crashed: AtomicU32,
    /// The guardian's latch, to wake it.
    pub guardian_latch: AtomicPtr<pg_sys::Latch>,
    /// Redo pointer up to which everything is in files.
    pub flushed_for: AtomicU64,
    /// When this life of the shared memory began, as the server's timestamps have it: what is counted is counted since then.
    pub made_at: AtomicI64,
    /// Processes that are ending trees whose files are gone.
    pub collecting: AtomicU32,
    /// Where relations' next rows go.
    pub numbers: [NumberSlot; NUMBER_SLOTS],
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());
static REGION: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LOCK_ARRAYS: [AtomicPtr<pg_sys::LWLockPadded>; TRANCHES.len()] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; TRANCHES.len()];
static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// A lock of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Opening the engine and attaching to it.
    Open,
    /// Joining and leaving the writers.
    Attach,
    /// A row latch.
    Row(usize),
    /// A part of the table of row numbers.
    Numbers(usize),
}

impl Lock {
    /// The tranche, and which of its locks it is.
    const fn place(self) -> (Tranche, usize) {
        match self {
            Self::Open => (Tranche::Open, 0),
            Self::Attach => (Tranche::Writers, 0),
            Self::Row(number) => (Tranche::Row, number % LATCHES),
            Self::Numbers(number) => (Tranche::Places, number % NUMBER_LOCKS),
        }
    }

    fn pointer(self) -> *mut pg_sys::LWLock {
        let (tranche, index) = self.place();
        let array = LOCK_ARRAYS[tranche as usize].load(Ordering::Relaxed);
        // SAFETY: the array has as many locks as `TRANCHES` says, for the life of the process.
        unsafe { &raw mut (*array.add(index)).lock }
    }

    /// Runs `work` with the lock held exclusively.
    ///
    /// An unwinding `work` leaves the lock to the abort of the transaction, which releases all of them: a release here would
    /// undo a hold on interrupts that the error has already undone.
    pub fn with<T>(self, work: impl FnOnce() -> T) -> T {
        // SAFETY: the pointer is to a lock of our tranche; see the externs for why nothing is raised.
        unsafe { externs::LWLockAcquire(self.pointer(), pg_sys::LWLockMode::LW_EXCLUSIVE) };
        let out = work();
        // SAFETY: taken above.
        unsafe { externs::LWLockRelease(self.pointer()) };
        out
    }
}

/// The engine's options, the same in every process of one life of the postmaster.
#[must_use]
pub fn options() -> Options {
    Options {
        memtable_bytes: (guc::MEMTABLE_MB.get() as usize) << 20,
        memtables: guc::MEMTABLES.get() as usize,
        cache_bytes: cache_bytes(),
        direct_io: guc::DIRECT_IO.get(),
        // No threads are started for a host; it says that others than the one who waits will flush.
        background_threads: 1,
        ..Options::default()
    }
}

/// Size of the cache of blocks.
#[must_use]
pub fn cache_bytes() -> usize {
    // SAFETY: the server's setting, which is the same for the life of the postmaster.
    let server_buffers = || unsafe { pg_sys::NBuffers as usize } * pg_sys::BLCKSZ as usize;
    usize::try_from(guc::BLOCK_CACHE_MB.get()).map_or_else(|_| server_buffers(), |megabytes| megabytes << 20)
}

fn layout() -> Layout {
    Engine::layout_of(&options())
}

/// Asks for memory and locks.
pub fn install_hooks() {
    // SAFETY: the postmaster is single-threaded here, and nobody else writes these.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

/// Bytes asked for the region: its size and room to start on a page.
fn region_bytes() -> usize {
    layout().size() + 4096
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: called by the postmaster at the one moment when memory may be asked for.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(region_bytes());
        pg_sys::RequestAddinShmemSpace(size_of::<Shared>() + 64);
        for (name, count) in TRANCHES {
            pg_sys::RequestNamedLWLockTranche(name.as_ptr(), count as i32);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: called when the segment exists, under the lock that serialises its users.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        let mut found = false;
        let shared = pg_sys::ShmemInitStruct(c"ssdlsm shared".as_ptr(), size_of::<Shared>(), &raw mut found);
        if !found {
            std::ptr::write_bytes(shared.cast::<u8>(), 0, size_of::<Shared>());
            (*shared.cast::<Shared>()).made_at.store(pg_sys::GetCurrentTimestamp(), Ordering::Relaxed);
        }
        let region = pg_sys::ShmemInitStruct(c"ssdlsm region".as_ptr(), region_bytes(), &raw mut found).cast::<u8>();
        let region = region.add(region.align_offset(4096));
        // The segment is new and zeroed by the kernel; to clear it here would touch all of it at every start.
        SHARED.store(shared.cast(), Ordering::Relaxed);
        backup::find_state();
        let mut sound = false;
        let control = pg_sys::get_controlfile(pg_sys::DataDir, &raw mut sound);
        if !found && (*control).state != pg_sys::DBState::DB_SHUTDOWNED {
            (*shared.cast::<Shared>()).crashed.store(1, Ordering::SeqCst);
        }
        pg_sys::pfree(control.cast());
        REGION.store(region, Ordering::Relaxed);
        for ((name, _), array) in TRANCHES.iter().zip(&LOCK_ARRAYS) {
            array.store(pg_sys::GetNamedLWLockTranche(name.as_ptr()), Ordering::Relaxed);
        }
    }
}

/// Whether the library was preloaded, so that there is shared memory.
#[must_use]
pub fn is_there() -> bool {
    !SHARED.load(Ordering::Relaxed).is_null()
}

/// The number of a tranche among the server's; 0 without shared memory.
#[must_use]
pub fn tranche_id(tranche: Tranche) -> u32 {
    let array = LOCK_ARRAYS[tranche as usize].load(Ordering::Relaxed);
    if array.is_null() {
        return 0;
    }
    // SAFETY: each tranche has a lock at least, whose number never changes.
    u32::from(unsafe { (*array).lock.tranche })
}

/// The shared words.
///
/// Raises an error when the library was not preloaded.
#[must_use]
pub fn shared() -> &'static Shared {
    let shared = SHARED.load(Ordering::Relaxed);
    if shared.is_null() {
        error::fail(
            pgrx::PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "ssdlsm must be loaded via shared_preload_libraries",
            "Add ssdlsm to shared_preload_libraries in postgresql.conf and restart the server.",
        );
    }
    // SAFETY: made in `startup`, lives as long as the process, and has atomics only.
    unsafe { &*shared }
}

/// The engine's region.
#[must_use]
pub fn region() -> Region {
    let base = NonNull::new(REGION.load(Ordering::Relaxed)).expect("callers have seen `shared`");
    let layout = layout();
    // SAFETY: `startup` made the memory for exactly this layout, page-aligned, for the life of the process.
    match unsafe { Region::attach(base, layout.size(), &layout) } {
        Ok(region) => region,
        Err(failed) => error::raise(&failed),
    }
}
