//! Making rows ready to be written, and inserting them.

use pgrx::PgSqlErrorCode;
use pgrx::pg_guard;
use pgrx::pg_sys::{self, HeapTuple, TupleTableSlot};
use ssd_engine::format::row_version::{RowKind, RowVersion};

use super::counts;
use super::modify::{check_conflict_in, stamp, written};
use super::relation::{is_logged, tree_of};
use super::{identity, sign};
use crate::error::{self, OrRaise};
use crate::ffi::externs;
use crate::link;
use crate::ops::numbers::{self, Size};
use crate::ops::tid::Tid;
use crate::ops::tuple;
use crate::ops::write::Batch;
use crate::wal::note::Action;
use crate::xact::ids::current;

/// Longest row that is kept whole: a heap's limit, which indexes and triggers rely on.
const ROW_MAX: usize = 8160;
/// Length at which wide values go to the toast table, as in a heap.
const TOAST_THRESHOLD: usize = 2032;
/// Bytes of a batch of a multi-insert.
const MULTI_BYTES: usize = 128 << 10;

/// A row ready to be written.
pub(super) struct Prepared {
    pub(super) payload: Vec<u8>,
    /// What a heap would have taken.
    pub(super) size: Size,
}

/// The row in `slot`, with its wide values moved out.
pub(super) unsafe fn prepare(
    rel: pg_sys::Relation,
    slot: *mut TupleTableSlot,
    old: HeapTuple,
    options: i32,
) -> Prepared {
    // SAFETY: the server's arguments.
    unsafe {
        let (given, free) = super::slot::heap_tuple(slot);
        (*slot).tts_tableOid = (*rel).rd_id;
        (*given).t_tableOid = (*rel).rd_id;
        let tuple = if wants_toast(rel, given, old) {
            externs::guarded(|| externs::heap_toast_insert_or_update(rel, given, old, options))
        } else {
            given
        };
        let len = ((*tuple).t_len as usize).next_multiple_of(8);
        if len > ROW_MAX {
            error::fail(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("row is too big: size {len}, maximum size {ROW_MAX}"),
                "",
            );
        }
        let mut payload = Vec::with_capacity(len);
        tuple::encode(tuple, &mut payload);
        if tuple != given {
            pg_sys::heap_freetuple(tuple);
        }
        if free {
            pg_sys::heap_freetuple(given);
        }
        Prepared { payload, size: size_of_row(rel, len as u64) }
    }
}

/// What a row of `len` bytes takes in a heap like `rel`.
pub(super) unsafe fn size_of_row(rel: pg_sys::Relation, len: u64) -> Size {
    // SAFETY: the relation is open; a table's options begin with the server's own.
    let fill = unsafe {
        let options = (*rel).rd_options.cast::<pg_sys::StdRdOptions>();
        if options.is_null() { 100 } else { (*options).fillfactor as u64 }
    };
    Size { bytes: len + 4, keep_free: 8192 * (100 - fill.min(100)) / 100 }
}

pub(super) unsafe fn has_external(tuple: HeapTuple) -> bool {
    // SAFETY: the caller's tuple.
    unsafe { !tuple.is_null() && (*(*tuple).t_data).t_infomask & pg_sys::HEAP_HASEXTERNAL as u16 != 0 }
}

pub(super) unsafe fn wants_toast(rel: pg_sys::Relation, new: HeapTuple, old: HeapTuple) -> bool {
    // SAFETY: the caller's tuples.
    unsafe {
        let kind = (*(*rel).rd_rel).relkind as u8;
        let kept = kind == pg_sys::RELKIND_RELATION || kind == pg_sys::RELKIND_MATVIEW;
        kept && (has_external(new) || has_external(old) || (*new).t_len as usize > TOAST_THRESHOLD)
    }
}

/// Inserts the row in `slot` and gives it its place.
#[pg_guard]
pub unsafe extern "C-unwind" fn insert(
    rel: pg_sys::Relation,
    slot: *mut TupleTableSlot,
    cid: u32,
    options: i32,
    _bistate: *mut pg_sys::BulkInsertStateData,
) {
    // SAFETY: the server's arguments.
    unsafe { insert_all(rel, &[slot], cid, options) };
}

/// Inserts the rows in the slots and gives them their places.
#[pg_guard]
pub unsafe extern "C-unwind" fn multi_insert(
    rel: pg_sys::Relation,
    slots: *mut *mut TupleTableSlot,
    count: i32,
    cid: u32,
    options: i32,
    _bistate: *mut pg_sys::BulkInsertStateData,
) {
    // SAFETY: the server's arguments.
    unsafe { insert_all(rel, std::slice::from_raw_parts(slots, count as usize), cid, options) };
}

unsafe fn insert_all(rel: pg_sys::Relation, slots: &[*mut TupleTableSlot], cid: u32, options: i32) {
    // SAFETY: the server's arguments.
    unsafe {
        let (lsm, tree, logged) = (link::writer().store.lsm(), tree_of(rel), is_logged(rel));
        let stamp = (options & pg_sys::TABLE_INSERT_FROZEN as i32 == 0).then(|| stamp(cid));
        // A frozen row is written by a transaction, too, which has to have an id for its commit to be waited for.
        let _ = current();
        check_conflict_in(rel, None);
        let rows: Vec<_> = slots.iter().map(|&slot| prepare(rel, slot, std::ptr::null_mut(), options)).collect();
        let roots = numbers::take(lsm, tree, rows.iter().map(|row| row.size)).or_raise();
        sign::make(rel);
        let mut batch = Batch::default();
        let is_decodable = options & pg_sys::TABLE_INSERT_NO_LOGICAL as i32 == 0;
        for ((row, &slot), root) in rows.iter().zip(slots).zip(roots) {
            if batch.bytes().len() > MULTI_BYTES {
                if is_decodable {
                    identity::note(&mut batch, rel, Action::InsertMore, &[]);
                }
                batch.write(lsm, logged).or_raise();
                batch.clear();
            }
            let version = RowVersion { kind: RowKind::Put, number: 0, stamp, payload: &row.payload };
            batch.version(&root.full_key(tree), &version);
            written(rel, slot, Tid::of_root(root), stamp);
        }
        if is_decodable {
            identity::note(&mut batch, rel, Action::Insert, &[]);
        }
        batch.write(lsm, logged).or_raise();
        counts::inserted(rel, rows.len() as i64);
    }
}
