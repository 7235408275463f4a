//! Which columns an update changes, and heap tuples of old rows.

use pgrx::pg_sys::{self, HeapTuple, IndexAttrBitmapKind, TupleTableSlot};

use crate::error;
use crate::ffi::externs;
use crate::ops::tid::Tid;
use crate::ops::tuple::{self, Header};

/// A heap tuple of `row` in memory of the present context.
///
/// # Safety
/// `rel` is open.
pub unsafe fn heap_tuple(rel: pg_sys::Relation, tid: Tid, row: &[u8]) -> HeapTuple {
    let Some(len) = tuple::heap_len(row) else {
        error::fail(pgrx::PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of ssdlsm is too short", "");
    };
    // SAFETY: one piece of memory for both, aligned; `heap_freetuple` frees it.
    unsafe {
        let start = size_of::<pg_sys::HeapTupleData>().next_multiple_of(8);
        let memory = pg_sys::palloc(start + len).cast::<u8>();
        let data = memory.add(start);
        tuple::decode(row, &Header { xmin: 0, xmax: 0, command: 0, ctid: tid.encode() }, data);
        let out: HeapTuple = memory.cast();
        (*out).t_len = len as u32;
        (*out).t_self = tid.encode();
        (*out).t_tableOid = (*rel).rd_id;
        (*out).t_data = data.cast();
        out
    }
}

/// What an update changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// A column that foreign keys may refer to.
    pub key: bool,
    /// A column that an index needs.
    pub indexed: bool,
}

/// Compares the old row with the new one, in the columns that indexes know.
///
/// # Safety
/// `rel` is open, `old` one of its rows, `new` a slot with another.
pub unsafe fn changed(rel: pg_sys::Relation, old: HeapTuple, new: *mut TupleTableSlot) -> Changed {
    // SAFETY: the caller's promise; calls are guarded.
    unsafe {
        let indexed = pg_sys::RelationGetIndexAttrBitmap(rel, IndexAttrBitmapKind::INDEX_ATTR_BITMAP_ALL);
        if indexed.is_null() {
            return Changed::default();
        }
        let key = pg_sys::RelationGetIndexAttrBitmap(rel, IndexAttrBitmapKind::INDEX_ATTR_BITMAP_KEY);
        let descriptor = (*rel).rd_att;
        let natts = (*descriptor).natts as usize;
        let mut values = vec![pg_sys::Datum::from(0usize); natts];
        let mut nulls = vec![false; natts];
        pg_sys::heap_deform_tuple(old, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        deform(new, natts);
        let mut out = Changed::default();
        let mut bit = -1;
        loop {
            bit = pg_sys::bms_next_member(indexed, bit);
            if bit < 0 {
                break;
            }
            let number = bit + pg_sys::FirstLowInvalidHeapAttributeNumber;
            let differs = match usize::try_from(number) {
                // The whole row, or the rare system column other than the table's.
                Ok(0) => true,
                Err(_) => number != pg_sys::TableOidAttributeNumber,
                Ok(number) => {
                    let at = number - 1;
                    let (new_null, new_value) = (*(*new).tts_isnull.add(at), *(*new).tts_values.add(at));
                    let attribute = description(descriptor, at);
                    nulls[at] != new_null
                        || (!new_null
                            && !externs::datumIsEqual(
                                values[at],
                                new_value,
                                attribute.attbyval,
                                i32::from(attribute.attlen),
                            ))
                }
            };
            if differs {
                out.indexed = true;
                out.key |= pg_sys::bms_is_member(bit, key);
            }
        }
        pg_sys::bms_free(indexed);
        pg_sys::bms_free(key);
        out
    }
}

/// What the catalog says of attribute `at` (from 0).
///
/// # Safety
/// `descriptor` is live and has that many attributes.
#[must_use]
pub unsafe fn description<'d>(descriptor: pg_sys::TupleDesc, at: usize) -> &'d pg_sys::FormData_pg_attribute {
    // SAFETY: the caller's promise.
    unsafe { &*(&raw const (*descriptor).attrs).cast::<pg_sys::FormData_pg_attribute>().add(at) }
}

/// Makes the first `count` attributes of `slot` readable.
///
/// # Safety
/// `slot` is live and not empty.
pub unsafe fn deform(slot: *mut TupleTableSlot, count: usize) {
    // SAFETY: guarded; the caller's promise.
    unsafe {
        if ((*slot).tts_nvalid as usize) < count {
            pg_sys::slot_getsomeattrs_int(slot, count as i32);
        }
    }
}

/// Attribute `number` (from 1) of `slot`; `None` when it is null.
///
/// # Safety
/// As [`deform`].
pub unsafe fn attribute(slot: *mut TupleTableSlot, number: i32) -> Option<pg_sys::Datum> {
    // SAFETY: the caller's promise.
    unsafe {
        if number <= 0 {
            let mut is_null = false;
            let ops = &*(*slot).tts_ops;
            let value = (ops.getsysattr.expect("every kind of slot has it"))(slot, number, &raw mut is_null);
            return (!is_null).then_some(value);
        }
        deform(slot, number as usize);
        let at = number as usize - 1;
        (!*(*slot).tts_isnull.add(at)).then(|| *(*slot).tts_values.add(at))
    }
}
