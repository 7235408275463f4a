//! A stretch of a file in private memory: a short scan reads its next few blocks in one operation.
//!
//! Between a single block (a point read) and a stream (a long scan) lies the common case of a scan over some tens of rows.
//! A device needs about as long for 32 KiB as for 4 KiB, so a missing block is read with what lies behind it.

use std::sync::Arc;

use crate::base::limits::IO_ALIGN;
use crate::env::IoOp;
use crate::error::Result;
use crate::format::block::BlockHandle;
use crate::mem::aligned::AlignedBuf;

use super::blocks::{Blocks, aligned_span};

/// Bytes read with the first missing block of a walk; doubled with each further read.
const FIRST_LEN: usize = 32 << 10;

/// The stretch: `buf` holds the file's bytes from `offset` on.
pub(super) struct Window {
    buf: AlignedBuf,
    offset: u64,
    reads: u32,
}

impl Window {
    /// A window that holds nothing yet.
    pub(super) const fn new() -> Self {
        Self { buf: AlignedBuf::empty(), offset: 0, reads: 0 }
    }

    /// Reads of the current walk.
    pub(super) const fn reads(&self) -> u32 {
        self.reads
    }

    /// A new walk begins: its first read is short again.
    pub(super) const fn begin(&mut self) {
        self.reads = 0;
    }

    /// The read that would move the window to begin with a block, for a queue. `end` is where the data ends.
    pub(super) fn request(&mut self, blocks: &Blocks, handle: &BlockHandle, end: u64) -> IoOp {
        let (start, len) = self.place(handle, true, end);
        let mut buf = std::mem::replace(&mut self.buf, AlignedBuf::empty());
        if buf.capacity() < len {
            buf = AlignedBuf::zeroed(len);
        }
        buf.set_len(len);
        self.offset = start;
        IoOp::Read { file: Arc::clone(&blocks.file), offset: start, buf }
    }

    /// Takes in what the last [`request`](Self::request) read: the first `len` bytes of `buf`.
    pub(super) fn fill(&mut self, mut buf: AlignedBuf, len: usize) {
        buf.set_len(len);
        self.buf = buf;
        self.reads += 1;
    }

    /// Offset and length of the read that moves the window to a block.
    fn place(&self, handle: &BlockHandle, ahead: bool, end: u64) -> (u64, usize) {
        let (start, span, _) = aligned_span(handle);
        let rest = end.next_multiple_of(IO_ALIGN as u64).saturating_sub(start) as usize;
        (start, if ahead { (FIRST_LEN << self.reads.min(3)).min(rest).max(span) } else { span })
    }

    /// The stored bytes of a block. When they are not in the window it is moved to begin with them; `ahead` says that what
    /// lies behind the block, as far as `end`, will be wanted, too.
    pub(super) fn stored(&mut self, blocks: &Blocks, handle: &BlockHandle, ahead: bool, end: u64) -> Result<&[u8]> {
        if handle.offset < self.offset || handle.end() > self.offset + self.buf.len() as u64 {
            let (start, len) = self.place(handle, ahead, end);
            if self.buf.capacity() < len {
                self.buf = AlignedBuf::zeroed(len);
            }
            self.buf.set_len(len);
            self.offset = start;
            self.reads += 1;
            let read = blocks.file.read_at(&mut self.buf, start);
            // What could not be read is not held.
            self.buf.set_len(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let from = (handle.offset - self.offset) as usize;
        let stored = self.buf.get(from..from + handle.stored_len as usize);
        stored.ok_or_else(|| blocks.corrupt(handle.offset, "file ends inside a block"))
    }
}
