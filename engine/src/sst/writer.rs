//! Writes one SST: entries in, blocks, index, filter and footer out.
//!
//! Invariants:
//! 1. Entries strictly rise in the order of internal keys; the writer asserts it.
//! 2. The file is: data blocks, index partitions, filter partitions, footer region, without gaps.
//! 3. After `finish` the file's bytes are stable; its name is not until the caller has synced the directory.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::checksum::key_hash;
use crate::base::ids::{FileNumber, SeqNo, TxnId};
use crate::base::key::{Kind, TREE_PREFIX_LEN_MAX, Trailer, compare, shortest_separator};
use crate::base::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::cache::{BlockCache, BlockKey, BlockKind};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::format::block::builder::BlockBuilder;
use crate::format::block::{BlockHandle, BlockType, STORED_TAIL_LEN, Sealer};
use crate::format::filter::{BITS_PER_KEY_MAX, FilterBuilder, FilterInfo, LINE_LEN};
use crate::format::footer::{Footer, Properties};
use crate::format::index::IndexBuilder;
use crate::format::range_del::RangeTombstone;

use super::output::Output;

/// How to write an SST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SstOptions {
    /// Largest block before compression, in bytes; a block with a single entry may exceed it.
    pub block_bytes: usize,
    /// Entries from one restart to the next.
    pub restart_interval: usize,
    /// Try LZ4 on data blocks.
    pub compress: bool,
    /// Filter bits per distinct key; 0 for no filter.
    pub bits_per_key: u8,
    /// Give data blocks a hash index for point lookups.
    pub hash_index: bool,
    /// Bypass the page cache.
    pub direct: bool,
    /// Bytes per write.
    pub write_chunk_bytes: usize,
    /// The level the file is made for; a hint for people and for repair.
    pub level: u8,
}

impl Default for SstOptions {
    fn default() -> Self {
        Self {
            block_bytes: 16 << 10,
            restart_interval: 16,
            compress: true,
            bits_per_key: 10,
            hash_index: true,
            direct: true,
            write_chunk_bytes: 1 << 20,
            level: 0,
        }
    }
}

impl SstOptions {
    fn check(&self) -> Result<()> {
        let wrong = |what: &str, hint: String| Err(Error::usage(format!("{what} is out of range"), hint));
        if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&self.block_bytes) {
            return wrong("block size", format!("Choose {BLOCK_SIZE_MIN} to {BLOCK_SIZE_MAX} bytes."));
        }
        if self.restart_interval == 0 {
            return wrong("restart interval", "Choose at least 1; 16 is usual.".to_owned());
        }
        if self.bits_per_key > BITS_PER_KEY_MAX {
            return wrong("filter bits per key", format!("Choose 0 (no filter) to {BITS_PER_KEY_MAX}."));
        }
        Ok(())
    }
}

/// Which blocks of a new file go to the cache while it is written, so that readers do not have to fetch from the device what
/// was in memory a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFill {
    /// All, as long as they push out nothing. For what was in a memtable.
    Room,
    /// Those most of whose entries were cached before, see [`SstWriter::note_cached`]; they take the place of their former
    /// blocks, which nobody will ask for any more. For compactions.
    Inherited,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SstSummary {
    /// Length of the file in bytes.
    pub size: u64,
    /// Entries in data blocks.
    pub entries: u64,
    /// Entries that are deletes.
    pub deletes: u64,
    /// Range tombstones.
    pub range_deletes: u64,
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
    /// Bytes of all full keys and values.
    pub raw_bytes: u64,
    /// Smallest transaction id in an entry that is not frozen; 0 when there is none.
    pub unfrozen_min: u64,
    /// Largest transaction id in an entry that is not frozen; 0 when there is none.
    pub unfrozen_max: u64,
}

/// An index partition that is ready but not yet in the file.
struct Partition {
    separator: Vec<u8>,
    trailer: Trailer,
    stored_len: u32,
    raw_len: u32,
}

/// Writes one SST. Dropping it leaves an incomplete file; see [`abandon`](Self::abandon).
pub struct SstWriter<'c> {
    env: Arc<dyn Env>,
    path: PathBuf,
    number: FileNumber,
    cache: Option<(&'c BlockCache, CacheFill)>,
    /// Entries of the block at hand that were cached before, and whether any block was for that.
    cached: u32,
    any_cached: bool,
    options: SstOptions,
    output: Output,
    sealer: Sealer,
    /// Stored form of the block at hand; kept for its memory.
    stored: Vec<u8>,
    block: BlockBuilder,
    index: IndexBuilder,
    partitions: Vec<Partition>,
    /// Stored index partitions, one behind the other.
    partition_bytes: Vec<u8>,
    partition_starts: Vec<u64>,
    filter: FilterBuilder,
    tombstones: Vec<RangeTombstone>,
    properties: Properties,
}

impl<'c> SstWriter<'c> {
    /// Creates the file at `path`, which must not exist. `number` names it in messages and in the cache.
    ///
    /// # Errors
    /// Usage for options out of range; I/O.
    pub fn new(env: &Arc<dyn Env>, path: &Path, number: FileNumber, options: SstOptions) -> Result<Self> {
        options.check()?;
        tracing::trace!(file = number.0, level = options.level, "writing an SST");
        Ok(Self {
            env: Arc::clone(env),
            path: path.to_owned(),
            number,
            cache: None,
            cached: 0,
            any_cached: false,
            options,
            output: Output::create(env, path, options.direct, options.write_chunk_bytes)?,
            sealer: Sealer::new(options.compress),
            stored: Vec::new(),
            block: BlockBuilder::new(options.block_bytes, options.restart_interval, options.hash_index),
            index: IndexBuilder::new(options.block_bytes),
            partitions: Vec::new(),
            partition_bytes: Vec::new(),
            partition_starts: Vec::new(),
            filter: FilterBuilder::default(),
            tombstones: Vec::new(),
            properties: Properties {
                smallest_seqno: SeqNo::MAX,
                created: env.unix_time(),
                block_bytes: options.block_bytes as u32,
                level: options.level,
                ..Properties::default()
            },
        })
    }

    /// From now on blocks go to `cache`, too.
    pub const fn fill_cache(&mut self, cache: &'c BlockCache, which: CacheFill) {
        self.cache = Some((cache, which));
    }

    /// Says that the entry added last was in the cache until now.
    pub const fn note_cached(&mut self) {
        self.cached += 1;
    }

    /// Adds an entry behind all that were added.
    ///
    /// # Errors
    /// Usage when key or value is too long; I/O.
    ///
    /// # Panics
    /// When the entry is not behind the one before it, or is not a put or delete.
    pub fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()> {
        if self.block.is_empty() {
            assert!(self.properties.entries == 0, "a block is only closed by its successor's first entry");
            self.properties.smallest = key.to_vec();
        } else {
            let last = (self.block.last_key(), self.block.last_trailer());
            assert!(compare(last, (key, trailer)) == Ordering::Less, "entries of an SST must rise");
        }
        if key.len() > KEY_LEN_MAX + TREE_PREFIX_LEN_MAX || value.len() > VALUE_LEN_MAX {
            let message = format!("entry with a key of {} and a value of {} bytes", key.len(), value.len());
            let hint = format!("Keys have at most {KEY_LEN_MAX} bytes and values {VALUE_LEN_MAX}.");
            return Err(Error::usage(message, hint));
        }
        match trailer.kind() {
            Some(Kind::Put) => {}
            Some(Kind::Delete) => self.properties.deletes += 1,
            _ => panic!("entries of an SST are puts and deletes"),
        }
        let filtered = self.options.bits_per_key > 0;
        let hash = if filtered || self.options.hash_index { key_hash(key) } else { 0 };
        if !self.block.add(key, hash, trailer, value) {
            self.cut_block(Some(key))?;
            self.block.add(key, hash, trailer, value);
        }
        if filtered {
            self.filter.add(hash);
        }
        let properties = &mut self.properties;
        properties.entries += 1;
        properties.raw_key_bytes += key.len() as u64;
        properties.raw_value_bytes += value.len() as u64;
        properties.smallest_seqno = properties.smallest_seqno.min(trailer.seqno());
        properties.largest_seqno = properties.largest_seqno.max(trailer.seqno());
        Ok(())
    }

    /// Adds a range tombstone; in any order, also between entries.
    ///
    /// # Errors
    /// Usage when the range is empty or a bound is too long.
    pub fn add_range_delete(&mut self, start: &[u8], end: &[u8], seqno: SeqNo) -> Result<()> {
        if start >= end || start.len().max(end.len()) > KEY_LEN_MAX + TREE_PREFIX_LEN_MAX {
            return Err(Error::usage(
                "range tombstone with an empty range or too long a bound",
                format!("Its start is below its end, and both have at most {KEY_LEN_MAX} bytes."),
            ));
        }
        self.tombstones.push(RangeTombstone { start: start.to_vec(), end: end.to_vec(), seqno });
        self.properties.smallest_seqno = self.properties.smallest_seqno.min(seqno);
        self.properties.largest_seqno = self.properties.largest_seqno.max(seqno);
        Ok(())
    }

    /// Records that an entry is not frozen, and its writer.
    pub fn note_unfrozen(&mut self, txn: TxnId) {
        let Properties { unfrozen_min, unfrozen_max, .. } = &mut self.properties;
        *unfrozen_min = if *unfrozen_min == 0 { txn.0 } else { txn.0.min(*unfrozen_min) };
        *unfrozen_max = txn.0.max(*unfrozen_max);
    }

    /// About how long the file would be if it ended here.
    #[must_use]
    pub fn estimated_size(&self) -> u64 {
        let filter = self.filter.len() * usize::from(self.options.bits_per_key) / 8;
        let tombstones: usize = self.tombstones.iter().map(|t| t.start.len() + t.end.len() + 8).sum();
        let rest = self.block.size() + self.partition_bytes.len() + self.index.size() + filter + tombstones;
        self.output.offset() + rest as u64
    }

    /// Stores the block at hand; `next` is the key that follows it.
    fn cut_block(&mut self, next: Option<&[u8]>) -> Result<()> {
        let (last, last_trailer) = (self.block.last_key(), self.block.last_trailer());
        let (separator, trailer) = match next {
            // The versions of one key straddle two blocks: the trailer tells which side has which.
            Some(next) if next == last => (last.to_vec(), last_trailer),
            Some(next) => (shortest_separator(last, next), Trailer(0)),
            None => (last.to_vec(), Trailer(0)),
        };
        if next.is_none() {
            self.properties.largest = last.to_vec();
        }
        let offset = self.output.offset();
        let inherits = self.cached > self.block.count() / 2;
        self.cached = 0;
        self.any_cached |= inherits;
        let payload = self.block.finish();
        let raw_len = payload.len() as u32;
        if let Some((cache, which)) = self.cache
            && (if which == CacheFill::Room { cache.has_room() } else { inherits })
        {
            cache.offer(BlockKey { file: self.number, offset }, BlockKind::Data, payload);
        }
        self.stored.clear();
        let stored_len = self.sealer.seal(payload, BlockType::Data, &mut self.stored);
        self.output.append(&self.stored)?;
        self.block.reset();
        self.properties.data_blocks += 1;
        let handle = BlockHandle { offset, stored_len, raw_len };
        if self.index.is_empty() {
            self.partition_starts.push(offset);
        }
        if !self.index.add(&separator, trailer, handle) {
            self.cut_partition();
            self.partition_starts.push(offset);
            self.index.add(&separator, trailer, handle);
        }
        Ok(())
    }

    /// Stores the index partition at hand in memory, to follow the data.
    fn cut_partition(&mut self) {
        let Some((separator, trailer)) = self.index.last() else { return };
        let separator = separator.to_vec();
        let mut payload = Vec::new();
        self.index.finish(&mut payload);
        let stored_len = Sealer::new(false).seal(&payload, BlockType::Index, &mut self.partition_bytes);
        self.partitions.push(Partition { separator, trailer, stored_len, raw_len: payload.len() as u32 });
    }

    /// Writes what is left and makes the file stable. The caller syncs the directory.
    ///
    /// # Errors
    /// I/O; the file is then incomplete and to be removed.
    pub fn finish(mut self) -> Result<SstSummary> {
        if !self.block.is_empty() {
            self.cut_block(None)?;
        }
        self.properties.data_end = self.output.offset();
        self.cut_partition();
        let top_index = self.write_index()?;
        self.properties.index_end = self.output.offset();
        let filter = self.write_filter()?;
        self.cover_tombstones();
        let properties = self.properties;
        let summary = SstSummary {
            size: 0,
            entries: properties.entries,
            deletes: properties.deletes,
            range_deletes: properties.range_deletes,
            smallest: properties.smallest.clone(),
            largest: properties.largest.clone(),
            largest_exclusive: properties.largest_exclusive,
            smallest_seqno: properties.smallest_seqno,
            largest_seqno: properties.largest_seqno,
            raw_bytes: properties.raw_key_bytes + properties.raw_value_bytes,
            unfrozen_min: properties.unfrozen_min,
            unfrozen_max: properties.unfrozen_max,
        };
        let (tombstones, partition_starts) = (self.tombstones, self.partition_starts);
        let footer = Footer { properties, filter, tombstones, partition_starts, top_index };
        self.stored.clear();
        footer.encode(self.output.offset(), &mut self.stored);
        self.output.append(&self.stored)?;
        let size = self.output.offset();
        self.output.finish()?;
        Ok(SstSummary { size, ..summary })
    }

    /// Writes the index partitions; returns the payload of the top index.
    fn write_index(&mut self) -> Result<Vec<u8>> {
        let mut top = IndexBuilder::new(usize::MAX);
        let mut offset = self.output.offset();
        let mut rest = &self.partition_bytes[..];
        for partition in &self.partitions {
            let Partition { stored_len, raw_len, .. } = *partition;
            top.add(&partition.separator, partition.trailer, BlockHandle { offset, stored_len, raw_len });
            // Index partitions are stored as they are.
            let (stored, after) = rest.split_at(stored_len as usize);
            self.offer_meta(offset, BlockKind::Index, &stored[..raw_len as usize]);
            rest = after;
            offset += u64::from(stored_len);
        }
        self.output.append(&self.partition_bytes)?;
        let mut payload = Vec::new();
        top.finish(&mut payload);
        Ok(payload)
    }

    /// Gives a partition of index or filter to the cache when data blocks of the file are there.
    fn offer_meta(&self, offset: u64, kind: BlockKind, payload: &[u8]) {
        if let Some((cache, which)) = self.cache
            && (if which == CacheFill::Room { cache.has_room() } else { self.any_cached })
        {
            cache.offer(BlockKey { file: self.number, offset }, kind, payload);
        }
    }

    fn write_filter(&mut self) -> Result<Option<FilterInfo>> {
        if self.filter.is_empty() {
            return Ok(None);
        }
        let (bits, limit) = (self.options.bits_per_key, self.options.block_bytes);
        let info = FilterInfo::new(self.filter.len(), bits, limit, self.output.offset());
        let mut sealer = Sealer::new(false);
        for lines in self.filter.build(&info).chunks(info.partition_lines as usize * LINE_LEN) {
            self.stored.clear();
            let stored_len = sealer.seal(lines, BlockType::Filter, &mut self.stored);
            debug_assert_eq!(stored_len as usize, lines.len() + STORED_TAIL_LEN);
            self.offer_meta(self.output.offset(), BlockKind::Filter, lines);
            self.output.append(&self.stored)?;
        }
        Ok(Some(info))
    }

    /// Sorts the tombstones and widens the file's bounds by them.
    fn cover_tombstones(&mut self) {
        self.tombstones.sort_unstable_by(|a, b| a.start.cmp(&b.start).then_with(|| b.seqno.cmp(&a.seqno)));
        let properties = &mut self.properties;
        properties.range_deletes = self.tombstones.len() as u64;
        for tombstone in &self.tombstones {
            let empty = properties.entries == 0 && properties.largest.is_empty();
            if empty || tombstone.start < properties.smallest {
                properties.smallest.clone_from(&tombstone.start);
            }
            if tombstone.end > properties.largest {
                properties.largest.clone_from(&tombstone.end);
                properties.largest_exclusive = true;
            }
        }
        if properties.entries == 0 && self.tombstones.is_empty() {
            properties.smallest_seqno = SeqNo(0);
        }
    }

    /// Gives up: waits for what is in flight and removes the file.
    ///
    /// # Errors
    /// I/O when the file cannot be removed.
    pub fn abandon(self) -> Result<()> {
        let Self { env, path, output, .. } = self;
        drop(output);
        env.remove(&path)
    }
}
