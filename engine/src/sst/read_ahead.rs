//! Reads a file's data area sequentially in large chunks, some of which are on their way while one is used.
//!
//! Chunks are consecutive and aligned, and know nothing of blocks: a block that straddles chunks is put together in a
//! buffer of its own, so no byte is read twice.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::base::limits::IO_ALIGN;
use crate::env::{Env, File, IoDone, IoOp, IoQueue};
use crate::error::{Error, Result};
use crate::format::block::BlockHandle;
use crate::mem::aligned::AlignedBuf;

/// Longest chunk.
pub(super) const CHUNK_MAX: usize = 1 << 20;
/// Shortest chunk of a merge with many inputs.
const CHUNK_MIN: usize = 64 << 10;
/// Chunks that are read while one is used.
const AHEAD: usize = 2;
/// Memory that the streams of one merge take together, unless they are so many that [`CHUNK_MIN`] takes more.
const MERGE_BYTES: usize = 8 << 20;
/// Operations in flight: those of the current position, and as many that a seek made pointless.
const DEPTH: usize = 2 * (AHEAD + 1);

/// Length of the chunks of each of `streams` streams that one merge reads at the same time.
pub(super) fn merge_chunk(streams: usize) -> usize {
    let fair = MERGE_BYTES / (streams.max(1) * (AHEAD + 1));
    (fair - fair % IO_ALIGN).clamp(CHUNK_MIN, CHUNK_MAX)
}

struct Chunk {
    tag: u64,
    offset: u64,
    len: usize,
    /// `None` while it is in flight.
    buf: Option<AlignedBuf>,
}

impl Chunk {
    const fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

pub(super) struct ReadAheadStream {
    queue: Box<dyn IoQueue>,
    file: Arc<dyn File>,
    /// Consecutive; the first is the one in use.
    chunks: VecDeque<Chunk>,
    /// Offset of the next chunk to read; a multiple of `IO_ALIGN`.
    next: u64,
    /// Nothing is read from here on.
    end: u64,
    /// Nothing is read from here on before it is asked for.
    ahead_end: u64,
    chunk_len: usize,
    chunk_max: usize,
    next_tag: u64,
    spare: Vec<AlignedBuf>,
    done: Vec<IoDone>,
    /// A block that straddles chunks.
    assembled: Vec<u8>,
}

impl ReadAheadStream {
    /// A stream over the first `end` bytes of `file`; see [`start`](Self::start).
    pub(super) fn new(env: &Arc<dyn Env>, file: &Arc<dyn File>, end: u64) -> Result<Self> {
        Ok(Self {
            queue: env.queue(DEPTH)?,
            file: Arc::clone(file),
            chunks: VecDeque::new(),
            next: 0,
            end: end.next_multiple_of(IO_ALIGN as u64),
            ahead_end: u64::MAX,
            chunk_len: CHUNK_MAX,
            chunk_max: CHUNK_MAX,
            next_tag: 0,
            spare: Vec::new(),
            done: Vec::new(),
            assembled: Vec::new(),
        })
    }

    /// Goes on at `offset` with a first chunk of `first` bytes; each further chunk is twice as long, up to `longest`.
    pub(super) fn start(&mut self, offset: u64, first: usize, longest: usize) {
        self.chunk_max = longest.clamp(IO_ALIGN, CHUNK_MAX);
        self.chunk_len = first.clamp(IO_ALIGN, self.chunk_max);
        self.restart(offset);
    }

    /// Reads no further ahead than to `end`.
    pub(super) fn stop_at(&mut self, end: u64) {
        self.ahead_end = end.next_multiple_of(IO_ALIGN as u64);
    }

    /// Goes on at `offset` with chunks as long as they are by now.
    fn restart(&mut self, offset: u64) {
        self.spare.extend(self.chunks.drain(..).filter_map(|chunk| chunk.buf));
        self.next = offset - offset % IO_ALIGN as u64;
    }

    /// The stored bytes of a block at or behind those asked for before.
    pub(super) fn stored(&mut self, handle: &BlockHandle) -> Result<&[u8]> {
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= handle.offset) {
            self.spare.extend(self.chunks.pop_front().and_then(|chunk| chunk.buf));
        }
        if self.chunks.front().map_or(self.next, |chunk| chunk.offset) > handle.offset
            || (self.chunks.is_empty() && self.next + IO_ALIGN as u64 <= handle.offset)
        {
            self.restart(handle.offset);
        }
        let ahead_end = self.ahead_end.min(self.end);
        while self.chunks.len() <= AHEAD && self.next < ahead_end {
            self.request(ahead_end)?;
        }
        while self.next < handle.end() && self.next < self.end {
            self.request(handle.end().next_multiple_of(IO_ALIGN as u64).max(ahead_end).min(self.end))?;
        }
        if self.next < handle.end() {
            return Err(Error::corruption(self.file.path(), handle.offset, "data block reaches beyond the data area"));
        }
        while self.chunks.iter().take_while(|c| c.offset < handle.end()).any(|c| c.buf.is_none()) {
            self.collect()?;
        }
        Ok(self.slice(handle))
    }

    /// Asks for the next chunk, to `end` at most.
    fn request(&mut self, end: u64) -> Result<()> {
        let len = (end - self.next).min(self.chunk_len as u64) as usize;
        let mut buf = match self.spare.pop() {
            Some(buf) if buf.capacity() >= len => buf,
            _ => AlignedBuf::zeroed(len),
        };
        buf.set_len(len);
        let (tag, offset) = (self.next_tag, self.next);
        self.queue.push(tag, IoOp::Read { file: Arc::clone(&self.file), offset, buf })?;
        self.chunks.push_back(Chunk { tag, offset, len, buf: None });
        self.next_tag += 1;
        self.next += len as u64;
        self.chunk_len = (self.chunk_len * 2).min(self.chunk_max);
        Ok(())
    }

    /// Waits for at least one chunk. After an error the stream has to be started again.
    fn collect(&mut self) -> Result<()> {
        let idle = self.queue.in_flight() == 0;
        let mut result = self.queue.wait(1, &mut self.done);
        if idle && self.done.is_empty() && result.is_ok() {
            let lost = io::Error::other("a read was lost by its queue");
            result = Err(Error::io_at(self.file.path(), self.next, "read", lost));
        }
        for done in self.done.drain(..) {
            let chunk = self.chunks.iter_mut().find(|chunk| chunk.tag == done.tag);
            let Some(chunk) = chunk else {
                // A seek has made it pointless.
                self.spare.extend(done.buf);
                continue;
            };
            match done.result {
                Ok(read) if read == chunk.len => chunk.buf = done.buf,
                Ok(_) => {
                    result = Err(Error::corruption(self.file.path(), chunk.offset, "file ends inside its data area"));
                }
                Err(error) => result = Err(error),
            }
        }
        if result.is_err() {
            self.restart(self.next);
        }
        result
    }

    /// The bytes of a block whose chunks are all there.
    fn slice(&mut self, handle: &BlockHandle) -> &[u8] {
        let len = handle.stored_len as usize;
        self.assembled.clear();
        let straddles = self.chunks.front().is_none_or(|first| first.end() < handle.end());
        if straddles {
            for chunk in &self.chunks {
                let from = handle.offset.saturating_sub(chunk.offset) as usize;
                let missing = len - self.assembled.len();
                let bytes = chunk.buf.as_deref().and_then(|buf| buf.get(from..)).unwrap_or_default();
                self.assembled.extend_from_slice(&bytes[..bytes.len().min(missing)]);
                if self.assembled.len() == len {
                    break;
                }
            }
            return &self.assembled;
        }
        let first = self.chunks.front().expect("a block that does not straddle is in the first chunk");
        let from = (handle.offset - first.offset) as usize;
        first.buf.as_deref().and_then(|buf| buf.get(from..from + len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_a_merge_share_its_memory() {
        assert_eq!(merge_chunk(0), CHUNK_MAX);
        assert_eq!(merge_chunk(2), CHUNK_MAX);
        assert_eq!(merge_chunk(1000), CHUNK_MIN);
        for streams in 3..40 {
            let chunk = merge_chunk(streams);
            assert!(
                chunk.is_multiple_of(IO_ALIGN) && chunk * streams * (AHEAD + 1) <= MERGE_BYTES,
                "{streams}: {chunk}"
            );
        }
    }

    #[test]
    fn nothing_is_read_ahead_behind_the_end_that_is_wanted() {
        let memory = crate::env::memory::MemoryEnv::new(1);
        let bytes: Vec<u8> = (0..4u32 << 20).map(|at| (at >> 12) as u8).collect();
        memory.write_file(std::path::Path::new("/file"), &bytes);
        let env: Arc<dyn Env> = memory;
        let file = env.open(std::path::Path::new("/file"), crate::env::OpenMode::READ).unwrap();
        let mut stream = ReadAheadStream::new(&env, &file, bytes.len() as u64).unwrap();
        stream.stop_at(300_000);
        stream.start(0, 64 << 10, 1 << 20);
        for offset in [0, 200_000, 290_000] {
            let handle = BlockHandle { offset, stored_len: 4000, raw_len: 4000 };
            assert_eq!(stream.stored(&handle).unwrap(), &bytes[offset as usize..][..4000]);
            assert!(stream.next <= 300_000u64.next_multiple_of(IO_ALIGN as u64), "{}", stream.next);
        }
        let handle = BlockHandle { offset: 299_000, stored_len: 200_000, raw_len: 200_000 };
        assert_eq!(stream.stored(&handle).unwrap(), &bytes[299_000..][..200_000], "asked for, it comes");
        assert_eq!(stream.next, 499_000u64.next_multiple_of(IO_ALIGN as u64));
    }
}
