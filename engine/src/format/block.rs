//! How a block is stored (compression, type, checksum), and how the entries of a data block are laid out.
//!
//! ```text
//! stored block:  payload | type u8 | raw length u32 | checksum u32          (little-endian)
//! data payload:  keys | values | restarts (u16, u16) × R | buckets u8 × B
//!                | keys length u32 | R u16 | B u16 | entry count u32
//! ```
//!
//! Keys (with lengths and trailers) and values stand apart, each in the order of the entries: a lookup walks a few keys that
//! are close together, and of the values it touches only the one it wants.
//!
//! docs/formats/block.md has every byte.
//!
//! Invariants:
//! 1. The checksum covers the payload as stored, the type byte and the raw length: every byte but itself.
//! 2. Entries strictly rise: full key ascending, then trailer descending.
//! 3. Every restart points at an entry that shares nothing; the first restart is 0. Between restarts an entry may share a
//!    prefix with the one before it.
//! 4. A block longer than the block limit has exactly one entry (a jumbo block).
//! 5. When there are buckets, every key of the block is found through its bucket: the bucket names the only restart
//!    interval that holds the key, or says that there is more than one candidate.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::base::checksum::Checksum;
use crate::base::limits::{BLOCK_SIZE_MAX, KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::format::Decoded;

pub mod builder;
pub mod entry;
pub mod iter;

/// Bytes that a stored block has behind its payload.
pub const STORED_TAIL_LEN: usize = 9;

/// Bytes of a data payload behind its buckets.
pub const COUNTS_LEN: usize = 12;

/// Bytes of a restart: offset in the keys and offset in the values.
const RESTART_LEN: usize = 4;

/// Longest payload before compression: one entry with the longest key and value, and room for headers.
pub const RAW_LEN_MAX: usize = VALUE_LEN_MAX + KEY_LEN_MAX + 1024;

/// Bucket without a key.
pub const BUCKET_EMPTY: u8 = 255;
/// Bucket of keys in more than one restart interval.
pub const BUCKET_COLLISION: u8 = 254;
/// Most restart intervals that buckets can name.
pub const BUCKET_RESTARTS_MAX: usize = 254;

// Restart offsets are 16 bits: every entry of a block within the limit starts below 64 KiB.
const _: () = assert!(BLOCK_SIZE_MAX <= 1 << 16);

/// What a stored block holds. Tag 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockType {
    /// Entries.
    Data = 1,
    /// A partition of the index.
    Index = 2,
    /// A partition of the filter.
    Filter = 3,
}

/// Upper half of the type byte: stored as is.
const PLAIN: u8 = 1 << 4;
/// Upper half of the type byte: an LZ4 block without a frame.
const LZ4: u8 = 2 << 4;

/// Where a stored block is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BlockHandle {
    /// Offset of the first stored byte.
    pub offset: u64,
    /// Bytes stored, with the tail.
    pub stored_len: u32,
    /// Bytes of the payload before compression.
    pub raw_len: u32,
}

impl BlockHandle {
    /// The offset behind the stored block.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.stored_len as u64
    }
}

/// Turns payloads into stored blocks; keeps the compressor's table between blocks.
pub struct Sealer {
    table: Option<CompressTable>,
}

impl Sealer {
    /// A sealer that tries LZ4 on each block, or never.
    #[must_use]
    pub fn new(compress: bool) -> Self {
        Self { table: compress.then(CompressTable::large) }
    }

    /// Appends the stored form of `raw` to `out`; returns its length. LZ4 is kept only when it saves at least 12 %.
    ///
    /// # Panics
    /// When `raw` is longer than [`RAW_LEN_MAX`].
    pub fn seal(&mut self, raw: &[u8], kind: BlockType, out: &mut Vec<u8>) -> u32 {
        assert!(raw.len() <= RAW_LEN_MAX, "a payload beyond the longest entry");
        let start = out.len();
        let compression = if self.compress(raw, out) { LZ4 } else { PLAIN };
        if compression == PLAIN {
            out.extend_from_slice(raw);
        }
        out.push(kind as u8 | compression);
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        let checksum = Checksum::of(&out[start..]);
        out.extend_from_slice(&checksum.0.to_le_bytes());
        (out.len() - start) as u32
    }

    /// Appends `raw` compressed; takes it back and returns false when that is not worth it.
    fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(table) = &mut self.table else { return false };
        let start = out.len();
        out.resize(start + get_maximum_output_size(raw.len()), 0);
        let len = compress_into_with_table(raw, &mut out[start..], table).unwrap_or(usize::MAX);
        let worth_it = len <= raw.len() / 100 * 88;
        out.truncate(if worth_it { start + len } else { start });
        worth_it
    }
}

/// A stored block whose checksum and type have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    payload: &'a [u8],
    raw_len: usize,
    compressed: bool,
}

impl<'a> Stored<'a> {
    /// Checks a stored block of type `kind`.
    ///
    /// # Errors
    /// The reason when the bytes are not a stored block of that type.
    pub fn check(stored: &'a [u8], kind: BlockType) -> Decoded<Self> {
        let (covered, checksum) = stored.split_last_chunk().ok_or("block is shorter than its tail")?;
        let (head, raw_len) = covered.split_last_chunk().ok_or("block is shorter than its tail")?;
        let (&tag, payload) = head.split_last().ok_or("block is shorter than its tail")?;
        if Checksum::of(covered).0 != u32::from_le_bytes(*checksum) {
            return Err("block checksum mismatch");
        }
        if tag & 0x0F != kind as u8 {
            return Err("block is of another type than expected");
        }
        let raw_len = u32::from_le_bytes(*raw_len) as usize;
        let compressed = match tag & 0xF0 {
            PLAIN if raw_len == payload.len() => false,
            PLAIN => return Err("plain block has a wrong raw length"),
            // A byte of LZ4 yields at most 255.
            LZ4 if raw_len <= RAW_LEN_MAX && raw_len / 255 <= payload.len() => true,
            LZ4 => return Err("compressed block claims an impossible raw length"),
            _ => return Err("block has an unknown compression"),
        };
        Ok(Self { payload, raw_len, compressed })
    }

    /// Bytes of the payload before compression.
    #[must_use]
    pub const fn raw_len(&self) -> usize {
        self.raw_len
    }

    /// Whether the payload is stored compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Writes the payload before compression to the start of `out`; returns its length.
    ///
    /// # Errors
    /// The reason when it does not fit or does not decompress to its raw length.
    pub fn open(&self, out: &mut [u8]) -> Decoded<usize> {
        let out = out.get_mut(..self.raw_len).ok_or("block is longer than its place")?;
        if !self.compressed {
            out.copy_from_slice(self.payload);
        } else if decompress_into(self.payload, out).ok() != Some(self.raw_len) {
            return Err("block does not decompress to its raw length");
        }
        Ok(self.raw_len)
    }

    /// Replaces the contents of `out` by the payload before compression.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_vec(&self, out: &mut Vec<u8>) -> Decoded<()> {
        if self.compressed {
            out.resize(self.raw_len, 0);
            self.open(out)?;
        } else {
            out.clear();
            out.extend_from_slice(self.payload);
        }
        Ok(())
    }
}

/// Checks a stored block and writes its payload to the start of `out`; returns the payload's length.
///
/// # Errors
/// As [`Stored::check`] and [`Stored::open`].
pub fn open(stored: &[u8], kind: BlockType, out: &mut [u8]) -> Decoded<usize> {
    Stored::check(stored, kind)?.open(out)
}

/// The bucket of a key with hash `hash` among `buckets`.
#[inline]
#[must_use]
pub(crate) const fn bucket_of(hash: u64, buckets: usize) -> usize {
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

#[cfg(test)]
mod tests;
