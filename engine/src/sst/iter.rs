//! Walks the entries of an SST in both directions.
//!
//! The iterator owns all it needs between calls: it keeps a private copy of the data block it is in and pins nothing in the
//! cache. Seeking within that block reads nothing. A forward walk over blocks that are not cached reads the next few along
//! with each, a growing window; after some windows it reads ahead in large chunks and leaves the cache alone.

use std::sync::Arc;

use crate::base::key::Trailer;
use crate::cache::{BlockCache, BlockKind};
use crate::error::Result;
use crate::format::Decoded;
use crate::format::block::iter::BlockIter;
use crate::format::block::{BlockHandle, BlockType};
use crate::format::index::IndexBlock;

use super::read_ahead::{CHUNK_MAX, ReadAheadStream};
use super::reader::SstReader;
use super::window::Window;

/// Windows read one after the other before a stream takes over: a stream costs a queue and several reads at once.
const WINDOWS_MAX: u32 = 3;
/// First chunk when reading ahead starts by itself.
const CHUNK_FIRST: usize = 256 << 10;

/// How an iterator reads data blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAhead {
    /// Through the cache; a long forward walk reads ahead, up to 1 MiB at a time, past the cache.
    Auto,
    /// Never through the cache, 1 MiB at a time: for reading whole files once.
    Compaction,
}

/// Where the current block is in the index.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    partition: usize,
    entry: usize,
    /// Entries of the partition.
    entries: usize,
}

/// An iterator over an SST. Starts at no entry.
///
/// Every move may fail with corruption or I/O; the iterator is then at no entry.
pub struct SstIter {
    reader: Arc<SstReader>,
    mode: ReadAhead,
    block: BlockIter<Vec<u8>>,
    /// Offset of the block in `block`.
    loaded: Option<u64>,
    place: Place,
    /// Private copy of an index partition and its number; only without the cache.
    partition: Vec<u8>,
    partition_number: Option<usize>,
    stream: Option<ReadAheadStream>,
    streaming: bool,
    /// What was read along with the last missing block.
    window: Window,
}

impl SstIter {
    /// An iterator over all entries of `reader`.
    #[must_use]
    pub fn new(reader: Arc<SstReader>, mode: ReadAhead) -> Self {
        Self {
            reader,
            mode,
            block: BlockIter::default(),
            loaded: None,
            place: Place::default(),
            partition: Vec::new(),
            partition_number: None,
            stream: None,
            streaming: false,
            window: Window::new(),
        }
    }

    /// The SST.
    #[must_use]
    pub const fn reader(&self) -> &Arc<SstReader> {
        &self.reader
    }

    /// Whether the iterator is at an entry.
    #[inline]
    #[must_use]
    pub const fn valid(&self) -> bool {
        self.block.valid()
    }

    /// The entry's full key. Meaningless unless [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.block.key()
    }

    /// The entry's trailer. Meaningless unless [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub const fn trailer(&self) -> Trailer {
        self.block.trailer()
    }

    /// The entry's value. Empty unless [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.block.value()
    }

    /// To the first entry at or behind (`key`, `bound`): of `key` itself, the newest version that is not above `bound`.
    ///
    /// # Errors
    /// Corruption, I/O; so for every move.
    pub fn seek(&mut self, cache: &BlockCache, key: &[u8], bound: Trailer) -> Result<()> {
        if !self.seek_block(cache, key, bound)? {
            return Ok(());
        }
        let moved = self.block.seek(key, bound);
        if self.moved(moved)? { Ok(()) } else { self.first_of_next_block(cache) }
    }

    /// To the last entry at or before (`key`, `bound`) in the order of entries. With bound `Trailer(0)` that is behind all
    /// versions of `key`.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn seek_for_prev(&mut self, cache: &BlockCache, key: &[u8], bound: Trailer) -> Result<()> {
        if !self.seek_block(cache, key, bound)? {
            return self.last(cache);
        }
        let moved = self.block.seek_for_prev(key, bound);
        if self.moved(moved)? { Ok(()) } else { self.last_of_previous_block(cache) }
    }

    /// To the first entry.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn first(&mut self, cache: &BlockCache) -> Result<()> {
        self.forget_position();
        if self.partitions() == 0 {
            return Ok(());
        }
        self.enter(cache, 0, Some(0), true)?;
        let moved = self.block.first();
        if self.moved(moved)? { Ok(()) } else { self.first_of_next_block(cache) }
    }

    /// To the last entry.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn last(&mut self, cache: &BlockCache) -> Result<()> {
        self.forget_position();
        let Some(partition) = self.partitions().checked_sub(1) else { return Ok(()) };
        self.enter(cache, partition, None, false)?;
        let moved = self.block.last();
        if self.moved(moved)? { Ok(()) } else { self.last_of_previous_block(cache) }
    }

    /// To the next entry. Nowhere when the iterator is at none.
    ///
    /// # Errors
    /// Corruption, I/O.
    #[inline]
    pub fn next(&mut self, cache: &BlockCache) -> Result<()> {
        match self.block.next() {
            Ok(true) => Ok(()),
            moved => self.next_slow(cache, moved),
        }
    }

    #[cold]
    fn next_slow(&mut self, cache: &BlockCache, moved: Decoded<bool>) -> Result<()> {
        self.moved(moved)?;
        if self.loaded.is_none() { Ok(()) } else { self.first_of_next_block(cache) }
    }

    /// To the entry before. Nowhere when the iterator is at none.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn prev(&mut self, cache: &BlockCache) -> Result<()> {
        if !self.valid() {
            return Ok(());
        }
        let moved = self.block.prev();
        if self.moved(moved)? { Ok(()) } else { self.last_of_previous_block(cache) }
    }

    /// The outcome of a move within the block.
    #[inline]
    fn moved(&mut self, moved: Decoded<bool>) -> Result<bool> {
        moved.map_err(|what| self.reader.blocks.corrupt(self.loaded.take().unwrap_or_default(), what))
    }

    fn partitions(&self) -> usize {
        self.reader.partition_starts.len()
    }

    /// What was sequential before is not any more.
    const fn forget_position(&mut self) {
        self.block.invalidate();
        self.streaming = false;
        self.window.begin();
    }

    /// Loads the only block that can hold the first entry at or behind (`key`, `bound`); false when all are before it.
    fn seek_block(&mut self, cache: &BlockCache, key: &[u8], bound: Trailer) -> Result<bool> {
        self.forget_position();
        let Some((partition, _)) = self.reader.partition_of(key, bound)? else {
            self.loaded = None;
            return Ok(false);
        };
        let (entry, entries, handle) = self.with_index(cache, partition, |index| {
            let entry = index.search(key, bound)?;
            Ok((entry, index.len(), index.handle(entry)?))
        })?;
        self.place = Place { partition, entry, entries };
        self.load(cache, &handle, true)?;
        Ok(true)
    }

    fn first_of_next_block(&mut self, cache: &BlockCache) -> Result<()> {
        loop {
            let Place { partition, entry, entries } = self.place;
            if entry + 1 < entries {
                self.enter(cache, partition, Some(entry + 1), true)?;
            } else if partition + 1 < self.partitions() {
                self.enter(cache, partition + 1, Some(0), true)?;
            } else {
                self.loaded = None;
                return Ok(());
            }
            let moved = self.block.first();
            if self.moved(moved)? {
                return Ok(());
            }
        }
    }

    fn last_of_previous_block(&mut self, cache: &BlockCache) -> Result<()> {
        loop {
            let Place { partition, entry, .. } = self.place;
            if entry > 0 {
                self.enter(cache, partition, Some(entry - 1), false)?;
            } else if partition > 0 {
                self.enter(cache, partition - 1, None, false)?;
            } else {
                self.loaded = None;
                return Ok(());
            }
            let moved = self.block.last();
            if self.moved(moved)? {
                return Ok(());
            }
        }
    }

    /// Loads the block of an index entry; the last one of the partition when `entry` is `None`.
    fn enter(&mut self, cache: &BlockCache, partition: usize, entry: Option<usize>, forward: bool) -> Result<()> {
        let (entry, entries, handle) = self.with_index(cache, partition, |index| {
            let entry = entry.unwrap_or(index.len().saturating_sub(1));
            Ok((entry, index.len(), index.handle(entry)?))
        })?;
        self.place = Place { partition, entry, entries };
        self.load(cache, &handle, forward)
    }

    fn with_index<T>(
        &mut self,
        cache: &BlockCache,
        partition: usize,
        look: impl FnOnce(&IndexBlock<'_>) -> Decoded<T>,
    ) -> Result<T> {
        let blocks = &self.reader.blocks;
        let handle = self.reader.partition_handle(partition)?;
        if self.mode == ReadAhead::Auto {
            let block = blocks.block(cache, &handle, BlockType::Index, None)?;
            return blocks.checked(&handle, IndexBlock::parse(&block).and_then(|index| look(&index)));
        }
        if self.partition_number != Some(partition) {
            self.partition_number = None;
            blocks.read_vec(&handle, BlockType::Index, &mut self.partition)?;
            self.partition_number = Some(partition);
        }
        blocks.checked(&handle, IndexBlock::parse(&self.partition).and_then(|index| look(&index)))
    }

    /// Makes `block` the block at `handle`. `forward` says that the walk goes on behind it.
    fn load(&mut self, cache: &BlockCache, handle: &BlockHandle, forward: bool) -> Result<()> {
        if self.loaded == Some(handle.offset) {
            self.block.invalidate();
            return Ok(());
        }
        self.loaded = None;
        if !forward {
            self.streaming = false;
            self.window.begin();
        }
        let first_chunk = if self.mode == ReadAhead::Compaction { CHUNK_MAX } else { CHUNK_FIRST };
        let wanted = self.mode == ReadAhead::Compaction || self.window.reads() >= WINDOWS_MAX;
        if forward && wanted && !self.streaming {
            self.start_stream(handle, first_chunk)?;
        }
        let Self { reader, mode, block, stream, streaming, window, .. } = self;
        let (blocks, mode) = (&reader.blocks, *mode);
        let counts = block.reload(|payload| match stream {
            Some(stream) if *streaming => blocks.open_vec(handle, BlockType::Data, stream.stored(handle)?, payload),
            _ if mode == ReadAhead::Compaction => blocks.read_vec(handle, BlockType::Data, payload),
            _ => {
                let end = reader.properties().data_end;
                if handle.raw_len as usize <= cache.frame_len() {
                    let mut load = |out: &mut [u8]| {
                        blocks.open_into(handle, BlockType::Data, window.stored(blocks, handle, forward, end)?, out)
                    };
                    if let Some(frame) = cache.get_or_load(blocks.key(handle), BlockKind::Data, &mut load)? {
                        payload.clear();
                        payload.extend_from_slice(&frame);
                        return Ok(());
                    }
                }
                blocks.open_vec(handle, BlockType::Data, window.stored(blocks, handle, forward, end)?, payload)
            }
        })?;
        blocks.checked(handle, counts)?;
        self.loaded = Some(handle.offset);
        Ok(())
    }

    fn start_stream(&mut self, handle: &BlockHandle, first_chunk: usize) -> Result<()> {
        if self.stream.is_none() {
            let SstReader { env, blocks, .. } = &*self.reader;
            self.stream = Some(ReadAheadStream::new(env, &blocks.file, self.reader.properties().data_end)?);
        }
        if let Some(stream) = &mut self.stream {
            stream.start(handle.offset, first_chunk);
        }
        self.streaming = true;
        Ok(())
    }
}
