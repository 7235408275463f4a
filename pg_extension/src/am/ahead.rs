//! Rows that a scan has read ahead: heap tuples, one behind the other, made straight from the engine's blocks.
//!
//! They stay where they are until the next ones are read, so a slot may point at them.

use pgrx::pg_sys;
use ssd_engine::lsm::scan::Follows;
use ssd_engine::mvcc::row_scan::{RowSink, ScannedRow};
use ssd_engine::{Error, Result};

use crate::ops::read::row_of;
use crate::ops::tid::{KEY_LEN, Root, Tid};
use crate::ops::tuple::{self, Header};

/// Block and offset of a ctid.
pub type Place = (u32, u16);

/// The rows that are still to be shown, and those before them.
#[derive(Default)]
pub struct Ahead {
    /// Each tuple begins with a word of its own, since the server aligns them so.
    memory: Vec<u64>,
    /// First word and length in bytes of each tuple.
    tuples: Vec<(u32, u32)>,
    at: usize,
    /// The first and the last place that count, when only a range of ctids does.
    pub places: Option<(Place, Place)>,
}

/// A heap tuple of those read ahead.
#[derive(Clone, Copy)]
pub struct Tuple {
    /// Where it is.
    pub data: *mut u8,
    /// Its length in bytes.
    pub len: u32,
}

impl Ahead {
    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.tuples.clear();
        self.at = 0;
    }

    /// Whether no rows were read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tuples.is_empty()
    }

    /// The place of the row that was returned last, when that is still here.
    #[inline]
    #[must_use]
    pub fn last(&self) -> Option<Root> {
        self.place(self.at.checked_sub(1)?)
    }

    /// The place of the next row, when that is here.
    #[inline]
    #[must_use]
    pub fn next(&self) -> Option<Root> {
        self.place(self.at)
    }

    #[inline]
    fn place(&self, at: usize) -> Option<Root> {
        let &(word, _) = self.tuples.get(at)?;
        // SAFETY: `put` has written a tuple there.
        let header = unsafe { &*self.memory.as_ptr().add(word as usize).cast::<pg_sys::HeapTupleHeaderData>() };
        Tid::decode(&header.t_ctid).map(|tid| tid.root)
    }

    /// The row that was returned last, when that is still here.
    #[must_use]
    pub fn shown(&mut self) -> Option<Tuple> {
        let &(word, len) = self.tuples.get(self.at.checked_sub(1)?)?;
        // SAFETY: `put` has written a tuple there. No reference is made to the memory, so that slots may go on pointing into it.
        let data = unsafe { self.memory.as_mut_ptr().add(word as usize).cast() };
        Some(Tuple { data, len })
    }

    /// The next row.
    #[inline]
    #[must_use]
    pub fn take(&mut self) -> Option<Tuple> {
        if self.at == self.tuples.len() {
            return None;
        }
        self.at += 1;
        self.shown()
    }
}

impl RowSink for Ahead {
    #[inline(always)]
    fn put(&mut self, row: &ScannedRow<'_>) -> Result<()> {
        let Some(root) = Root::from_key(row.key) else { return Ok(()) };
        let tid = Tid { root, number: row.version.number };
        if let Some((first, last)) = self.places {
            let place = (root.block, tid.encode().ip_posid);
            if place < first || place > last {
                return Ok(());
            }
        }
        let (_, bytes) = row_of(&row.version)?;
        let len = tuple::heap_len(bytes).ok_or_else(too_short)?;
        let (start, words) = (self.memory.len(), len.div_ceil(8));
        self.memory.reserve(words);
        // SAFETY: there is room for so many words behind the last one; `decode` fills all of them but the end of the last, which is
        // filled before.
        unsafe {
            let to = self.memory.as_mut_ptr().add(start);
            to.add(words - 1).write(0);
            tuple::decode(bytes, &Header::new(tid, (row.version.stamp, row.newer)), to.cast());
            self.memory.set_len(start + words);
        }
        self.tuples.push((start as u32, len as u32));
        Ok(())
    }

    const FOLLOWS: Option<Follows> = Some(follows);
}

/// Slots of a block are keys one after the other, and a table's first key is known.
#[inline]
fn follows(key: &[u8], next: &[u8]) -> bool {
    if next.len() == key.len() + KEY_LEN {
        return next.starts_with(key) && next.ends_with(&Root { block: 0, slot: 1 }.key());
    }
    match (key.split_last(), next.split_last()) {
        (Some((slot, block)), Some((next, same))) => slot.checked_add(1) == Some(*next) && block == same,
        _ => false,
    }
}

#[cold]
fn too_short() -> Error {
    Error::corruption(std::path::Path::new(""), 0, "a row of ssdlsm is too short")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssd_engine::format::row_version::{RowKind, RowVersion};

    fn put(ahead: &mut Ahead, slot: u8, payload: &[u8]) -> Result<()> {
        let key = Root { block: 7, slot }.key();
        let version = RowVersion { kind: RowKind::Put, number: 0, stamp: None, payload };
        ahead.put(&ScannedRow { key: &key, version, newer: None })
    }

    #[test]
    fn tuples_lie_aligned_and_in_order() {
        let mut ahead = Ahead { places: Some(((7, 2), (7, 4))), ..Ahead::default() };
        for slot in 1..=5 {
            // One attribute, of as many bytes as the slot's number.
            let row = [&[1, 0][..], &[slot; 5][..usize::from(slot)]].concat();
            put(&mut ahead, slot, &row).unwrap();
        }
        for slot in 2..=4u8 {
            let tuple = ahead.take().unwrap();
            assert_eq!((tuple.len, tuple.data.align_offset(8)), (24 + u32::from(slot), 0));
            // SAFETY: a tuple is as long as it says, and its header has its place.
            let (bytes, place) = unsafe {
                let header = &*tuple.data.cast::<pg_sys::HeapTupleHeaderData>();
                (std::slice::from_raw_parts(tuple.data.add(24), slot.into()), Tid::decode(&header.t_ctid))
            };
            assert_eq!(ahead.last(), place.map(|tid| tid.root));
            assert_eq!(ahead.next(), (slot < 4).then_some(Root { block: 7, slot: slot + 1 }));
            assert_eq!((bytes, place), (&[slot; 5][..slot.into()], Some(Tid::of_root(Root { block: 7, slot }))));
        }
        assert!(ahead.take().is_none(), "the fifth is out of range");
        ahead.clear();
        assert!(ahead.take().is_none());
        assert!(put(&mut ahead, 3, &[1]).is_err());
    }
}
