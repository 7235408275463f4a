//! The first 4 KiB of a log segment: which part of the log the file holds, and whose log it is.
//!
//! ```text
//! offset size  all integers little-endian
//!      0    8  magic "ssdb-wal"
//!      8    4  format version, 1
//!     12    4  feature bits; a reader refuses bits that it does not know
//!     16    8  segment number, from 1
//!     24    8  position of the first byte of data: (number - 1) × data bytes
//!     32    8  data bytes that follow the header; the file has exactly 4096 + this many bytes
//!     40   16  uuid of the engine
//!     56 4036  zero
//!   4092    4  masked CRC32C of bytes 0..4092
//! ```
//!
//! Invariant: a file gets its segment name only when its header and its full length are on stable storage, so a file of
//! that name with another header or length is damaged.

use crate::base::checksum::Checksum;
use crate::base::codec::Reader;
use crate::base::ids::Lsn;
use crate::base::limits::IO_ALIGN;

/// Bytes of the header: one unit of direct I/O.
pub const SEGMENT_HEADER_LEN: usize = IO_ALIGN;

const MAGIC: &[u8; 8] = b"ssdb-wal";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = SEGMENT_HEADER_LEN - 4;
const FIELDS_LEN: usize = 56;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number, from 1.
    pub number: u64,
    /// Data bytes of the segment.
    pub data_len: u64,
    /// The engine that the log belongs to.
    pub uuid: [u8; 16],
}

impl SegmentHeader {
    /// Position of the first byte of data.
    #[must_use]
    pub const fn start(&self) -> Lsn {
        Lsn((self.number - 1) * self.data_len)
    }

    /// Fills the first [`SEGMENT_HEADER_LEN`] bytes of `out`.
    pub fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..SEGMENT_HEADER_LEN];
        out.fill(0);
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.start().0.to_le_bytes());
        out[32..40].copy_from_slice(&self.data_len.to_le_bytes());
        out[40..56].copy_from_slice(&self.uuid);
        let checksum = Checksum::of(&out[..CHECKSUM_AT]);
        out[CHECKSUM_AT..].copy_from_slice(&checksum.0.to_le_bytes());
    }

    /// Reads a header.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some((bytes, _)) = bytes.split_first_chunk::<SEGMENT_HEADER_LEN>() else {
            return Err("segment header is cut short");
        };
        let (covered, stored) = bytes.split_at(CHECKSUM_AT);
        if !covered.starts_with(MAGIC) {
            return Err("not a log segment");
        }
        if stored != Checksum::of(covered).0.to_le_bytes() {
            return Err("segment header checksum does not match");
        }
        Self::fields(&covered[MAGIC.len()..FIELDS_LEN]).unwrap_or(Err("segment header is cut short"))
    }

    fn fields(bytes: &[u8]) -> Option<Result<Self, &'static str>> {
        let mut reader = Reader::new(bytes);
        let (version, features) = (reader.u32()?, reader.u32()?);
        let (number, start, data_len) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (uuid, _) = reader.bytes(16)?.split_first_chunk::<16>()?;
        if version != VERSION {
            return Some(Err("segment has a format version that this version of the engine does not know"));
        }
        if features != 0 {
            return Some(Err("segment uses features that this version of the engine does not know"));
        }
        if data_len == 0 || !data_len.is_multiple_of(IO_ALIGN as u64) {
            return Some(Err("segment length is impossible"));
        }
        if number.checked_sub(1).and_then(|index| index.checked_mul(data_len)) != Some(start) {
            return Some(Err("segment start does not follow from its number"));
        }
        Some(Ok(Self { number, data_len, uuid: *uuid }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader { number: 3, data_len: 1 << 20, uuid: *b"0123456789abcdef" };

    fn encoded() -> Vec<u8> {
        let mut out = vec![0xEE; SEGMENT_HEADER_LEN];
        HEADER.encode(&mut out);
        out
    }

    #[test]
    fn golden() {
        let bytes = encoded();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(&bytes[..FIELDS_LEN]),
            "737364622d77616c0100000000000000030000000000000000002000000000000000100000000000\
             30313233343536373839616263646566"
        );
        assert!(bytes[FIELDS_LEN..CHECKSUM_AT].iter().all(|&b| b == 0));
        assert_eq!(hex(&bytes[CHECKSUM_AT..]), "6a9f612d");
    }

    #[test]
    fn round_trip_and_every_flip_is_noticed() {
        let bytes = encoded();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(HEADER));
        assert_eq!(HEADER.start(), Lsn(2 << 20));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(SegmentHeader::decode(&flipped).is_err(), "byte {at}");
        }
        assert!(SegmentHeader::decode(&bytes[..100]).is_err());
    }

    #[test]
    fn unknown_versions_and_features_are_refused() {
        for (at, what) in [(8, "version"), (12, "features"), (24, "start"), (32, "length")] {
            let mut bytes = encoded();
            bytes[at] ^= 4;
            let checksum = Checksum::of(&bytes[..CHECKSUM_AT]);
            bytes[CHECKSUM_AT..].copy_from_slice(&checksum.0.to_le_bytes());
            assert!(SegmentHeader::decode(&bytes).is_err(), "{what}");
        }
    }
}
