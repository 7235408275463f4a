//! How much room tables, levels and files take.

use std::fs;
use std::path::Path;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Relation};
use ssd_engine::Error;
use ssd_engine::base::key::split_full_key;
use ssd_engine::lsm::report::{FileStats, TreePart};
use ssd_engine::lsm::view::sst_name;

use super::set::{Rows, Value, big};
use crate::am::relation::{node_of_tree, tree_of};
use crate::error::{self, OrRaise};
use crate::ops::trees;
use crate::{handler, link};

/// Seconds from 1970 to 2000, where the server's timestamps begin.
const EPOCH_OF_SERVER: i64 = 946_684_800;

/// The table that is the call's first argument; `None` when there is none any more. Raises an error when it is not one of ours.
unsafe fn open(call: FunctionCallInfo) -> Option<Relation> {
    // SAFETY: guarded; the function is declared with a regclass first, and strict.
    unsafe {
        let oid = pgrx::pg_getarg_datum_raw(call, 0);
        let oid = pg_sys::Oid::from(oid.value() as u32);
        let rel = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32);
        if rel.is_null() {
            return None;
        }
        if (*rel).rd_tableam == handler::routine() {
            return Some(rel);
        }
        let name = std::ffi::CStr::from_ptr((*(*rel).rd_rel).relname.data.as_ptr()).to_string_lossy().into_owned();
        let is_partitioned = (*(*rel).rd_rel).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        let hint = if is_partitioned {
            "It has no rows of its own; pg_partition_tree() lists its partitions."
        } else {
            "See pg_relation_size() and pg_table_size() for what is stored in files of its own."
        };
        error::fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a table of access method ssdlsm"),
            hint,
        )
    }
}

unsafe fn close(rel: Relation) {
    // SAFETY: guarded; opened by `open`.
    unsafe { pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32) };
}

/// `ssdlsm_table_size(regclass)`.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn table(call: FunctionCallInfo) -> Datum {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(rel) = open(call) else { return pgrx::pg_return_null(call) };
        let levels = link::lsm().tree_levels(tree_of(rel)).or_raise();
        close(rel);
        Datum::from(levels.iter().map(|part| part.bytes).sum::<u64>() as i64)
    }
}

/// `ssdlsm_tree(regclass)`: what is in memory first, then each level that has any of it.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn tree(call: FunctionCallInfo) -> Datum {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = Rows::begin(call);
        let Some(rel) = open(call) else { return Datum::null() };
        let (lsm, tree) = (link::lsm(), tree_of(rel));
        let row = |level, part: TreePart| [level, big(part.files), big(part.bytes), big(part.entries)];
        rows.add(row(Value::Null, lsm.tree_in_memory(tree)));
        for (level, part) in (0..).zip(lsm.tree_levels(tree).or_raise()) {
            if part.files > 0 {
                rows.add(row(Value::Int(level), part));
            }
        }
        close(rel);
        Datum::null()
    }
}

/// `ssdlsm_total_size()`.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn total(_call: FunctionCallInfo) -> Datum {
    let _ = link::process();
    let dir = link::directory();
    let bytes = total_of(&dir).map_err(|source| Error::io(&dir, "list", source)).or_raise();
    Datum::from(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn total_of(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        match entry?.metadata() {
            Ok(metadata) => bytes += metadata.len(),
            // Removed meanwhile.
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
            Err(failed) => return Err(failed),
        }
    }
    Ok(bytes)
}

/// `ssdlsm_levels()`.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn levels(call: FunctionCallInfo) -> Datum {
    // SAFETY: the caller's promise.
    let mut rows = unsafe { Rows::begin(call) };
    let files = link::lsm().file_stats().or_raise();
    for level in link::lsm().level_stats().or_raise() {
        let of_level = || files.iter().filter(|file| file.level == level.level);
        let sum = |of: fn(&FileStats) -> u64| big(of_level().map(of).sum::<u64>());
        let compacting = of_level().filter(|file| file.is_compacting);
        rows.add([
            Value::Int(level.level.0.into()),
            big(level.files),
            big(level.bytes),
            sum(|file| file.meta.raw_bytes),
            big(level.entries),
            sum(|file| file.meta.deletes),
            sum(|file| file.meta.range_deletes),
            big(compacting.clone().count()),
            big(compacting.map(|file| file.meta.size).sum::<u64>()),
        ]);
    }
    Datum::null()
}

/// `ssdlsm_files()`.
///
/// # Safety
/// As declared in the install script.
pub unsafe fn files(call: FunctionCallInfo) -> Datum {
    // SAFETY: the caller's promise.
    let mut rows = unsafe { Rows::begin(call) };
    for file in link::lsm().file_stats().or_raise() {
        let meta = &file.meta;
        let ([first_database, first_filenode], [last_database, last_filenode]) =
            (relation_at(&meta.smallest), relation_at(&meta.largest));
        let made = i64::try_from(meta.created_unix).unwrap_or(i64::MAX).saturating_sub(EPOCH_OF_SERVER);
        rows.add([
            Value::Int(file.level.0.into()),
            Value::Text(sst_name(meta.number)),
            big(meta.size),
            big(meta.raw_bytes),
            big(meta.entries),
            big(meta.deletes),
            big(meta.range_deletes),
            first_database,
            first_filenode,
            last_database,
            last_filenode,
            Value::Time(made.saturating_mul(1_000_000)),
            Value::Bool(file.is_compacting),
        ]);
    }
    Datum::null()
}

/// Database and file number of the relation that has `key`; nothing for trees of the library's own.
fn relation_at(key: &[u8]) -> [Value; 2] {
    match split_full_key(key) {
        Some((tree, _)) if tree >= trees::FIRST => {
            let (database, filenode) = node_of_tree(tree);
            [Value::Oid(database), Value::Oid(filenode)]
        }
        _ => [Value::Null, Value::Null],
    }
}
