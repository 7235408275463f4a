//! An open SST: point lookups, and everything that is known without reading a data block.

use std::path::Path;
use std::sync::Arc;

use crate::base::ids::FileNumber;
use crate::base::key::{Kind, Trailer};
use crate::base::limits::IO_ALIGN;
use crate::cache::{BlockCache, Hint};
use crate::env::{Env, IoOp, OpenMode};
use crate::error::Result;
use crate::format::block::iter::block_get;
use crate::format::block::{BlockHandle, BlockType};
use crate::format::filter::FilterInfo;
use crate::format::footer::{Footer, Properties, Tail};
use crate::format::index::IndexBlock;
use crate::format::range_del::RangeTombstones;
use crate::mem::aligned::AlignedBuf;

use super::blocks::{Blocks, aligned_span};

/// Bytes read from the file's end at open; a footer region fits unless the file is huge or full of range tombstones.
const FOOTER_GUESS: usize = 32 << 10;

/// An open SST. Shared by all threads of a process.
pub struct SstReader {
    pub(super) env: Arc<dyn Env>,
    pub(super) blocks: Blocks,
    pub(super) filter: Option<FilterInfo>,
    pub(super) partition_starts: Vec<u64>,
    top_index: Vec<u8>,
    /// Where the partitions of filter and index were found last.
    filter_hints: Vec<Hint>,
    pub(super) index_hints: Vec<Hint>,
    properties: Properties,
    tombstones: RangeTombstones,
    file_len: u64,
}

/// What a lookup knows before it reads from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// The file has no version of the key at or below the bound.
    Absent,
    /// The data block was cached: the version found; its value has been appended when it is a put.
    Cached(Trailer),
    /// The version can only be in this data block, which has to be read.
    Block(BlockHandle),
}

impl SstReader {
    /// Opens the file at `path` and reads its footer. `number` names its blocks in the cache.
    ///
    /// # Errors
    /// Corruption when the file is not a complete SST; I/O.
    pub fn open(env: &Arc<dyn Env>, path: &Path, number: FileNumber, direct: bool) -> Result<Self> {
        let file = env.open(path, OpenMode { direct, random: true, ..OpenMode::READ })?;
        let blocks = Blocks { file, number };
        let file_len = blocks.file.len()?;
        if file_len == 0 || !file_len.is_multiple_of(IO_ALIGN as u64) {
            return Err(blocks.corrupt(file_len, "length of an SST is a multiple of 4096; it is incomplete or cut off"));
        }
        let mut bytes = read_end(&blocks, file_len, FOOTER_GUESS)?;
        let tail = Tail::decode(&bytes).map_err(|what| blocks.corrupt(file_len, what))?;
        if tail.region_len as u64 > file_len {
            return Err(blocks.corrupt(file_len, "footer is longer than the file"));
        }
        if tail.region_len > bytes.len() {
            bytes = read_end(&blocks, file_len, tail.region_len.next_multiple_of(IO_ALIGN))?;
        }
        let offset = file_len - tail.region_len as u64;
        let region = bytes.get(bytes.len() - tail.region_len..).unwrap_or_default();
        let footer = Footer::decode(region, offset).map_err(|what| blocks.corrupt(offset, what))?;
        // A file's length bounds what a damaged footer can make us allocate.
        let filter_partitions =
            footer.filter.map_or(0, |filter| u64::from(filter.partitions())).min(file_len / IO_ALIGN as u64);
        Ok(Self {
            env: Arc::clone(env),
            blocks,
            filter_hints: hints(filter_partitions as usize + 1),
            index_hints: hints(footer.partition_starts.len()),
            filter: footer.filter,
            partition_starts: footer.partition_starts,
            top_index: footer.top_index,
            properties: footer.properties,
            tombstones: RangeTombstones::new(footer.tombstones),
            file_len,
        })
    }

    /// The file's number.
    #[must_use]
    pub const fn number(&self) -> FileNumber {
        self.blocks.number
    }

    /// The file's name; for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.blocks.file.path()
    }

    /// Length of the file in bytes.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.file_len
    }

    /// What the file says about itself.
    #[must_use]
    pub const fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The file's range tombstones.
    #[must_use]
    pub const fn range_tombstones(&self) -> &RangeTombstones {
        &self.tombstones
    }

    /// The newest version of `key` (a full key with hash `hash`) that is not above `bound`; `None` when it is not here.
    /// Appends its value to `found` when it is a put. Range tombstones are not looked at.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn get(
        &self,
        cache: &BlockCache,
        key: &[u8],
        hash: u64,
        bound: Trailer,
        found: &mut Vec<u8>,
    ) -> Result<Option<Trailer>> {
        let handle = self.find(cache, key, hash, bound)?;
        self.get_at(cache, handle, key, hash, bound, found)
    }

    /// As [`get`](Self::get), for a key that is probably here: its filter is not asked, which could only agree.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn get_expected(
        &self,
        cache: &BlockCache,
        key: &[u8],
        hash: u64,
        bound: Trailer,
        found: &mut Vec<u8>,
    ) -> Result<Option<Trailer>> {
        let handle = self.find_in_index(cache, key, bound)?;
        self.get_at(cache, handle, key, hash, bound, found)
    }

    #[inline]
    fn get_at(
        &self,
        cache: &BlockCache,
        handle: Option<BlockHandle>,
        key: &[u8],
        hash: u64,
        bound: Trailer,
        found: &mut Vec<u8>,
    ) -> Result<Option<Trailer>> {
        let Some(handle) = handle else { return Ok(None) };
        let block = self.blocks.block(cache, &handle, BlockType::Data, None)?;
        self.pick(&block, &handle, key, hash, bound, found)
    }

    /// As [`get`](Self::get), but stops before it would read a data block from the device, so that the caller can read the
    /// blocks of many lookups at once: [`read_op`](Self::read_op), then [`get_in_block`](Self::get_in_block).
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn locate(
        &self,
        cache: &BlockCache,
        key: &[u8],
        hash: u64,
        bound: Trailer,
        found: &mut Vec<u8>,
    ) -> Result<Located> {
        let Some(handle) = self.find(cache, key, hash, bound)? else { return Ok(Located::Absent) };
        let Some(block) = self.blocks.cached(cache, &handle) else { return Ok(Located::Block(handle)) };
        let picked = self.pick(&block, &handle, key, hash, bound, found)?;
        Ok(picked.map_or(Located::Absent, Located::Cached))
    }

    /// The read of the data block at `handle` for a queue; `buf` is any buffer to reuse.
    #[must_use]
    pub fn read_op(&self, handle: &BlockHandle, mut buf: AlignedBuf) -> IoOp {
        let (offset, len, _) = aligned_span(handle);
        if buf.capacity() < len {
            buf = AlignedBuf::zeroed(len);
        }
        buf.set_len(len);
        IoOp::Read { file: Arc::clone(&self.blocks.file), offset, buf }
    }

    /// Ends a lookup that [`locate`](Self::locate) began: `bytes` is what the [`read_op`](Self::read_op) of `handle` read.
    /// The block goes to the cache.
    ///
    /// # Errors
    /// Corruption, I/O.
    #[expect(clippy::too_many_arguments, reason = "the lookup of `get` and the block it has arrived at")]
    pub fn get_in_block(
        &self,
        cache: &BlockCache,
        handle: &BlockHandle,
        bytes: &[u8],
        key: &[u8],
        hash: u64,
        bound: Trailer,
        found: &mut Vec<u8>,
    ) -> Result<Option<Trailer>> {
        let (_, _, skip) = aligned_span(handle);
        let stored = bytes.get(skip..skip + handle.stored_len as usize);
        let stored = stored.ok_or_else(|| self.blocks.corrupt(handle.offset, "file ends inside a block"))?;
        let block = self.blocks.block(cache, handle, BlockType::Data, Some(stored))?;
        self.pick(&block, handle, key, hash, bound, found)
    }

    /// The only data block that can hold the version; `None` when the filter or the index rules the file out.
    #[inline]
    fn find(&self, cache: &BlockCache, key: &[u8], hash: u64, bound: Trailer) -> Result<Option<BlockHandle>> {
        if let Some(filter) = &self.filter {
            let slot = filter.slot(hash);
            let handle = filter.handle(slot.partition);
            let hint = self.filter_hints.get(slot.partition as usize);
            let partition = self.blocks.block_hinted(cache, &handle, BlockType::Filter, hint)?;
            if !self.blocks.checked(&handle, filter.matches(&partition, slot, hash))? {
                return Ok(None);
            }
        }
        self.find_in_index(cache, key, bound)
    }

    /// The first data block that ends at or behind (`key`, `bound`).
    #[inline]
    fn find_in_index(&self, cache: &BlockCache, key: &[u8], bound: Trailer) -> Result<Option<BlockHandle>> {
        let Some((partition, handle)) = self.partition_of(key, bound)? else { return Ok(None) };
        let hint = self.index_hints.get(partition);
        let partition = self.blocks.block_hinted(cache, &handle, BlockType::Index, hint)?;
        let found = IndexBlock::parse(&partition).and_then(|index| index.handle(index.search(key, bound)?));
        self.blocks.checked(&handle, found).map(Some)
    }

    #[inline]
    fn pick(
        &self,
        block: &[u8],
        handle: &BlockHandle,
        key: &[u8],
        hash: u64,
        bound: Trailer,
        found: &mut Vec<u8>,
    ) -> Result<Option<Trailer>> {
        let Some((trailer, value)) = self.blocks.checked(handle, block_get(block, key, hash, bound))? else {
            return Ok(None);
        };
        match trailer.kind() {
            Some(Kind::Put) => found.extend_from_slice(value),
            Some(Kind::Delete) => {}
            _ => return Err(self.blocks.corrupt(handle.offset, "block entry has an unknown kind")),
        }
        Ok(Some(trailer))
    }

    /// The index partition that ends at or behind (`key`, `bound`) and its number.
    #[inline]
    pub(super) fn partition_of(&self, key: &[u8], bound: Trailer) -> Result<Option<(usize, BlockHandle)>> {
        let top = self.top_index()?;
        let partition = top.search(key, bound).map_err(|what| self.footer_damage(what))?;
        if partition == top.len() { Ok(None) } else { Ok(Some((partition, self.partition_handle(partition)?))) }
    }

    #[inline]
    fn top_index(&self) -> Result<IndexBlock<'_>> {
        IndexBlock::parse(&self.top_index).map_err(|what| self.footer_damage(what))
    }

    /// Where index partition `partition` is stored.
    #[inline]
    pub(super) fn partition_handle(&self, partition: usize) -> Result<BlockHandle> {
        self.top_index()?.handle(partition).map_err(|what| self.footer_damage(what))
    }

    /// Replaces `key` by the top index's separator of `partition`; returns its trailer.
    pub(super) fn partition_separator(&self, partition: usize, key: &mut Vec<u8>) -> Result<Trailer> {
        self.top_index()?.separator(partition, key).map_err(|what| self.footer_damage(what))
    }

    #[cold]
    fn footer_damage(&self, what: &str) -> crate::error::Error {
        self.blocks.corrupt(self.file_len, what)
    }

    /// About how many bytes of the file are before `key`, from memory alone: exact to the data of one index partition,
    /// which is some hundred blocks. For cutting work into parts; see [`block_offset`](Self::block_offset).
    #[must_use]
    pub fn approximate_offset(&self, key: &[u8]) -> u64 {
        let partition = self.partition_of(key, Trailer::MAX).ok().flatten().map(|(partition, _)| partition);
        let start = partition.and_then(|partition| self.partition_starts.get(partition));
        start.copied().unwrap_or(self.properties.data_end)
    }

    /// The file's data in stretches of one index partition, from memory alone: for each a key that no key in it is larger
    /// than, and its bytes. For cutting work into parts.
    ///
    /// # Errors
    /// Corruption.
    pub fn partitions(&self) -> Result<Vec<(Vec<u8>, u64)>> {
        let mut out = Vec::new();
        for partition in 0..self.top_index()?.len() {
            let mut end = Vec::new();
            self.partition_separator(partition, &mut end)?;
            let start_at = |partition: usize| self.partition_starts.get(partition).copied();
            let from = start_at(partition).unwrap_or(self.properties.data_end);
            let to = start_at(partition + 1).unwrap_or(self.properties.data_end);
            out.push((end, to.saturating_sub(from)));
        }
        Ok(out)
    }

    /// Where the last block ends that may have entries before `key`.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub(super) fn end_before(&self, cache: &BlockCache, key: &[u8]) -> Result<u64> {
        let handle = self.find_in_index(cache, key, Trailer::MAX)?;
        Ok(handle.map_or(self.properties.data_end, |handle| handle.end()))
    }

    /// How many bytes of the file are before `key`, exact to a block.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn block_offset(&self, cache: &BlockCache, key: &[u8]) -> Result<u64> {
        let handle = self.find_in_index(cache, key, Trailer::MAX)?;
        Ok(handle.map_or(self.properties.data_end, |handle| handle.offset))
    }
}

fn hints(count: usize) -> Vec<Hint> {
    std::iter::repeat_with(Hint::default).take(count).collect()
}

/// The last `len` bytes of the file, or all of it.
fn read_end(blocks: &Blocks, file_len: u64, len: usize) -> Result<AlignedBuf> {
    let len = (len as u64).min(file_len);
    let mut buf = AlignedBuf::zeroed(len as usize);
    let read = blocks.file.read_at(&mut buf, file_len - len)?;
    if read as u64 == len { Ok(buf) } else { Err(blocks.corrupt(file_len, "file became shorter while it was opened")) }
}
