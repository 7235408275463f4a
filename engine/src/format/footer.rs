//! The footer region at the end of an SST: everything that opening needs, in one read.
//!
//! ```text
//! zeros (so that the file ends at a multiple of IO_ALIGN) | sections | tail
//! tail:  features u64 | region length u32 | zeros u32 | version u32 | checksum u32 | magic u64
//! ```
//!
//! The region begins where the last block ends. docs/formats/sst.md has the sections byte by byte.
//!
//! Invariants:
//! 1. The checksum covers the region up to itself, the zeros too; the magic is compared. With the blocks' checksums, every
//!    byte of the file is covered.
//! 2. A feature bit or version that this code does not know is refused.

use crate::base::checksum::Checksum;
use crate::base::codec::{Reader, push_prefixed, push_varint};
use crate::base::ids::SeqNo;
use crate::base::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, IO_ALIGN};
use crate::format::Decoded;
use crate::format::filter::FilterInfo;
use crate::format::index::IndexBlock;
use crate::format::range_del::{RangeTombstone, RangeTombstones};

/// Bytes of the tail.
pub const TAIL_LEN: usize = 32;
/// Last bytes of every SST.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ssdb.sst");
/// The only version so far.
pub const VERSION: u32 = 1;
/// Feature bits that this code knows: none yet.
const FEATURES_KNOWN: u64 = 0;
/// Bytes of the tail that the checksum does not cover: itself and the magic.
const UNCOVERED: usize = 12;

/// What an SST says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Properties {
    /// Entries in data blocks.
    pub entries: u64,
    /// Entries that are deletes.
    pub deletes: u64,
    /// Range tombstones.
    pub range_deletes: u64,
    /// Bytes of all full keys.
    pub raw_key_bytes: u64,
    /// Bytes of all values.
    pub raw_value_bytes: u64,
    /// Smallest full key of an entry or range tombstone.
    pub smallest: Vec<u8>,
    /// Largest full key of an entry, or the end of a range tombstone behind it.
    pub largest: Vec<u8>,
    /// `largest` is the end of a range tombstone, so not itself in the file.
    pub largest_exclusive: bool,
    /// Smallest sequence number of an entry or range tombstone.
    pub smallest_seqno: SeqNo,
    /// Largest sequence number of an entry or range tombstone.
    pub largest_seqno: SeqNo,
    /// When the file was made, in seconds since 1970.
    pub created: u64,
    /// Block limit, in bytes before compression.
    pub block_bytes: u32,
    /// Smallest transaction id in an entry that is not frozen; 0 when there is none.
    pub unfrozen_min: u64,
    /// Largest transaction id in an entry that is not frozen; 0 when there is none.
    pub unfrozen_max: u64,
    /// The level that the file was made for.
    pub level: u8,
    /// Data blocks.
    pub data_blocks: u64,
    /// The offset behind the last data block: the first index partition is there.
    pub data_end: u64,
    /// The offset behind the last index partition.
    pub index_end: u64,
}

/// The footer region, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Footer {
    /// What the file says about itself.
    pub properties: Properties,
    /// The filter; `None` when the file has none.
    pub filter: Option<FilterInfo>,
    /// Range tombstones in order of their start.
    pub tombstones: Vec<RangeTombstone>,
    /// For each index partition, the offset of the first data block it names.
    pub partition_starts: Vec<u64>,
    /// Payload of the index block that names the index partitions.
    pub top_index: Vec<u8>,
}

/// The tail, decoded: how much of the file's end is the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Bytes of the region, with the tail.
    pub region_len: usize,
    zeros: usize,
}

impl Tail {
    /// Reads the tail from the last bytes of the file.
    ///
    /// # Errors
    /// The reason when the bytes do not end with a tail that this code knows.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        const SHORT: &str = "file is shorter than a footer";
        let tail = bytes.last_chunk::<TAIL_LEN>().ok_or(SHORT)?;
        let mut reader = Reader::new(tail);
        let features = reader.u64().ok_or(SHORT)?;
        let (region_len, zeros) = (reader.u32().ok_or(SHORT)? as usize, reader.u32().ok_or(SHORT)? as usize);
        let (version, _checksum) = (reader.u32().ok_or(SHORT)?, reader.u32().ok_or(SHORT)?);
        if reader.u64() != Some(MAGIC) {
            return Err("file does not end with the magic of an SST");
        }
        if version != VERSION {
            return Err("SST has an unknown format version");
        }
        if features & !FEATURES_KNOWN != 0 {
            return Err("SST uses features that this version does not know");
        }
        if zeros >= IO_ALIGN || region_len < TAIL_LEN + zeros {
            return Err("footer lengths are impossible");
        }
        Ok(Self { region_len, zeros })
    }
}

impl Footer {
    /// Appends the region to `out`; it will start at `offset` of the file.
    ///
    /// # Panics
    /// When the region would be longer than 4 GiB.
    pub fn encode(&self, offset: u64, out: &mut Vec<u8>) {
        let mut sections = Vec::with_capacity(self.top_index.len() + 1024);
        self.encode_properties(&mut sections);
        match &self.filter {
            Some(filter) => {
                sections.push(1);
                filter.encode(&mut sections);
            }
            None => sections.push(0),
        }
        RangeTombstones::encode_list(&self.tombstones, &mut sections);
        push_varint(&mut sections, self.partition_starts.len() as u64);
        for &start in &self.partition_starts {
            push_varint(&mut sections, start);
        }
        push_prefixed(&mut sections, &self.top_index);

        let end = offset as usize + sections.len() + TAIL_LEN;
        let zeros = end.next_multiple_of(IO_ALIGN) - end;
        let region_len = u32::try_from(zeros + sections.len() + TAIL_LEN).expect("a footer region below 4 GiB");
        let start = out.len();
        out.resize(start + zeros, 0);
        out.extend_from_slice(&sections);
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(&region_len.to_le_bytes());
        out.extend_from_slice(&(zeros as u32).to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        let checksum = Checksum::of(&out[start..]);
        out.extend_from_slice(&checksum.0.to_le_bytes());
        out.extend_from_slice(&MAGIC.to_le_bytes());
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        let p = &self.properties;
        let numbers = [
            p.entries,
            p.deletes,
            p.range_deletes,
            p.raw_key_bytes,
            p.raw_value_bytes,
            p.smallest_seqno.0,
            p.largest_seqno.0,
            p.created,
            u64::from(p.block_bytes),
            p.unfrozen_min,
            p.unfrozen_max,
            u64::from(p.level),
            p.data_blocks,
            p.data_end,
            p.index_end,
            u64::from(p.largest_exclusive),
        ];
        for number in numbers {
            push_varint(out, number);
        }
        push_prefixed(out, &p.smallest);
        push_prefixed(out, &p.largest);
    }

    /// Decodes a region that starts at `offset` of its file; `region` has exactly the length its tail says.
    ///
    /// # Errors
    /// The reason when the region is damaged or unknown.
    pub fn decode(region: &[u8], offset: u64) -> Decoded<Self> {
        const SHORT: &str = "footer is cut off";
        let tail = Tail::decode(region)?;
        if region.len() != tail.region_len {
            return Err("footer region has another length than its tail says");
        }
        let covered = region.get(..region.len() - UNCOVERED).ok_or(SHORT)?;
        let stored = region.get(covered.len()..).and_then(|b| b.first_chunk()).ok_or(SHORT)?;
        if Checksum::of(covered).0 != u32::from_le_bytes(*stored) {
            return Err("footer checksum mismatch");
        }
        let (zeros, rest) = region.split_at_checked(tail.zeros).ok_or(SHORT)?;
        if zeros.iter().any(|&b| b != 0) {
            return Err("footer padding is not zero");
        }
        let mut reader = Reader::new(rest.get(..rest.len() - TAIL_LEN).ok_or(SHORT)?);
        let properties = Self::decode_properties(&mut reader)?;
        let filter = match reader.u8().ok_or(SHORT)? {
            0 => None,
            1 => Some(FilterInfo::decode(&mut reader)?),
            _ => return Err("footer has an unknown filter"),
        };
        let tombstones = RangeTombstones::decode_list(&mut reader)?;
        let count = reader.varint32().ok_or(SHORT)?;
        let mut partition_starts = Vec::new();
        for _ in 0..count {
            partition_starts.push(reader.varint().ok_or(SHORT)?);
        }
        let top_index = reader.prefixed().ok_or(SHORT)?.to_vec();
        if !reader.is_empty() {
            return Err("footer has bytes behind its last section");
        }
        let footer = Self { properties, filter, tombstones, partition_starts, top_index };
        footer.check(offset)?;
        Ok(footer)
    }

    fn decode_properties(reader: &mut Reader<'_>) -> Decoded<Properties> {
        const SHORT: &str = "properties are cut off";
        let mut number = || reader.varint().ok_or(SHORT);
        let mut p = Properties {
            entries: number()?,
            deletes: number()?,
            range_deletes: number()?,
            raw_key_bytes: number()?,
            raw_value_bytes: number()?,
            smallest_seqno: SeqNo(number()?),
            largest_seqno: SeqNo(number()?),
            created: number()?,
            block_bytes: u32::try_from(number()?).map_err(|_| "block limit out of range")?,
            unfrozen_min: number()?,
            unfrozen_max: number()?,
            level: u8::try_from(number()?).map_err(|_| "level out of range")?,
            data_blocks: number()?,
            data_end: number()?,
            index_end: number()?,
            largest_exclusive: match number()? {
                0 => false,
                1 => true,
                _ => return Err("properties have an unknown flag"),
            },
            ..Properties::default()
        };
        p.smallest = reader.prefixed().ok_or(SHORT)?.to_vec();
        p.largest = reader.prefixed().ok_or(SHORT)?.to_vec();
        Ok(p)
    }

    /// Checks that the parts fit each other and a region at `offset`.
    fn check(&self, offset: u64) -> Decoded<()> {
        let p = &self.properties;
        if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&(p.block_bytes as usize)) {
            return Err("block limit out of range");
        }
        let blocks_end = match &self.filter {
            Some(filter) if filter.offset != p.index_end => return Err("filter does not start where the index ends"),
            Some(filter) => filter.end(),
            None => p.index_end,
        };
        if p.data_end > p.index_end || blocks_end != offset {
            return Err("blocks do not end where the footer starts");
        }
        if p.range_deletes != self.tombstones.len() as u64 || p.deletes > p.entries {
            return Err("counts of the properties contradict each other");
        }
        if p.smallest > p.largest || p.smallest_seqno > p.largest_seqno || p.largest_seqno > SeqNo::MAX {
            return Err("bounds of the properties are out of order");
        }
        let top = IndexBlock::parse(&self.top_index)?;
        top.check()?;
        if top.len() != self.partition_starts.len() || (top.is_empty() != (p.entries == 0)) {
            return Err("top index does not match the properties");
        }
        let mut at = p.data_end;
        for partition in 0..top.len() {
            let handle = top.handle(partition)?;
            if handle.offset != at {
                return Err("index partitions have gaps");
            }
            at = handle.end();
        }
        if at != p.index_end || !self.partition_starts.is_sorted() {
            return Err("index partitions do not fill their place");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
