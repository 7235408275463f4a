//! Sequential output of a new file in large aligned chunks: one is filled while others are on their way to the device.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::base::limits::IO_ALIGN;
use crate::env::{Env, File, IoDone, IoOp, IoQueue, OpenMode};
use crate::error::{Error, Result};
use crate::mem::aligned::AlignedBuf;

/// Chunks on their way to the device while another is filled.
const DEPTH: usize = 2;

pub(super) struct Output {
    file: Arc<dyn File>,
    queue: Box<dyn IoQueue>,
    chunk_len: usize,
    /// What has been appended and not been pushed.
    chunk: AlignedBuf,
    filled: usize,
    /// File offset of `chunk`.
    offset: u64,
    spare: Vec<AlignedBuf>,
    done: Vec<IoDone>,
}

impl Output {
    pub(super) fn create(env: &Arc<dyn Env>, path: &Path, direct: bool, chunk_len: usize) -> Result<Self> {
        let chunk_len = chunk_len.max(1).next_multiple_of(IO_ALIGN);
        let queue = env.queue(DEPTH)?;
        let file = env.open(path, OpenMode { direct, ..OpenMode::CREATE })?;
        let chunk = AlignedBuf::zeroed(chunk_len);
        Ok(Self { file, queue, chunk_len, chunk, filled: 0, offset: 0, spare: Vec::new(), done: Vec::new() })
    }

    /// Bytes appended so far: the offset of what comes next.
    pub(super) const fn offset(&self) -> u64 {
        self.offset + self.filled as u64
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.chunk_len - self.filled;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.chunk[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.chunk_len {
                let next = self.free_chunk()?;
                self.push(next)?;
            }
        }
        Ok(())
    }

    fn free_chunk(&mut self) -> Result<AlignedBuf> {
        if self.queue.in_flight() >= DEPTH {
            self.wait(1)?;
        }
        let mut chunk = self.spare.pop().unwrap_or_else(|| AlignedBuf::zeroed(self.chunk_len));
        chunk.set_len(self.chunk_len);
        Ok(chunk)
    }

    /// Pushes the filled part of the chunk and goes on with `next`.
    fn push(&mut self, next: AlignedBuf) -> Result<()> {
        let mut buf = std::mem::replace(&mut self.chunk, next);
        buf.set_len(self.filled);
        let op = IoOp::Write { file: Arc::clone(&self.file), offset: self.offset, buf };
        let tag = self.offset;
        self.offset += self.filled as u64;
        self.filled = 0;
        self.queue.push(tag, op)
    }

    fn wait(&mut self, min: usize) -> Result<()> {
        self.queue.wait(min, &mut self.done)?;
        for done in self.done.drain(..) {
            let written = done.result?;
            let Some(buf) = done.buf else { continue };
            if written != buf.len() {
                let short = io::Error::from(io::ErrorKind::WriteZero);
                return Err(Error::io_at(self.file.path(), done.tag, "write", short));
            }
            self.spare.push(buf);
        }
        Ok(())
    }

    /// Writes what is left, which ends at a multiple of `IO_ALIGN`, and makes the file stable.
    pub(super) fn finish(mut self) -> Result<()> {
        assert!(self.filled.is_multiple_of(IO_ALIGN), "a file ends at a multiple of IO_ALIGN");
        if self.filled > 0 {
            self.push(AlignedBuf::zeroed(0))?;
        }
        while self.queue.in_flight() > 0 {
            self.wait(usize::MAX)?;
        }
        self.file.sync()
    }
}
