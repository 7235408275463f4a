//! A row's bytes: what a version keeps of a heap tuple.
//!
//! ```text
//! word u16, little-endian: bits 0-10 count of attributes; 11 has nulls; 12 has variable widths; 13 has external values; 14 has a
//!     combined command
//! null bitmap, when there are nulls
//! attributes, as in a heap tuple from its t_hoff on
//! combined command u32, little-endian, if the word says so: see [`commands`](super::commands)
//! ```
//! The server's header of 23 bytes (writer, ctid, flags) is made anew when a row is read.

use pgrx::pg_sys;
use ssd_engine::format::row_version::Stamp;

use super::tid::Tid;
use crate::xact::ids::narrow;

const NATTS: u16 = 0x07FF;
const FLAGS_SHIFT: u32 = 11;
/// HEAP_HASNULL, HEAP_HASVARWIDTH and HEAP_HASEXTERNAL are the lowest bits of `t_infomask`.
const FLAGS: u16 = 0x0007;
const HAS_NULL: u16 = 1;
/// In the word.
const HAS_COMBINED: u16 = 1 << 14;
const COMBINED_LEN: usize = 4;
/// Offset of the null bitmap in a heap tuple.
const BITS: usize = 23;

/// Bytes of the header and the bitmap, aligned as the server aligns them.
#[inline]
const fn header_len(natts: usize, has_null: bool) -> usize {
    let bits = if has_null { natts.div_ceil(8) } else { 0 };
    (BITS + bits).next_multiple_of(8)
}

/// What of the server's header is not in the row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// Who wrote the version; 0 when that is forgotten, since everybody sees it.
    pub xmin: u32,
    /// Who wrote the next one; 0 when nobody has.
    pub xmax: u32,
    /// With which command.
    pub command: u32,
    /// The version's place.
    pub ctid: pg_sys::ItemPointerData,
}

impl Header {
    /// For the version at `tid` that `stamp` wrote, and `newer` the next one.
    #[inline]
    #[must_use]
    pub fn new(tid: Tid, (stamp, newer): (Option<Stamp>, Option<Stamp>)) -> Self {
        Self {
            xmin: stamp.map_or(0, |stamp| u32::from(narrow(stamp.txn))),
            xmax: newer.map_or(0, |stamp| u32::from(narrow(stamp.txn))),
            command: newer.or(stamp).map_or(0, |stamp| stamp.command.0),
            ctid: tid.encode(),
        }
    }
}

/// Appends the row in `tuple` to `out`.
///
/// # Safety
/// `tuple` is a heap tuple.
pub unsafe fn encode(tuple: pg_sys::HeapTuple, out: &mut Vec<u8>) {
    // SAFETY: the caller's promise.
    unsafe {
        let data = (*tuple).t_data;
        let natts = (*data).t_infomask2 & NATTS;
        let flags = (*data).t_infomask & FLAGS;
        out.extend_from_slice(&(natts | flags << FLAGS_SHIFT).to_le_bytes());
        let bytes = std::slice::from_raw_parts(data.cast::<u8>(), (*tuple).t_len as usize);
        if flags & HAS_NULL != 0 {
            out.extend_from_slice(&bytes[BITS..BITS + usize::from(natts).div_ceil(8)]);
        }
        out.extend_from_slice(&bytes[usize::from((*data).t_hoff)..]);
    }
}

/// Length of the heap tuple of a row; `None` for bytes that are no row.
#[inline]
#[must_use]
pub fn heap_len(row: &[u8]) -> Option<usize> {
    let word = u16::from_le_bytes(*row.first_chunk()?);
    let (natts, has_null) = (usize::from(word & NATTS), word >> FLAGS_SHIFT & HAS_NULL != 0);
    let bits = if has_null { natts.div_ceil(8) } else { 0 };
    Some(header_len(natts, has_null) + row.len().checked_sub(2 + bits + combined_len(word))?)
}

const fn combined_len(word: u16) -> usize {
    if word & HAS_COMBINED == 0 { 0 } else { COMBINED_LEN }
}

/// Adds a combined command to `row`, which has none.
pub fn add_combined(row: &mut Vec<u8>, command: u32) {
    row[1] |= (HAS_COMBINED >> 8) as u8;
    row.extend_from_slice(&command.to_le_bytes());
}

/// The combined command of `row`.
#[must_use]
pub fn combined(row: &[u8]) -> Option<u32> {
    let word = u16::from_le_bytes(*row.first_chunk()?);
    let command = row.last_chunk::<COMBINED_LEN>()?;
    (word & HAS_COMBINED != 0).then(|| u32::from_le_bytes(*command))
}

/// Writes the heap tuple of `row` to `to`, which has room for [`heap_len`] bytes aligned to 8.
///
/// # Safety
/// `row` is one that `heap_len` knows the length of, and `to` has that much room.
#[inline]
pub unsafe fn decode(row: &[u8], header: &Header, to: *mut u8) {
    let word = u16::from_le_bytes([row[0], row[1]]);
    let (natts, flags) = (word & NATTS, word >> FLAGS_SHIFT & FLAGS);
    let end = row.len() - combined_len(word);
    let has_null = flags & HAS_NULL != 0;
    let bits = if has_null { usize::from(natts).div_ceil(8) } else { 0 };
    let hoff = header_len(usize::from(natts), has_null);
    let mut infomask = flags;
    if header.xmin == 0 {
        infomask |= pg_sys::HEAP_XMIN_FROZEN as u16;
    }
    if header.xmax == 0 {
        infomask |= pg_sys::HEAP_XMAX_INVALID as u16;
    }
    // SAFETY: the caller's promise; a heap tuple header is 23 bytes, and what lies between it and `hoff` is bitmap and padding.
    unsafe {
        let data = &mut *to.cast::<pg_sys::HeapTupleHeaderData>();
        let frozen = u32::from(pg_sys::FrozenTransactionId);
        let xmin = if header.xmin == 0 { frozen } else { header.xmin };
        data.t_choice.t_heap.t_xmin = pg_sys::TransactionId::from_inner(xmin);
        data.t_choice.t_heap.t_xmax = pg_sys::TransactionId::from_inner(header.xmax);
        data.t_choice.t_heap.t_field3.t_cid = header.command;
        data.t_ctid = header.ctid;
        data.t_infomask2 = natts;
        data.t_infomask = infomask;
        data.t_hoff = hoff as u8;
        if has_null {
            std::ptr::copy_nonoverlapping(row.as_ptr().add(2), to.add(BITS), bits);
            std::ptr::write_bytes(to.add(BITS + bits), 0, hoff - BITS - bits);
        } else {
            // As above, for most rows: `hoff` is the next byte.
            to.add(BITS).write(0);
        }
        std::ptr::copy_nonoverlapping(row.as_ptr().add(2 + bits), to.add(hoff), end - 2 - bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combined_command_is_no_part_of_the_tuple() {
        // Three attributes, one of them null.
        let mut row = vec![3, 1 << 3, 0b101];
        row.extend_from_slice(&[7; 12]);
        let len = heap_len(&row);
        assert_eq!((len, combined(&row)), (Some(24 + 12), None));
        add_combined(&mut row, 9);
        assert_eq!((heap_len(&row), combined(&row)), (len, Some(9)));
        assert_eq!(heap_len(&row[..6]), None, "too short for what its word says");
        let mut tuple = [0xAA; 40];
        // SAFETY: there is room for more than `heap_len` says.
        unsafe { decode(&row, &Header::default(), tuple.as_mut_ptr()) };
        assert_eq!(tuple[24..36], [7; 12]);
        assert_eq!(tuple[36..], [0xAA; 4]);
    }
}
