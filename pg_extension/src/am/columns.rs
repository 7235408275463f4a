//! Which columns an update changes, and heap tuples of old rows.

use pgrx::pg_sys::{self, HeapTuple, IndexAttrBitmapKind, TupleTableSlot};

use crate::error;
use crate::ffi::externs;
use crate::ops::tid::Tid;
use crate::ops::tuple::{self, Header};

/// A row as the server's functions take it.
pub struct HeapRow {
    /// The header of the server's, and behind it the tuple: words, since both are aligned so.
    memory: Vec<u64>,
}

impl HeapRow {
    const START: usize = size_of::<pg_sys::HeapTupleData>().div_ceil(size_of::<u64>());

    /// The row of `rel` at `tid`, whose bytes are `row`.
    ///
    /// # Safety
    /// `rel` is open.
    #[must_use]
    pub unsafe fn new(rel: pg_sys::Relation, tid: Tid, row: &[u8]) -> Self {
        let Some(len) = tuple::heap_len(row) else {
            error::fail(pgrx::PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of ssdlsm is too short", "");
        };
        let mut memory = vec![0; Self::START + len.div_ceil(size_of::<u64>())];
        // SAFETY: there is room for both parts.
        unsafe {
            let data = memory.as_mut_ptr().add(Self::START);
            tuple::decode(row, &Header { xmin: 0, xmax: 0, command: 0, ctid: tid.encode() }, data.cast());
            memory.as_mut_ptr().cast::<pg_sys::HeapTupleData>().write(pg_sys::HeapTupleData {
                t_len: len as u32,
                t_self: tid.encode(),
                t_tableOid: (*rel).rd_id,
                t_data: data.cast(),
            });
        }
        Self { memory }
    }

    /// The tuple, which lives as long as this.
    pub fn tuple(&mut self) -> HeapTuple {
        self.memory.as_mut_ptr().cast()
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

/// Columns by number, counted from the lowest system column: a set of the server's.
#[derive(Clone, Copy)]
struct Columns<'r>(&'r [pg_sys::bitmapword]);

impl<'r> Columns<'r> {
    /// # Safety
    /// `set` is null or lives as long as this.
    const unsafe fn of(set: *const pg_sys::Bitmapset) -> Self {
        if set.is_null() {
            return Self(&[]);
        }
        // SAFETY: the caller's promise; the words stand behind their count.
        unsafe { Self(std::slice::from_raw_parts((&raw const (*set).words).cast(), (*set).nwords as usize)) }
    }

    fn has(self, bit: u32) -> bool {
        self.0
            .get((bit / pg_sys::bitmapword::BITS) as usize)
            .is_some_and(|word| word >> (bit % pg_sys::bitmapword::BITS) & 1 == 1)
    }

    fn iter(self) -> impl Iterator<Item = u32> + 'r {
        (0..self.0.len() as u32 * pg_sys::bitmapword::BITS).filter(move |&bit| self.has(bit))
    }
}

/// The columns that an index needs, and those that foreign keys may refer to, as the cache of relations has them until the next look
/// at the catalog. Nothing without indexes.
unsafe fn of_indexes<'r>(rel: pg_sys::Relation) -> Option<(Columns<'r>, Columns<'r>)> {
    // SAFETY: the relation is open; the first call is guarded, and fills the cache beside its copy.
    unsafe {
        if (*rel).rd_indexattr.is_null() {
            if !(*(*rel).rd_rel).relhasindex {
                return None;
            }
            let copy = pg_sys::RelationGetIndexAttrBitmap(rel, IndexAttrBitmapKind::INDEX_ATTR_BITMAP_ALL);
            pg_sys::bms_free(copy);
        }
        Some((Columns::of((*rel).rd_indexattr), Columns::of((*rel).rd_keyattr)))
    }
}

/// Compares the old row with the new one, in the columns that indexes know.
///
/// # Safety
/// `rel` is open, `old` one of its rows, `new` a slot with another.
pub unsafe fn changed(rel: pg_sys::Relation, old: HeapTuple, new: *mut TupleTableSlot) -> Changed {
    let mut out = Changed::default();
    // SAFETY: the caller's promise.
    unsafe {
        let Some((indexed, key)) = of_indexes(rel) else { return out };
        for bit in indexed.iter() {
            let number = bit as i32 + pg_sys::FirstLowInvalidHeapAttributeNumber;
            let differs = match usize::try_from(number) {
                // The whole row, or the rare system column other than the table's.
                Ok(0) => true,
                Err(_) => number != pg_sys::TableOidAttributeNumber,
                Ok(number) => differs((*rel).rd_att, number, old, new),
            };
            out.indexed |= differs;
            out.key |= differs && key.has(bit);
        }
    }
    out
}

/// Whether attribute `number` (from 1) is another one in the new row, by its bytes.
unsafe fn differs(descriptor: pg_sys::TupleDesc, number: usize, old: HeapTuple, new: *mut TupleTableSlot) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        match (of_tuple(descriptor, number, old), attribute(new, number as i32)) {
            (None, None) => false,
            (Some(old), Some(new)) => {
                let attribute = description(descriptor, number - 1);
                !externs::datumIsEqual(old, new, attribute.attbyval, attribute.attlen.into())
            }
            _ => true,
        }
    }
}

/// Attribute `number` (from 1) of a tuple; `None` when it is null.
unsafe fn of_tuple(descriptor: pg_sys::TupleDesc, number: usize, tuple: HeapTuple) -> Option<pg_sys::Datum> {
    // SAFETY: the caller's tuple has the attributes that its header says; the others are in the descriptor (a guarded call).
    unsafe {
        let header = &*(*tuple).t_data;
        if number > usize::from(header.t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16) {
            let mut is_null = false;
            let missing = pg_sys::getmissingattr(descriptor, number as i32, &raw mut is_null);
            return (!is_null).then_some(missing);
        }
        let bit = number - 1;
        let has_nulls = header.t_infomask & pg_sys::HEAP_HASNULL as u16 != 0;
        if has_nulls && *(&raw const header.t_bits).cast::<u8>().add(bit / 8) >> (bit % 8) & 1 == 0 {
            return None;
        }
        Some(externs::nocachegetattr(tuple, number as i32, descriptor))
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
