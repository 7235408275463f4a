//! One record of the log: a header of 40 bytes, the stored payload, and zeros up to a multiple of 8 bytes.
//!
//! ```text
//! offset size  all integers little-endian
//!      0    4  header checksum: CRC32C of bytes 4..40, seeded with the log's id
//!      4    4  payload checksum: masked CRC32C of the stored payload
//!      8    4  length of the stored payload, at most PAYLOAD_LEN_MAX
//!     12    4  entry count: sequence numbers that the record takes
//!     16    8  position of the record itself in the log
//!     24    8  first sequence number << 8 | tag; the tag's low 7 bits are the kind, its high bit says "LZ4"
//!     32    4  unsynced: (position - synced position when the record was appended) / 8; u32::MAX: that or more
//!     36    4  length of the payload before compression; equals the stored length when the payload is not compressed
//! ```
//!
//! Invariants:
//! 1. A record starts at a multiple of 8, so its header never straddles the granule of the ring's word-wise copies.
//! 2. A record checks out only at its own position and in its own log: bytes that a recycled segment or the ring kept from
//!    earlier, and records that a user stored as values, never pass for a record.
//! 3. Every byte is covered: the header and the payload by checksums, the padding by being zero.
//! 4. Zeroed bytes are no record: kind 0 is reserved.
//!
//! The prose is in docs/formats/wal.md.

use crate::base::checksum::Checksum;
use crate::base::codec::Reader;
use crate::base::ids::{Lsn, SeqNo};

/// Bytes of a record's header.
pub const HEADER_LEN: usize = 40;

/// Records start at multiples of this many bytes.
pub const RECORD_ALIGN: usize = 8;

/// Longest payload, stored or not: sixteen of the longest values. Lengths of records fit 32 bits with room to spare.
pub const PAYLOAD_LEN_MAX: usize = 1 << 30;

/// Positions stay below this, so that arithmetic on them cannot overflow: a thousand years at a hundred MB/s.
pub const LSN_MAX: Lsn = Lsn(1 << 62);

const COMPRESSED: u8 = 0x80;

/// LZ4 cannot say more than 255 bytes with a byte, so a larger ratio is a lie (and no reason to allocate).
const RATIO_MAX: u64 = 255;

const _: () = assert!(HEADER_LEN.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(PAYLOAD_LEN_MAX + HEADER_LEN + RECORD_ALIGN < u32::MAX as usize);

/// What a record is. Tag 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Entries to apply, all or none.
    Batch = 1,
    /// A transaction began.
    Begin = 2,
    /// A transaction committed.
    Commit = 3,
    /// A transaction aborted.
    Abort = 4,
    /// Says nothing but how far the log was synced; replay skips it.
    Noop = 5,
}

impl RecordKind {
    /// The kind with tag `tag`, or `None` for a tag that no version of the format uses.
    #[must_use]
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Batch),
            2 => Some(Self::Begin),
            3 => Some(Self::Commit),
            4 => Some(Self::Abort),
            5 => Some(Self::Noop),
            _ => None,
        }
    }
}

/// Which log a record belongs to: the seed of its header checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId(u32);

impl LogId {
    /// The id of the log of the engine with this uuid.
    #[must_use]
    pub fn of(uuid: [u8; 16]) -> Self {
        Self(crc32c::crc32c(&uuid))
    }
}

/// A decoded (or yet to be encoded) header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the record is.
    pub kind: RecordKind,
    /// Whether the stored payload is LZ4.
    pub compressed: bool,
    /// Where the record starts.
    pub lsn: Lsn,
    /// The first of the sequence numbers that the record takes.
    pub first: SeqNo,
    /// How many sequence numbers the record takes.
    pub count: u32,
    /// The log was known to be on stable storage up to here (or further) when the record was appended.
    pub synced: Lsn,
    /// Length of the stored payload.
    pub stored_len: u32,
    /// Length of the payload.
    pub raw_len: u32,
    /// Checksum of the stored payload.
    pub payload_checksum: Checksum,
}

/// What stands at a position of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A header that checks out. The payload has yet to be checked.
    Header(RecordHeader),
    /// Zeros: nothing was ever written here.
    Empty,
    /// A well-formed position field of somewhere else: what a recycled segment or the ring kept from earlier.
    Stale {
        /// Where the bytes once belonged.
        lsn: Lsn,
    },
    /// Neither a record nor one of the above.
    Bad(&'static str),
    /// Fewer bytes than a header has.
    Short,
}

/// Bytes that a record with a stored payload of `stored_len` takes in the log.
#[inline]
#[must_use]
pub const fn record_len(stored_len: u32) -> u64 {
    (HEADER_LEN as u64 + stored_len as u64).next_multiple_of(RECORD_ALIGN as u64)
}

impl RecordHeader {
    /// Bytes that the record takes in the log.
    #[inline]
    #[must_use]
    pub const fn record_len(&self) -> u64 {
        record_len(self.stored_len)
    }

    /// Where the next record starts.
    #[inline]
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.lsn.plus(self.record_len())
    }

    /// The header's bytes.
    ///
    /// # Panics
    /// When the position is not aligned, lies before the synced position, or the sequence number does not fit.
    #[inline]
    #[must_use]
    pub fn encode(&self, id: LogId) -> [u8; HEADER_LEN] {
        assert!(self.lsn.0.is_multiple_of(RECORD_ALIGN as u64), "a record at an unaligned position");
        assert!(self.synced <= self.lsn, "synced beyond what is written");
        assert!(self.first <= SeqNo::MAX, "sequence numbers are used up");
        let tag = self.kind as u8 | if self.compressed { COMPRESSED } else { 0 };
        let unsynced = (self.lsn.since(self.synced).div_ceil(RECORD_ALIGN as u64)).min(u64::from(u32::MAX)) as u32;
        let mut out = [0; HEADER_LEN];
        out[4..8].copy_from_slice(&self.payload_checksum.0.to_le_bytes());
        out[8..12].copy_from_slice(&self.stored_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..24].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[24..32].copy_from_slice(&(self.first.0 << 8 | u64::from(tag)).to_le_bytes());
        out[32..36].copy_from_slice(&unsynced.to_le_bytes());
        out[36..40].copy_from_slice(&self.raw_len.to_le_bytes());
        let checksum = crc32c::crc32c_append(id.0, &out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Checks the stored bytes of the record (payload and padding, without the header).
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_payload(&self, body: &[u8]) -> Result<(), &'static str> {
        let Some((stored, padding)) = body.split_at_checked(self.stored_len as usize) else {
            return Err("record is cut short");
        };
        if body.len() as u64 + HEADER_LEN as u64 != self.record_len() {
            return Err("record is cut short");
        }
        if Checksum::of(stored) != self.payload_checksum {
            return Err("payload checksum does not match");
        }
        if padding.iter().any(|&b| b != 0) {
            return Err("padding is not zero");
        }
        Ok(())
    }

    /// The payload: the stored bytes themselves, or decompressed into `out`.
    ///
    /// # Errors
    /// What is wrong with the stored bytes.
    pub fn expand<'a>(&self, stored: &'a [u8], out: &'a mut Vec<u8>) -> Result<&'a [u8], &'static str> {
        if !self.compressed {
            return Ok(stored);
        }
        out.resize(self.raw_len as usize, 0);
        match lz4_flex::block::decompress_into(stored, out) {
            Ok(len) if len == out.len() => Ok(out),
            Ok(_) => Err("payload decompresses to another length"),
            Err(_) => Err("payload does not decompress"),
        }
    }
}

/// Says what stands at position `at` of the log `id`, given the bytes from there on.
#[must_use]
pub fn decode(bytes: &[u8], at: Lsn, id: LogId) -> Outcome {
    let Some((head, _)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Outcome::Short };
    decode_header(head, at, id).unwrap_or(Outcome::Short)
}

fn decode_header(head: &[u8; HEADER_LEN], at: Lsn, id: LogId) -> Option<Outcome> {
    let mut reader = Reader::new(head);
    let checksum = reader.u32()?;
    let covered = reader.rest();
    let payload_checksum = Checksum(reader.u32()?);
    let (stored_len, count, lsn) = (reader.u32()?, reader.u32()?, Lsn(reader.u64()?));
    let (word, unsynced, raw_len) = (reader.u64()?, reader.u32()?, reader.u32()?);
    if lsn != at {
        if head.iter().all(|&b| b == 0) {
            return Some(Outcome::Empty);
        }
        return Some(Outcome::Stale { lsn });
    }
    if crc32c::crc32c_append(id.0, covered) != checksum {
        // The zeros at position 0 carry the right position.
        let empty = head.iter().all(|&b| b == 0);
        return Some(if empty { Outcome::Empty } else { Outcome::Bad("header checksum does not match") });
    }
    let tag = (word & 0xFF) as u8;
    let compressed = tag & COMPRESSED != 0;
    let Some(kind) = RecordKind::from_tag(tag & !COMPRESSED) else {
        return Some(Outcome::Bad("record kind is unknown"));
    };
    let longest = stored_len.max(raw_len) as usize;
    let plausible =
        if compressed { u64::from(raw_len) <= u64::from(stored_len) * RATIO_MAX } else { raw_len == stored_len };
    if lsn >= LSN_MAX {
        return Some(Outcome::Bad("position is impossible"));
    }
    if longest > PAYLOAD_LEN_MAX || !plausible {
        return Some(Outcome::Bad("payload lengths are impossible"));
    }
    let back = if unsynced == u32::MAX { u64::MAX } else { u64::from(unsynced) * RECORD_ALIGN as u64 };
    let synced = Lsn(lsn.0.saturating_sub(back));
    let first = SeqNo(word >> 8);
    Some(Outcome::Header(RecordHeader {
        kind,
        compressed,
        lsn,
        first,
        count,
        synced,
        stored_len,
        raw_len,
        payload_checksum,
    }))
}

#[cfg(test)]
mod tests;
