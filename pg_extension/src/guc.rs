//! Settings.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;

/// Megabytes of one memtable.
pub static MEMTABLE_MB: GucSetting<i32> = GucSetting::<i32>::new(16);
/// Count of memtables.
pub static MEMTABLES: GucSetting<i32> = GucSetting::<i32>::new(4);
/// Megabytes of the block cache; -1 takes as much as `shared_buffers`.
pub static BLOCK_CACHE_MB: GucSetting<i32> = GucSetting::<i32>::new(-1);
/// Whether files are read and written past the page cache.
pub static DIRECT_IO: GucSetting<bool> = GucSetting::<bool>::new(false);
/// Count of compactors.
pub static COMPACTION_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(1);
/// Whether an update that changes no indexed column keeps the row's place.
pub static UPDATE_IN_PLACE: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Makes the settings known.
pub fn register() {
    let int = |name, short, long, setting, min, max, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, min, max, GucContext::Postmaster, flags);
    };
    int(
        c"ssdlsm.memtable_size",
        c"Size of each memtable.",
        c"Rows are collected in memtables before they are written to files.",
        &MEMTABLE_MB,
        1,
        2048,
        GucFlags::UNIT_MB,
    );
    int(
        c"ssdlsm.memtables",
        c"Number of memtables.",
        c"One takes writes while the others are flushed.",
        &MEMTABLES,
        2,
        15,
        GucFlags::default(),
    );
    int(
        c"ssdlsm.block_cache_size",
        c"Size of the cache of blocks of files.",
        c"Tables of ssdlsm do not use shared_buffers. -1 takes as much as these.",
        &BLOCK_CACHE_MB,
        -1,
        1 << 20,
        GucFlags::UNIT_MB,
    );
    int(
        c"ssdlsm.compaction_workers",
        c"Number of background workers that merge files.",
        c"Each takes one of max_worker_processes.",
        &COMPACTION_WORKERS,
        1,
        16,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"ssdlsm.direct_io",
        c"Reads and writes files past the page cache of the operating system.",
        c"Then ssdlsm.block_cache_size is all the cache there is, and should be a large part of the memory.",
        &DIRECT_IO,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"ssdlsm.update_in_place",
        c"Lets updates that change no indexed column keep the row's place.",
        c"Off gives every update a new place and new index entries.",
        &UPDATE_IN_PLACE,
        GucContext::Userset,
        GucFlags::default(),
    );
    // A setting with a wrong name is an error, not one that nobody reads.
    // SAFETY: guarded; the name is copied.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"ssdlsm".as_ptr()) };
}
