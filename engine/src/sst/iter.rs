//! Walks the entries of an SST in both directions.
//!
//! The iterator pins the data block it is in, or has it in private memory when it is not in the cache. Between two calls of
//! its user's user it holds nothing in the region: [`SstIter::park`] gives the pin back and keeps the position, and
//! [`SstIter::attach`] pins the block anew. Key and trailer of the position are private, so a parked iterator can be compared
//! with others.
//!
//! A forward walk over blocks that are not cached reads the next few along with each, a growing window; after some windows
//! it reads ahead in large chunks and leaves the cache alone. It reads nothing that only entries behind its end need.

use std::sync::Arc;

use crate::base::key::Trailer;
use crate::cache::{BlockCache, BlockKind, Frame};
use crate::env::IoOp;
use crate::error::Result;
use crate::format::Decoded;
use crate::format::block::iter::BlockIter;
use crate::format::block::{BlockHandle, BlockType};
use crate::format::index::IndexBlock;
use crate::mem::aligned::AlignedBuf;

use super::blocks::BlockRef;
use super::read_ahead::{CHUNK_MAX, ReadAheadStream, merge_chunk};
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
    /// Through the cache, however long the walk: for what is small beside it and will be read again.
    FillCache,
    /// Whatever is cached from the cache, the rest past it, in chunks of so many bytes: for reading whole files once.
    Compaction(usize),
}

impl ReadAhead {
    /// For a merge that reads `streams` files at the same time: together they take about 8 MiB.
    #[must_use]
    pub fn of_merge(streams: usize) -> Self {
        Self::Compaction(merge_chunk(streams))
    }

    const fn is_compaction(self) -> bool {
        matches!(self, Self::Compaction(_))
    }
}

/// Where a seek goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All entries are before it.
    Behind,
    /// To the block that the iterator has.
    Here,
    /// To a block that is not in the cache.
    Missing(BlockHandle),
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
pub struct SstIter<'c> {
    reader: Arc<SstReader>,
    mode: ReadAhead,
    /// A full key; entries from there on are not wanted.
    until: Option<Arc<[u8]>>,
    block: BlockIter<BlockRef<'c>>,
    /// The block in `block`.
    loaded: Option<BlockHandle>,
    /// The block was given back to the cache: only its position is here.
    parked: bool,
    streaming: bool,
    place: Place,
    /// Made when the first block is missing from the cache, so that iterators over cached blocks are small and move fast.
    private: Option<Box<Private>>,
}

/// What an iterator needs to read past the cache.
struct Private {
    /// Copy of an index partition and its number; only without the cache.
    partition: Vec<u8>,
    partition_number: Option<usize>,
    stream: Option<ReadAheadStream>,
    /// Where what is wanted ends in the file.
    end: Option<u64>,
    /// What was read along with the last missing block.
    window: Window,
}

impl Private {
    fn new() -> Box<Self> {
        Box::new(Self { partition: Vec::new(), partition_number: None, stream: None, end: None, window: Window::new() })
    }
}

impl<'c> SstIter<'c> {
    /// An iterator over all entries of `reader`.
    #[must_use]
    pub fn new(reader: Arc<SstReader>, mode: ReadAhead) -> Self {
        Self {
            reader,
            mode,
            until: None,
            block: BlockIter::default(),
            loaded: None,
            parked: false,
            streaming: false,
            place: Place::default(),
            private: None,
        }
    }

    /// The same, for whoever does not want entries at or behind the full key `until`.
    #[must_use]
    pub fn until(mut self, until: Option<Arc<[u8]>>) -> Self {
        self.until = until;
        self
    }

    /// Whether the block that the iterator is in is one of the cache.
    #[inline]
    #[must_use]
    pub const fn is_cached(&self) -> bool {
        matches!(self.block.payload(), BlockRef::Cached(_))
    }

    /// Gives back what is pinned; the position stays. Before the next move, or a look at the value,
    /// [`attach`](Self::attach).
    #[must_use]
    pub fn park(self) -> SstIter<'static> {
        let Self { reader, mode, until, block, loaded, mut parked, streaming, place, private } = self;
        let block = block.moved(|payload| match payload {
            BlockRef::Private(spare) => BlockRef::Private(spare),
            BlockRef::Cached(_) => {
                parked = true;
                BlockRef::default()
            }
        });
        SstIter { reader, mode, until, block, loaded, parked, streaming, place, private }
    }

    /// Has the block of the position again after [`park`](Self::park).
    ///
    /// # Errors
    /// Corruption, I/O: the block may have left the cache.
    #[inline]
    pub fn attach(&mut self, cache: &'c BlockCache) -> Result<()> {
        if !self.parked {
            return Ok(());
        }
        if let Some(handle) = &self.loaded {
            self.block.replace_payload(self.reader.blocks.block(cache, handle, BlockType::Data, None)?);
        }
        self.parked = false;
        Ok(())
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
    pub fn seek(&mut self, cache: &'c BlockCache, key: &[u8], bound: Trailer) -> Result<()> {
        let target = self.begin_seek(cache, key, bound)?;
        self.finish_seek(cache, key, bound, target)
    }

    /// The first half of [`seek`](Self::seek): finds the block to look into, in the index. So the blocks of many seeks can
    /// be read at once: [`read_op`](Self::read_op) for those that are [missing](Target::Missing), then
    /// [`finish_seek`](Self::finish_seek).
    ///
    /// # Errors
    /// As `seek`.
    pub fn begin_seek(&mut self, cache: &'c BlockCache, key: &[u8], bound: Trailer) -> Result<Target> {
        self.forget_position();
        let Some((partition, _)) = self.reader.partition_of(key, bound)? else {
            self.loaded = None;
            return Ok(Target::Behind);
        };
        let (entry, entries, handle) = self.with_index(cache, partition, |index| {
            let entry = index.search(key, bound)?;
            Ok((entry, index.len(), index.handle(entry)?))
        })?;
        self.place = Place { partition, entry, entries };
        if self.loaded == Some(handle) {
            self.attach(cache)?;
            return Ok(Target::Here);
        }
        let peeked = cache.peek(self.reader.blocks.key(&handle), BlockKind::Data);
        let Some(frame) = peeked else { return Ok(Target::Missing(handle)) };
        self.take_frame(&handle, frame)?;
        Ok(Target::Here)
    }

    /// A read of the block at `handle`, and of what lies behind it, for a queue. What comes back is for
    /// [`take_read`](Self::take_read). `None` when this iterator reads in its own way.
    pub fn read_op(&mut self, handle: &BlockHandle) -> Option<IoOp> {
        let data_end = self.reader.properties().data_end;
        let private = self.private.get_or_insert_with(Private::new);
        let end = private.end.unwrap_or(data_end);
        (!self.mode.is_compaction()).then(|| private.window.request(&self.reader.blocks, handle, end))
    }

    /// Where what is wanted ends in the file, as far as it matters: a first read is so short that it is not looked up.
    fn end(&mut self, cache: &BlockCache) -> Result<u64> {
        let data_end = self.reader.properties().data_end;
        let (Some(until), Some(private)) = (&self.until, &mut self.private) else { return Ok(data_end) };
        if private.end.is_none() {
            private.end = Some(self.reader.end_before(cache, until)?);
        }
        Ok(private.end.unwrap_or(data_end))
    }

    /// Keeps what the last [`read_op`](Self::read_op) read.
    pub fn take_read(&mut self, buf: AlignedBuf, len: usize) {
        if let Some(private) = &mut self.private {
            private.window.fill(buf, len);
        }
    }

    /// The second half of [`seek`](Self::seek).
    ///
    /// # Errors
    /// As `seek`.
    pub fn finish_seek(&mut self, cache: &'c BlockCache, key: &[u8], bound: Trailer, target: Target) -> Result<()> {
        match target {
            Target::Behind => return Ok(()),
            Target::Here => {}
            Target::Missing(handle) => self.load(cache, &handle, true)?,
        }
        let moved = self.block.seek(key, bound);
        if self.moved(moved)? { Ok(()) } else { self.first_of_next_block(cache) }
    }

    /// To the last entry at or before (`key`, `bound`) in the order of entries. With bound `Trailer(0)` that is behind all
    /// versions of `key`.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn seek_for_prev(&mut self, cache: &'c BlockCache, key: &[u8], bound: Trailer) -> Result<()> {
        match self.begin_seek(cache, key, bound)? {
            Target::Behind => return self.last(cache),
            Target::Here => {}
            Target::Missing(handle) => self.load(cache, &handle, true)?,
        }
        let moved = self.block.seek_for_prev(key, bound);
        if self.moved(moved)? { Ok(()) } else { self.last_of_previous_block(cache) }
    }

    /// To the first entry.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn first(&mut self, cache: &'c BlockCache) -> Result<()> {
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
    pub fn last(&mut self, cache: &'c BlockCache) -> Result<()> {
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
    pub fn next(&mut self, cache: &'c BlockCache) -> Result<()> {
        if self.next_in_block()? { Ok(()) } else { self.next_block(cache) }
    }

    /// To the next entry of the block; false, and at no entry, when there is none: then [`next_block`](Self::next_block) goes on.
    ///
    /// # Errors
    /// Corruption.
    #[inline]
    pub fn next_in_block(&mut self) -> Result<bool> {
        let moved = self.block.next();
        self.moved(moved)
    }

    /// To the first entry of the block behind the current one.
    ///
    /// # Errors
    /// Corruption, I/O.
    #[cold]
    pub fn next_block(&mut self, cache: &'c BlockCache) -> Result<()> {
        if self.loaded.is_none() { Ok(()) } else { self.first_of_next_block(cache) }
    }

    /// Whether all entries of the current block come before (`key`, `bound`); the index may not know and say no.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn block_is_before(&mut self, cache: &'c BlockCache, key: &[u8], bound: Trailer) -> Result<bool> {
        let Place { partition, entry, .. } = self.place;
        // A block's entries are not behind its separator.
        self.with_index(cache, partition, |index| index.search(key, bound)).map(|first| entry < first)
    }

    /// To the entry before. Nowhere when the iterator is at none.
    ///
    /// # Errors
    /// Corruption, I/O.
    pub fn prev(&mut self, cache: &'c BlockCache) -> Result<()> {
        if !self.valid() {
            return Ok(());
        }
        let moved = self.block.prev();
        if self.moved(moved)? { Ok(()) } else { self.last_of_previous_block(cache) }
    }

    /// The outcome of a move within the block.
    #[inline]
    fn moved(&mut self, moved: Decoded<bool>) -> Result<bool> {
        moved.map_err(|what| self.reader.blocks.corrupt(self.loaded.take().unwrap_or_default().offset, what))
    }

    fn partitions(&self) -> usize {
        self.reader.partition_starts.len()
    }

    /// What was sequential before is not any more.
    fn forget_position(&mut self) {
        self.block.invalidate();
        self.end_walk();
    }

    /// The next missing block is not expected behind the one before.
    fn end_walk(&mut self) {
        self.streaming = false;
        if let Some(private) = &mut self.private {
            private.window.begin();
        }
    }

    fn first_of_next_block(&mut self, cache: &'c BlockCache) -> Result<()> {
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

    fn last_of_previous_block(&mut self, cache: &'c BlockCache) -> Result<()> {
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
    fn enter(&mut self, cache: &'c BlockCache, partition: usize, entry: Option<usize>, forward: bool) -> Result<()> {
        let foresees = forward && !self.mode.is_compaction();
        let (entry, entries, handle, ahead) = self.with_index(cache, partition, |index| {
            let entry = entry.unwrap_or(index.len().saturating_sub(1));
            let ahead = [entry + 1, entry + 2].map(|at| if foresees { index.handle(at).ok() } else { None });
            Ok((entry, index.len(), index.handle(entry)?, ahead))
        })?;
        if let [Some(next), later] = ahead {
            let blocks = &self.reader.blocks;
            cache.prefetch((blocks.key(&next), next.raw_len as usize), later.map(|later| blocks.key(&later)));
        }
        self.place = Place { partition, entry, entries };
        self.load(cache, &handle, forward)
    }

    fn with_index<T>(
        &mut self,
        cache: &'c BlockCache,
        partition: usize,
        look: impl FnOnce(&IndexBlock<'_>) -> Decoded<T>,
    ) -> Result<T> {
        let blocks = &self.reader.blocks;
        let handle = self.reader.partition_handle(partition)?;
        if !self.mode.is_compaction() {
            let hint = self.reader.index_hints.get(partition);
            let block = blocks.block_hinted(cache, &handle, BlockType::Index, hint)?;
            return blocks.checked(&handle, IndexBlock::parse(&block).and_then(|index| look(&index)));
        }
        let private = self.private.get_or_insert_with(Private::new);
        if private.partition_number != Some(partition) {
            private.partition_number = None;
            blocks.read_vec(&handle, BlockType::Index, &mut private.partition)?;
            private.partition_number = Some(partition);
        }
        blocks.checked(&handle, IndexBlock::parse(&private.partition).and_then(|index| look(&index)))
    }

    /// Makes `block` the block at `handle`. `forward` says that the walk goes on behind it.
    fn load(&mut self, cache: &'c BlockCache, handle: &BlockHandle, forward: bool) -> Result<()> {
        if self.loaded == Some(*handle) {
            self.block.invalidate();
            return self.attach(cache);
        }
        if !forward {
            self.end_walk();
        }
        let compaction = self.mode.is_compaction();
        if compaction && let Some(frame) = cache.peek(self.reader.blocks.key(handle), BlockKind::Data) {
            return self.take_frame(handle, frame);
        }
        let windows = self.private.as_ref().map_or(0, |private| private.window.reads());
        let wants_stream = compaction || (self.mode == ReadAhead::Auto && windows >= WINDOWS_MAX);
        if forward && !self.streaming && wants_stream {
            self.start_stream(cache, handle)?;
        }
        let end = self.end(cache)?;
        let Self { reader, block, loaded, parked, streaming, private, .. } = self;
        *parked = false;
        let blocks = &reader.blocks;
        change_block(reader, block, loaded, handle, |payload| {
            if *streaming && let Some(Private { stream: Some(stream), .. }) = private.as_deref_mut() {
                return blocks.open_vec(handle, BlockType::Data, stream.stored(handle)?, payload.private());
            }
            if compaction {
                return blocks.read_vec(handle, BlockType::Data, payload.private());
            }
            if handle.raw_len as usize <= cache.frame_len() {
                let mut load = |out: &mut [u8]| {
                    let window = &mut private.get_or_insert_with(Private::new).window;
                    blocks.open_into(handle, BlockType::Data, window.stored(blocks, handle, forward, end)?, out)
                };
                if let Some(frame) = cache.get_or_load(blocks.key(handle), BlockKind::Data, &mut load)? {
                    *payload = BlockRef::Cached(frame);
                    return Ok(());
                }
            }
            let window = &mut private.get_or_insert_with(Private::new).window;
            blocks.open_vec(handle, BlockType::Data, window.stored(blocks, handle, forward, end)?, payload.private())
        })
    }

    fn take_frame(&mut self, handle: &BlockHandle, frame: Frame<'c>) -> Result<()> {
        self.parked = false;
        change_block(&self.reader, &mut self.block, &mut self.loaded, handle, |payload| {
            *payload = BlockRef::Cached(frame);
            Ok(())
        })
    }

    fn start_stream(&mut self, cache: &BlockCache, handle: &BlockHandle) -> Result<()> {
        let end = self.end(cache)?;
        let (first, longest) = match self.mode {
            ReadAhead::Auto | ReadAhead::FillCache => (CHUNK_FIRST, CHUNK_MAX),
            ReadAhead::Compaction(chunk) => (chunk, chunk),
        };
        let private = self.private.get_or_insert_with(Private::new);
        let stream = match &mut private.stream {
            Some(stream) => stream,
            none => {
                let SstReader { env, blocks, .. } = &*self.reader;
                none.insert(ReadAheadStream::new(env, &blocks.file, self.reader.properties().data_end)?)
            }
        };
        stream.stop_at(end);
        stream.start(handle.offset, first, longest);
        self.streaming = true;
        Ok(())
    }
}

/// Makes what `change` puts into `block` the block at `handle`.
fn change_block<'c>(
    reader: &SstReader,
    block: &mut BlockIter<BlockRef<'c>>,
    loaded: &mut Option<BlockHandle>,
    handle: &BlockHandle,
    change: impl FnOnce(&mut BlockRef<'c>) -> Result<()>,
) -> Result<()> {
    *loaded = None;
    let counts = block.reload(change)?;
    reader.blocks.checked(handle, counts)?;
    *loaded = Some(*handle);
    Ok(())
}
