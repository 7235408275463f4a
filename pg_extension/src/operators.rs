//! Functions that operators call from SQL. The views over them, and who may call what, stand in the install scripts.
//!
//! Each is a function of the server's version-1 calling convention with the information record beside it that the server asks
//! for. They read, wait for nothing but files and latches, and run on standbys, too.

pub mod set;
pub mod size;
pub mod stats;

/// Makes functions callable from SQL: the symbol and its information record.
macro_rules! sql_functions {
    ($($(#[$doc:meta])* $name:ident, $info:ident => $body:path;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// Called by the server, by the declaration in the install script.
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub unsafe extern "C-unwind" fn $name(call: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            // SAFETY: the caller's promise.
            unsafe { $body(call) }
        }

        /// Says which calling convention the function has.
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> *const pgrx::pg_sys::Pg_finfo_record {
            static INFO: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &raw const INFO
        }
    )*};
}

sql_functions! {
    /// Bytes of a table's rows in files.
    ssdlsm_table_size, pg_finfo_ssdlsm_table_size => size::table;
    /// The parts of a table in memory and in each level.
    ssdlsm_tree, pg_finfo_ssdlsm_tree => size::tree;
    /// Bytes of all files of the engine.
    ssdlsm_total_size, pg_finfo_ssdlsm_total_size => size::total;
    /// The levels.
    ssdlsm_levels, pg_finfo_ssdlsm_levels => size::levels;
    /// The files.
    ssdlsm_files, pg_finfo_ssdlsm_files => size::files;
    /// The memtables.
    ssdlsm_memtables, pg_finfo_ssdlsm_memtables => stats::memtables;
    /// What happened in the block cache.
    ssdlsm_cache, pg_finfo_ssdlsm_cache => stats::cache;
    /// Counters, and what is under way.
    ssdlsm_stats, pg_finfo_ssdlsm_stats => stats::engine;
}
