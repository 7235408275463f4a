//! Index blocks: separators with the handles of the blocks they end, arranged for binary search over integers.
//!
//! ```text
//! count u32 | prefix length u16 | 0 u16 | prefix | heads u64 (big-endian) × count | ends u32 × count | records
//! record:  varint suffix length | suffix bytes from the ninth on | varint trailer
//!          | varint offset | varint stored length | varint (raw length - stored length + tail)
//! ```
//!
//! A separator is the prefix, which all of the block share, and a suffix. The suffix's first eight bytes, padded with
//! zeros, are its head: a search runs over the heads alone and looks at records only where heads are equal. The partitions
//! of an SST's index and its top index have the same form.
//!
//! Invariants:
//! 1. Separators with their trailers strictly rise in the order of internal keys.
//! 2. (last key, last trailer) of a block <= (separator, trailer) < (first key, first trailer) of the next block. Where the
//!    versions of one key straddle two blocks, the separator is that key and the trailer the last one of the first block;
//!    otherwise the trailer is 0, which is behind all versions of the separator.
//! 3. So the first entry at or behind (key, bound) names the only block that can hold the newest version of key that is not
//!    above bound.

use std::cmp::Ordering;

use crate::base::codec::{Reader, push_varint, varint_len};
use crate::base::key::{Trailer, common_prefix_len};
use crate::format::Decoded;
use crate::format::block::{BlockHandle, RAW_LEN_MAX, STORED_TAIL_LEN};

const DAMAGED: &str = "index record is damaged";
const HEADER_LEN: usize = 8;
const HEAD_LEN: usize = 8;
/// Bytes per entry outside its record.
const FIXED_LEN: usize = HEAD_LEN + 4;

/// A parsed index block.
#[derive(Clone, Copy, Debug)]
pub struct IndexBlock<'a> {
    prefix: &'a [u8],
    heads: &'a [[u8; HEAD_LEN]],
    ends: &'a [[u8; 4]],
    records: &'a [u8],
}

struct Record<'a> {
    suffix_len: usize,
    tail: &'a [u8],
    trailer: Trailer,
    handle: Reader<'a>,
}

/// The first eight bytes of `suffix`, padded with zeros, as a number that orders like them.
#[inline]
fn head_of(suffix: &[u8]) -> u64 {
    if let Some(first) = suffix.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut head = [0; HEAD_LEN];
    head[..suffix.len()].copy_from_slice(suffix);
    u64::from_be_bytes(head)
}

impl<'a> IndexBlock<'a> {
    /// Splits a payload into its parts.
    ///
    /// # Errors
    /// The reason when they do not fit.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Decoded<Self> {
        Self::split(payload).ok_or("index block is shorter than its counts say")
    }

    #[inline]
    fn split(payload: &'a [u8]) -> Option<Self> {
        let (header, rest) = payload.split_first_chunk::<HEADER_LEN>()?;
        let header = u64::from_le_bytes(*header);
        let (count, prefix_len) = ((header & 0xFFFF_FFFF) as usize, (header >> 32) as usize);
        let (prefix, rest) = rest.split_at_checked(prefix_len)?;
        let (heads, rest) = rest.split_at_checked(count * HEAD_LEN)?;
        let (ends, records) = rest.split_at_checked(count * 4)?;
        Some(Self { prefix, heads: heads.as_chunks().0, ends: ends.as_chunks().0, records })
    }

    /// Count of entries.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    #[inline]
    fn record(&self, at: usize) -> Option<Record<'a>> {
        let end = u32::from_le_bytes(*self.ends.get(at)?) as usize;
        let start = if at == 0 { 0 } else { u32::from_le_bytes(*self.ends.get(at - 1)?) as usize };
        let mut reader = Reader::new(self.records.get(start..end)?);
        let suffix_len = reader.varint32()? as usize;
        let tail = reader.bytes(suffix_len.saturating_sub(HEAD_LEN))?;
        let trailer = Trailer(reader.varint()?);
        Some(Record { suffix_len, tail, trailer, handle: reader })
    }

    /// Index of the first entry at or behind (`key`, `bound`); `len()` when there is none.
    ///
    /// # Errors
    /// The reason when the block is damaged.
    #[inline]
    pub fn search(&self, key: &[u8], bound: Trailer) -> Decoded<usize> {
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return Ok(if key < self.prefix { 0 } else { self.len() });
        };
        let head = head_of(suffix);
        let first = self.heads.partition_point(|h| u64::from_be_bytes(*h) < head);
        match self.heads.get(first) {
            Some(h) if u64::from_be_bytes(*h) == head => self.search_equal_heads(first, head, suffix, bound),
            _ => Ok(first),
        }
    }

    fn search_equal_heads(&self, first: usize, head: u64, suffix: &[u8], bound: Trailer) -> Decoded<usize> {
        let equal = self.heads[first..].partition_point(|h| u64::from_be_bytes(*h) == head);
        let (mut low, mut high) = (first, first + equal);
        while low < high {
            let middle = low.midpoint(high);
            let record = self.record(middle).ok_or(DAMAGED)?;
            // With equal padded heads, a suffix that ends within the head is the smaller one, or the zeros are its own.
            let order = if record.suffix_len < HEAD_LEN || suffix.len() < HEAD_LEN {
                record.suffix_len.cmp(&suffix.len())
            } else {
                record.tail.cmp(&suffix[HEAD_LEN..])
            };
            if order == Ordering::Less || (order == Ordering::Equal && record.trailer > bound) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The handle of entry `at`.
    ///
    /// # Errors
    /// The reason when there is no such entry or it is damaged.
    #[inline]
    pub fn handle(&self, at: usize) -> Decoded<BlockHandle> {
        self.record(at).and_then(|mut record| decode_handle(&mut record.handle)).ok_or(DAMAGED)
    }

    /// Replaces `key` by the separator of entry `at`; returns its trailer.
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    pub fn separator(&self, at: usize, key: &mut Vec<u8>) -> Decoded<Trailer> {
        let record = self.record(at).ok_or(DAMAGED)?;
        let head = self.heads.get(at).ok_or(DAMAGED)?;
        key.clear();
        key.extend_from_slice(self.prefix);
        key.extend_from_slice(&head[..record.suffix_len.min(HEAD_LEN)]);
        key.extend_from_slice(record.tail);
        Ok(record.trailer)
    }

    /// Checks that every record can be read to its end and that separators rise.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Decoded<()> {
        let (mut key, mut previous, mut trailer) = (Vec::new(), Vec::new(), Trailer::MAX);
        for at in 0..self.len() {
            let next = self.separator(at, &mut key)?;
            if at > 0 && crate::base::key::compare((&previous, trailer), (&key, next)) != Ordering::Less {
                return Err("index separators do not rise");
            }
            let mut rest = self.record(at).ok_or(DAMAGED)?.handle;
            decode_handle(&mut rest).ok_or(DAMAGED)?;
            if !rest.is_empty() || self.search(&key, next)? != at {
                return Err("index entry is not found by its own separator");
            }
            (previous, key, trailer) = (key, previous, next);
        }
        Ok(())
    }
}

#[inline]
fn decode_handle(reader: &mut Reader<'_>) -> Option<BlockHandle> {
    let offset = reader.varint()?;
    let stored_len = reader.varint32()?;
    let saved = reader.varint32()?;
    let raw_len = stored_len.checked_sub(STORED_TAIL_LEN as u32)?.checked_add(saved)?;
    let sane = offset < 1 << 56 && raw_len as usize <= RAW_LEN_MAX;
    sane.then_some(BlockHandle { offset, stored_len, raw_len })
}

/// Bytes that a block's stored form saves, as the record has it.
const fn saved(handle: &BlockHandle) -> u64 {
    (handle.raw_len + STORED_TAIL_LEN as u32 - handle.stored_len) as u64
}

struct Entry {
    key_end: usize,
    trailer: Trailer,
    handle: BlockHandle,
}

/// Collects separators and builds index blocks of at most a limit. Reusable.
pub struct IndexBuilder {
    limit: usize,
    keys: Vec<u8>,
    entries: Vec<Entry>,
    prefix_len: usize,
    /// Bytes of all records for the current prefix, at most.
    records_len: usize,
}

impl IndexBuilder {
    /// A builder of blocks of at most `limit` bytes; a block with one entry may be longer.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, keys: Vec::new(), entries: Vec::new(), prefix_len: 0, records_len: 0 }
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.entries[at - 1].key_end };
        &self.keys[start..self.entries[at].key_end]
    }

    /// The separator added last and its trailer; `None` when there is none.
    #[must_use]
    pub fn last(&self) -> Option<(&[u8], Trailer)> {
        let at = self.entries.len().checked_sub(1)?;
        Some((self.key(at), self.entries[at].trailer))
    }

    const fn record_len(suffix_len: usize, trailer: Trailer, handle: &BlockHandle) -> usize {
        varint_len(suffix_len as u64)
            + suffix_len.saturating_sub(HEAD_LEN)
            + varint_len(trailer.0)
            + varint_len(handle.offset)
            + varint_len(handle.stored_len as u64)
            + varint_len(saved(handle))
    }

    fn records_len_with(&self, prefix_len: usize) -> usize {
        let lens = self.entries.iter().enumerate().map(|(at, e)| (self.key(at).len(), e));
        lens.map(|(len, e)| Self::record_len(len - prefix_len, e.trailer, &e.handle)).sum()
    }

    /// Bytes of the block if it ended here.
    #[must_use]
    pub fn size(&self) -> usize {
        HEADER_LEN + self.prefix_len + self.entries.len() * FIXED_LEN + self.records_len
    }

    /// Adds an entry, unless the block has entries and would grow beyond its limit: then returns false and is unchanged.
    pub fn add(&mut self, separator: &[u8], trailer: Trailer, handle: BlockHandle) -> bool {
        let first = self.is_empty();
        let prefix_len =
            if first { separator.len() } else { common_prefix_len(&self.keys[..self.prefix_len], separator) };
        let before = if prefix_len == self.prefix_len { self.records_len } else { self.records_len_with(prefix_len) };
        let records_len = before + Self::record_len(separator.len() - prefix_len, trailer, &handle);
        let size = HEADER_LEN + prefix_len + (self.entries.len() + 1) * FIXED_LEN + records_len;
        if !first && size > self.limit {
            return false;
        }
        self.keys.extend_from_slice(separator);
        self.entries.push(Entry { key_end: self.keys.len(), trailer, handle });
        (self.prefix_len, self.records_len) = (prefix_len, records_len);
        true
    }

    /// Appends the block to `out` and empties the builder.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        let prefix_len = u16::try_from(self.prefix_len).expect("KEY_LEN_MAX keeps full keys below 64 KiB");
        out.extend_from_slice(&u32::from(prefix_len).to_le_bytes());
        out.extend_from_slice(&self.keys[..self.prefix_len]);
        for at in 0..self.entries.len() {
            out.extend_from_slice(&head_of(&self.key(at)[self.prefix_len..]).to_be_bytes());
        }
        let mut records = Vec::with_capacity(self.records_len);
        for (at, entry) in self.entries.iter().enumerate() {
            let suffix = &self.key(at)[self.prefix_len..];
            push_varint(&mut records, suffix.len() as u64);
            records.extend_from_slice(suffix.get(HEAD_LEN..).unwrap_or_default());
            push_varint(&mut records, entry.trailer.0);
            push_varint(&mut records, entry.handle.offset);
            push_varint(&mut records, u64::from(entry.handle.stored_len));
            push_varint(&mut records, saved(&entry.handle));
            out.extend_from_slice(&(records.len() as u32).to_le_bytes());
        }
        out.extend_from_slice(&records);
        self.keys.clear();
        self.entries.clear();
        (self.prefix_len, self.records_len) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
