//! Reads single blocks of one SST: through the cache, or into private memory when the cache cannot hold them.
//!
//! No read allocates in the long run: stored bytes pass through an aligned buffer of the thread, private payloads live in
//! vectors that go back to the thread.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use crate::base::ids::FileNumber;
use crate::base::limits::IO_ALIGN;
use crate::cache::{BlockCache, BlockKey, BlockKind, Frame, Hint};
use crate::env::File;
use crate::error::{Error, Result};
use crate::format::Decoded;
use crate::format::block::{BlockHandle, BlockType, Stored};
use crate::mem::aligned::AlignedBuf;

/// Memory that a thread keeps between reads; what a jumbo block needed beyond it is given back.
const KEEP_LEN: usize = 1 << 20;
/// Private payloads that a thread keeps for reuse.
const KEEP_SPARE: usize = 4;

thread_local! {
    static SCRATCH: RefCell<Option<AlignedBuf>> = const { RefCell::new(None) };
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A block's payload: a frame of the cache, or private memory.
pub(super) enum BlockRef<'c> {
    Cached(Frame<'c>),
    Private(Spare),
}

impl Deref for BlockRef<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Cached(frame) => frame,
            Self::Private(spare) => &spare.0,
        }
    }
}

impl Default for BlockRef<'_> {
    /// No bytes.
    fn default() -> Self {
        Self::Private(Spare(Vec::new()))
    }
}

impl BlockRef<'_> {
    /// Private memory to fill; a frame is given back.
    pub(super) fn private(&mut self) -> &mut Vec<u8> {
        if let Self::Cached(_) = self {
            *self = Self::Private(Spare::take());
        }
        let Self::Private(spare) = self else { unreachable!("made private above") };
        &mut spare.0
    }
}

/// A vector that goes back to its thread when it is dropped.
pub(super) struct Spare(Vec<u8>);

impl Spare {
    fn take() -> Self {
        Self(SPARE.with_borrow_mut(Vec::pop).unwrap_or_default())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let vec = std::mem::take(&mut self.0);
        if (1..=KEEP_LEN).contains(&vec.capacity()) {
            // While the thread ends there is nowhere to go back to, and the vector is simply freed.
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < KEEP_SPARE {
                    spare.push(vec);
                }
            });
        }
    }
}

/// The file that blocks are read from.
pub(super) struct Blocks {
    pub(super) file: Arc<dyn File>,
    pub(super) number: FileNumber,
}

/// The aligned part of a file that holds a block: its offset and length, and where in it the block begins.
pub(super) const fn aligned_span(handle: &BlockHandle) -> (u64, usize, usize) {
    let start = handle.offset - handle.offset % IO_ALIGN as u64;
    let len = (handle.end().next_multiple_of(IO_ALIGN as u64) - start) as usize;
    (start, len, (handle.offset - start) as usize)
}

const fn kind_of(kind: BlockType) -> BlockKind {
    match kind {
        BlockType::Data => BlockKind::Data,
        BlockType::Index => BlockKind::Index,
        BlockType::Filter => BlockKind::Filter,
    }
}

impl Blocks {
    #[cold]
    pub(super) fn corrupt(&self, offset: u64, what: &str) -> Error {
        Error::corruption(self.file.path(), offset, what)
    }

    /// `decoded`, or the corruption of the block at `handle`.
    #[inline]
    pub(super) fn checked<T>(&self, handle: &BlockHandle, decoded: Decoded<T>) -> Result<T> {
        decoded.map_err(|what| self.corrupt(handle.offset, what))
    }

    pub(super) const fn key(&self, handle: &BlockHandle) -> BlockKey {
        BlockKey { file: self.number, offset: handle.offset }
    }

    /// Runs `run` on the stored bytes of a block, read from the file.
    fn with_stored<T>(&self, handle: &BlockHandle, run: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let mut buf = SCRATCH.take().unwrap_or_else(|| AlignedBuf::zeroed(0));
        let result = self.read_stored(handle, &mut buf).and_then(|skip| {
            let stored = buf.get(skip..skip + handle.stored_len as usize);
            run(stored.ok_or_else(|| self.corrupt(handle.offset, "file ends inside a block"))?)
        });
        if buf.capacity() <= KEEP_LEN {
            SCRATCH.set(Some(buf));
        }
        result
    }

    /// Fills `buf` with what was read; returns where in it the block begins.
    fn read_stored(&self, handle: &BlockHandle, buf: &mut AlignedBuf) -> Result<usize> {
        let (start, len, skip) =
            if self.file.is_direct() { aligned_span(handle) } else { (handle.offset, handle.stored_len as usize, 0) };
        if buf.capacity() < len {
            *buf = AlignedBuf::zeroed(len);
        }
        buf.set_len(len);
        let read = self.file.read_at(buf, start)?;
        buf.set_len(read.min(len));
        Ok(skip)
    }

    /// Opens stored bytes into `out`, which is a frame of the cache.
    pub(super) fn open_into(
        &self,
        handle: &BlockHandle,
        kind: BlockType,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let opened = Stored::check(bytes, kind).and_then(|stored| match stored.raw_len() {
            len if len == handle.raw_len as usize => stored.open(out),
            _ => Err("block has another raw length than its index entry"),
        });
        self.checked(handle, opened)
    }

    /// Opens stored bytes into `out`.
    pub(super) fn open_vec(
        &self,
        handle: &BlockHandle,
        kind: BlockType,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let opened = Stored::check(bytes, kind).and_then(|stored| match stored.raw_len() {
            len if len == handle.raw_len as usize => stored.open_vec(out),
            _ => Err("block has another raw length than its index entry"),
        });
        self.checked(handle, opened)
    }

    /// Reads a block into `out`, past the cache.
    pub(super) fn read_vec(&self, handle: &BlockHandle, kind: BlockType, out: &mut Vec<u8>) -> Result<()> {
        self.with_stored(handle, |bytes| self.open_vec(handle, kind, bytes, out))
    }

    /// Reads a block into `out`, a frame of the cache; returns its length.
    pub(super) fn read_into(&self, handle: &BlockHandle, kind: BlockType, out: &mut [u8]) -> Result<usize> {
        self.with_stored(handle, |bytes| self.open_into(handle, kind, bytes, out))
    }

    /// A block, from the cache, or from `bytes` (its stored form) when they are given, or from the file.
    #[inline]
    pub(super) fn block<'c>(
        &self,
        cache: &'c BlockCache,
        handle: &BlockHandle,
        kind: BlockType,
        bytes: Option<&[u8]>,
    ) -> Result<BlockRef<'c>> {
        if handle.raw_len as usize <= cache.frame_len() {
            let mut load = |out: &mut [u8]| match bytes {
                Some(bytes) => self.open_into(handle, kind, bytes, out),
                None => self.read_into(handle, kind, out),
            };
            if let Some(frame) = cache.get_or_load(self.key(handle), kind_of(kind), &mut load)? {
                return Ok(BlockRef::Cached(frame));
            }
        }
        let mut spare = Spare::take();
        match bytes {
            Some(bytes) => self.open_vec(handle, kind, bytes, &mut spare.0)?,
            None => self.read_vec(handle, kind, &mut spare.0)?,
        }
        Ok(BlockRef::Private(spare))
    }

    /// As [`block`](Self::block), for a block that is asked for often.
    #[inline]
    pub(super) fn block_hinted<'c>(
        &self,
        cache: &'c BlockCache,
        handle: &BlockHandle,
        kind: BlockType,
        hint: Option<&Hint>,
    ) -> Result<BlockRef<'c>> {
        if let Some(hint) = hint
            && handle.raw_len as usize <= cache.frame_len()
        {
            let mut load = |out: &mut [u8]| self.read_into(handle, kind, out);
            if let Some(frame) = cache.get_or_load_hinted(self.key(handle), kind_of(kind), hint, &mut load)? {
                return Ok(BlockRef::Cached(frame));
            }
        }
        self.block(cache, handle, kind, None)
    }

    /// A data block when it is cached.
    #[inline]
    pub(super) fn cached<'c>(&self, cache: &'c BlockCache, handle: &BlockHandle) -> Option<Frame<'c>> {
        cache.get(self.key(handle), BlockKind::Data)
    }
}
