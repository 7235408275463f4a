//! Table access method `ssdlsm` for PostgreSQL: rows live in the shared LSM engine instead of heap files.
//!
//! Where to start: `handler` lists the callbacks, `am/` has one file per heading of tableam.h, each thin over `ops/`, which is
//! Rust over the engine. `link` is the one place that knows how a process reaches the engine; `wal` has the resource manager,
//! `worker/` the background processes. docs/internals/extension.md tells how these hang together.

pgrx::pg_module_magic!();

pub mod am;
pub mod backup;
pub mod error;
pub mod ffi;
pub mod guc;
pub mod handler;
pub mod hooks;
pub mod io;
pub mod link;
pub mod operators;
pub mod ops;
pub mod shmem;
pub mod wait_event;
pub mod wal;
pub mod worker;
pub mod xact;

use pgrx::pg_guard;
use pgrx::pg_sys;

/// Called when the library is loaded: by the postmaster when it is preloaded, which is the only way that works.
#[pg_guard]
pub unsafe extern "C-unwind" fn _PG_init() {
    // SAFETY: set by the postmaster before it loads libraries.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        // Whatever uses the engine says what is missing; most settings could not be defined any more.
        return;
    }
    guc::register();
    error::forward_log();
    shmem::install_hooks();
    wal::register();
    worker::register();
    hooks::install();
    xact::ends::register();
}
