//! What is logged of a relation's changes for logical decoding, beside the rows themselves: what its replica identity keeps of an
//! old row.

use pgrx::pg_sys::{self, Bitmapset, Datum, HeapTuple, IndexAttrBitmapKind, TupleTableSlot};

use super::columns;
use super::relation::is_logged;
use crate::ffi::externs;
use crate::ops::tuple;
use crate::ops::write::Batch;
use crate::wal::note::{Action, Note, numbers_of};

/// Whether changes of `rel` are logged so that they can be decoded.
///
/// # Safety
/// `rel` is an open relation.
#[must_use]
pub unsafe fn is_decodable(rel: pg_sys::Relation) -> bool {
    // SAFETY: guarded; a setting of the server's start, and the caller's promise.
    unsafe {
        pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_LOGICAL as i32
            && is_logged(rel)
            && !pg_sys::IsCatalogRelation(rel)
    }
}

/// Notes in `batch` what is done to `rel`, when that is to be decodable.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn note(batch: &mut Batch, rel: pg_sys::Relation, action: Action, old: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_decodable(rel) {
            batch.note(&Note { action, node: numbers_of(&(*rel).rd_node), old });
        }
    }
}

/// What is kept of the row `old` that is deleted.
///
/// # Safety
/// `rel` is open and decodable, `old` one of its rows.
pub unsafe fn of_deleted(rel: pg_sys::Relation, old: HeapTuple) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe { kept(rel, old, &mut |_, _| true) }
}

/// What is kept of the row `old` that the one in `new` follows: the key only if it changes, or has wide values.
///
/// # Safety
/// As [`of_deleted`]; `new` is a slot with a row of the relation.
pub unsafe fn of_updated(rel: pg_sys::Relation, old: HeapTuple, new: *mut TupleTableSlot) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe {
        let descriptor = (*rel).rd_att;
        columns::deform(new, (*descriptor).natts as usize);
        kept(rel, old, &mut |at, value| {
            let (new_null, new_value) = (*(*new).tts_isnull.add(at), *(*new).tts_values.add(at));
            let Some(value) = value else { return !new_null };
            let attribute = columns::description(descriptor, at);
            let is_wide = attribute.attlen == -1 && is_external(value);
            let len = i32::from(attribute.attlen);
            new_null || is_wide || !externs::datumIsEqual(value, new_value, attribute.attbyval, len)
        })
    }
}

/// Whether the value of a type of variable width is kept elsewhere: `VARATT_IS_EXTERNAL`.
unsafe fn is_external(value: Datum) -> bool {
    // SAFETY: the caller's value is one, and not null. Its first byte is 1 for pointers to elsewhere.
    unsafe { *value.cast_mut_ptr::<u8>() == 1 }
}

/// The row as the replica identity keeps it, or nothing. A key is kept when `is_key_kept` says so for one of its columns, by number
/// from 0 and old value.
unsafe fn kept(
    rel: pg_sys::Relation,
    old: HeapTuple,
    is_key_kept: &mut dyn FnMut(usize, Option<Datum>) -> bool,
) -> Vec<u8> {
    // SAFETY: guarded; tuples are of the present memory context and freed here.
    unsafe {
        match (*(*rel).rd_rel).relreplident as u8 {
            pg_sys::REPLICA_IDENTITY_NOTHING => Vec::new(),
            pg_sys::REPLICA_IDENTITY_FULL => encoded(rel, old),
            _ => {
                let kind = IndexAttrBitmapKind::INDEX_ATTR_BITMAP_IDENTITY_KEY;
                let identity = pg_sys::RelationGetIndexAttrBitmap(rel, kind);
                let key = key_of(rel, old, identity, is_key_kept);
                pg_sys::bms_free(identity);
                if key.is_null() {
                    return Vec::new();
                }
                let out = encoded(rel, key);
                pg_sys::heap_freetuple(key);
                out
            }
        }
    }
}

/// A row with the columns in `identity` alone; null when the key is not kept.
unsafe fn key_of(
    rel: pg_sys::Relation,
    old: HeapTuple,
    identity: *mut Bitmapset,
    is_kept: &mut dyn FnMut(usize, Option<Datum>) -> bool,
) -> HeapTuple {
    // SAFETY: as in `kept`.
    unsafe {
        let descriptor = (*rel).rd_att;
        let natts = (*descriptor).natts as usize;
        let (mut values, mut nulls) = (vec![Datum::from(0usize); natts], vec![false; natts]);
        pg_sys::heap_deform_tuple(old, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        let mut keep = false;
        for at in 0..natts {
            let number = at as i32 + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber;
            if pg_sys::bms_is_member(number, identity) {
                keep |= is_kept(at, (!nulls[at]).then_some(values[at]));
            } else {
                nulls[at] = true;
            }
        }
        if !keep {
            return std::ptr::null_mut();
        }
        pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr())
    }
}

/// The bytes of a row that stands for itself: wide values are read in.
unsafe fn encoded(rel: pg_sys::Relation, row: HeapTuple) -> Vec<u8> {
    // SAFETY: as in `kept`.
    unsafe {
        let mut out = Vec::new();
        if (*(*row).t_data).t_infomask & pg_sys::HEAP_HASEXTERNAL as u16 == 0 {
            tuple::encode(row, &mut out);
            return out;
        }
        let flat = externs::guarded(|| externs::toast_flatten_tuple(row, (*rel).rd_att));
        tuple::encode(flat, &mut out);
        pg_sys::heap_freetuple(flat);
        out
    }
}
