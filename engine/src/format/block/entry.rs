//! The key half of one entry of a data block: its header, and decoding it without a varint in the common case.
//!
//! ```text
//! short: head u32 = shared (8 bits) | unshared (8) | value length (12) | trailer length (4, 1 to 8)
//!        trailer (1 to 8 bytes, little-endian, no zero byte on top) | key suffix
//! long:  head u32 = 0 | varint shared | varint unshared | varint value length | varint trailer | key suffix
//! ```
//!
//! The head tells the whole extent of a short entry from one load, so walking a block is a chain of loads and adds. A
//! zeroed sequence number leaves one byte of trailer. Zeroed memory decodes as a long entry with trailer 0, whose kind is
//! reserved, and is refused.

use crate::base::codec::{Reader, push_varint};
use crate::base::key::Trailer;

const SHARED_BITS: u32 = 8;
const UNSHARED_BITS: u32 = 8;
const VALUE_BITS: u32 = 12;

/// An entry's place in a payload; all offsets count from the payload's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Bytes of key shared with the entry before it.
    pub shared: usize,
    /// Offset of the key's own bytes.
    pub suffix: usize,
    /// Offset behind the key's own bytes: of the next entry.
    pub end: usize,
    /// Bytes of the value.
    pub value_len: usize,
    /// Sequence and kind.
    pub trailer: Trailer,
}

#[inline]
fn load_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Decodes the entry at `at`, which must end at or before `limit`. The payload has at least eight bytes behind `limit`.
#[inline]
pub(super) fn decode(payload: &[u8], at: usize, limit: usize) -> Option<Entry> {
    let head = load_u64(payload, at)? as u32;
    let trailer_len = head >> (SHARED_BITS + UNSHARED_BITS + VALUE_BITS);
    // A zero (the long form) wraps around and leaves this path as lengths above 8 do.
    if trailer_len.wrapping_sub(1) >= 8 {
        return if head == 0 { decode_long(payload, at + 4, limit) } else { None };
    }
    let trailer = load_u64(payload, at + 4)? & (u64::MAX >> (64 - 8 * trailer_len));
    let suffix = at + 4 + trailer_len as usize;
    let end = suffix + ((head >> SHARED_BITS) & 0xFF) as usize;
    if end > limit {
        return None;
    }
    let value_len = ((head >> (SHARED_BITS + UNSHARED_BITS)) & 0xFFF) as usize;
    Some(Entry { shared: (head & 0xFF) as usize, suffix, end, value_len, trailer: Trailer(trailer) })
}

#[cold]
fn decode_long(payload: &[u8], at: usize, limit: usize) -> Option<Entry> {
    let mut reader = Reader::new(payload.get(at..limit)?);
    let shared = reader.varint32()? as usize;
    let unshared = reader.varint32()? as usize;
    let value_len = reader.varint32()? as usize;
    let trailer = Trailer(reader.varint()?);
    let suffix = limit - reader.rest().len();
    let end = suffix.checked_add(unshared)?;
    (end <= limit).then_some(Entry { shared, suffix, end, value_len, trailer })
}

/// Bytes of a trailer without the zero bytes on top; at least one.
#[inline]
const fn trailer_len(trailer: Trailer) -> usize {
    8 - (trailer.0 | 1).leading_zeros() as usize / 8
}

/// Whether the short form holds these lengths.
#[inline]
const fn is_short(shared: usize, unshared: usize, value_len: usize) -> bool {
    shared < 1 << SHARED_BITS && unshared < 1 << UNSHARED_BITS && value_len < 1 << VALUE_BITS
}

/// An upper bound of the bytes that [`push`] appends and the value, exact for the short form.
#[inline]
pub(super) const fn len_bound(shared: usize, unshared: usize, value_len: usize, trailer: Trailer) -> usize {
    let head = if is_short(shared, unshared, value_len) { 4 + trailer_len(trailer) } else { 4 + 3 * 5 + 10 };
    head + unshared + value_len
}

/// Appends the key half of an entry that shares `shared` bytes of key with the one before it.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, shared: usize, suffix: &[u8], trailer: Trailer, value_len: usize) {
    if is_short(shared, suffix.len(), value_len) {
        let trailer_len = trailer_len(trailer);
        let head = shared as u32
            | (suffix.len() as u32) << SHARED_BITS
            | (value_len as u32) << (SHARED_BITS + UNSHARED_BITS)
            | (trailer_len as u32) << (SHARED_BITS + UNSHARED_BITS + VALUE_BITS);
        out.extend_from_slice(&head.to_le_bytes());
        out.extend_from_slice(&trailer.0.to_le_bytes()[..trailer_len]);
    } else {
        out.extend_from_slice(&[0; 4]);
        push_varint(out, shared as u64);
        push_varint(out, suffix.len() as u64);
        push_varint(out, value_len as u64);
        push_varint(out, trailer.0);
    }
    out.extend_from_slice(suffix);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::SeqNo;
    use crate::base::key::Kind;

    #[test]
    fn entries_of_every_size_round_trip() {
        let trailers = [0, 1, 255, 256, (1 << 40) + 5, SeqNo::MAX.0].map(|s| Trailer::new(SeqNo(s), Kind::Put));
        for (shared, unshared, value_len) in
            [(0, 1, 0), (255, 255, 4095), (256, 1, 1), (0, 256, 1), (1, 1, 4096), (16_000, 3, 100_000)]
        {
            for trailer in trailers {
                let suffix = vec![7; unshared];
                let mut out = vec![0xEE; 3];
                push(&mut out, shared, &suffix, trailer, value_len);
                let limit = out.len();
                assert!(limit - 3 + value_len <= len_bound(shared, unshared, value_len, trailer));
                out.extend_from_slice(&[0xFF; 8]);
                let entry = decode(&out, 3, limit).unwrap();
                assert_eq!((entry.shared, entry.trailer, entry.end), (shared, trailer, limit));
                assert_eq!((&out[entry.suffix..entry.end], entry.value_len), (&suffix[..], value_len));
                assert!(decode(&out, 3, limit - 1).is_none(), "entry beyond the limit");
            }
        }
    }
}
