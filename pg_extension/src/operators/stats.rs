//! What the engine has done and is doing.

use std::sync::atomic::Ordering;

use pgrx::pg_sys::{Datum, FunctionCallInfo};
use ssd_engine::cache::KindStats;
use ssd_engine::lsm::report::MemtableUse;
use ssd_engine::lsm::stats::Counter;

use super::set::{Rows, Value, big};
use crate::error::OrRaise;
use crate::{link, shmem};

/// `ssdlsm_memtables()`.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn memtables(call: FunctionCallInfo) -> Datum {
    // SAFETY: the caller's promise.
    let mut rows = unsafe { Rows::begin(call) };
    for (number, table) in (0..).zip(link::lsm().memtable_stats()) {
        let (state, start) = match table.used_for {
            MemtableUse::Active => ("active", Value::Lsn(table.start)),
            MemtableUse::Immutable => ("waits for its flush", Value::Lsn(table.start)),
            MemtableUse::Free => ("free", Value::Null),
        };
        let state = Value::Text(state.to_owned());
        rows.add([Value::Int(number), state, big(table.capacity), big(table.used), big(table.entries), start]);
    }
    Datum::null()
}

/// `ssdlsm_cache()`.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn cache(call: FunctionCallInfo) -> Datum {
    // SAFETY: the caller's promise.
    let mut rows = unsafe { Rows::begin(call) };
    let (stats, _) = link::lsm().cache_stats();
    for (kind, counts) in [("data", stats.data), ("index", stats.index), ("filter", stats.filter)] {
        let KindStats { hits, misses, inserts, evictions, no_frame } = counts;
        let held = inserts.saturating_sub(evictions);
        let counts = [hits, misses, inserts, evictions, no_frame, held].map(big);
        rows.add(std::iter::once(Value::Text(kind.to_owned())).chain(counts));
    }
    Datum::null()
}

/// `ssdlsm_stats()`: one row.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn engine(call: FunctionCallInfo) -> Datum {
    // SAFETY: the caller's promise.
    let mut rows = unsafe { Rows::begin(call) };
    let (lsm, shared) = (link::lsm(), shmem::shared());
    let background = lsm.background_stats().or_raise();
    let count = |counter| big(lsm.stats().get(counter));
    let nonzero = |value: u64| if value == 0 { Value::Null } else { big(value) };
    rows.add([
        Value::Time(shared.made_at.load(Ordering::Relaxed)),
        count(Counter::BatchesWritten),
        count(Counter::BytesWritten),
        count(Counter::Flushes),
        count(Counter::FlushBytes),
        count(Counter::Compactions),
        count(Counter::CompactionReadBytes),
        count(Counter::CompactionWriteBytes),
        count(Counter::FilesMoved),
        count(Counter::FilesDropped),
        count(Counter::FilesRemoved),
        count(Counter::ManifestBytes),
        count(Counter::MemtableWaits),
        Value::Float(lsm.stats().get(Counter::StallMicros) as f64 / 1000.0),
        count(Counter::JobErrors),
        big(background.running),
        big(background.running_bytes),
        big(background.debt_bytes),
        big(background.l0_runs),
        big(background.immutable_memtables),
        nonzero(background.write_rate),
        background.disk_free.map_or(Value::Null, big),
        Value::Bool(background.disk_full),
        Value::Lsn(background.durable),
        Value::Bool(shared.armed.load(Ordering::Relaxed) != 0),
        big(shared.attached.load(Ordering::Relaxed)),
        big(lsm.cache_stats().1),
    ]);
    Datum::null()
}
