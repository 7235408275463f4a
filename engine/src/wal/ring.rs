//! The ring: the newest bytes of the log, in a file mapping that all processes share.
//!
//! Byte `p` of the log is at `p % ring length`. Bytes go in and out word by word with relaxed atomics; whoever publishes a
//! position (`filled`, with release) orders them. Words hold their bytes in little-endian order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::LogPlace;
use super::segments::BUFFER_NAME;
use crate::base::ids::Lsn;
use crate::env::{File, OpenMode, SharedMap};
use crate::error::{Error, Result};
use crate::format::log_buffer::{BUFFER_HEADER_LEN, BUFFER_HEADER_WORDS, BufferHeader, Mark};
use crate::format::log_record::{LSN_MAX, RECORD_ALIGN};

const WORD: usize = size_of::<u64>();
const HEADER_WORDS: usize = BUFFER_HEADER_LEN / WORD;

/// The mapped ring.
pub(super) struct Ring {
    map: SharedMap,
    /// Ring length in words, less one.
    mask: usize,
}

impl Ring {
    /// Makes `LOGBUF` anew. The old one's name is gone for good before, so that no crash can bring its contents back.
    pub(super) fn create(place: &LogPlace) -> Result<Self> {
        let path = place.dir.join(BUFFER_NAME);
        match place.env.remove(&path) {
            Ok(()) => place.env.sync_dir(&place.dir)?,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(other) => return Err(other),
        }
        let ring = Self::map(place)?;
        let header = BufferHeader { uuid: place.uuid, ring_len: place.options.ring_bytes as u64 };
        for (slot, word) in ring.map.words().iter().zip(header.encode()) {
            slot.store(word, Ordering::Relaxed);
        }
        Ok(ring)
    }

    /// Maps the `LOGBUF` that another process of this log made.
    pub(super) fn attach(place: &LogPlace) -> Result<Self> {
        let ring = Self::map(place)?;
        let path = place.dir.join(BUFFER_NAME);
        let words: Vec<_> = ring.map.words()[..BUFFER_HEADER_WORDS].iter().map(|w| w.load(Ordering::Relaxed)).collect();
        let header = BufferHeader::decode(&words).map_err(|what| Error::corruption(&path, 0, what))?;
        if header != (BufferHeader { uuid: place.uuid, ring_len: place.options.ring_bytes as u64 }) {
            return Err(Error::usage(
                "log buffer is that of another engine or has another size",
                "Attach with the options that the log was opened with.",
            ));
        }
        Ok(ring)
    }

    fn map(place: &LogPlace) -> Result<Self> {
        let len = place.options.ring_bytes;
        let map = place.env.map_shared(&place.dir.join(BUFFER_NAME), BUFFER_HEADER_LEN + len)?;
        Ok(Self { map, mask: len / WORD - 1 })
    }

    /// Length in bytes.
    pub(super) const fn len(&self) -> u64 {
        ((self.mask + 1) * WORD) as u64
    }

    /// Sets a mark in the header.
    pub(super) fn mark(&self, mark: Mark, lsn: Lsn) {
        mark.set(self.map.words(), lsn);
    }

    /// Copies `bytes` to position `at`, a multiple of 8; a last incomplete word is filled up with zeros.
    ///
    /// The caller makes sure that what the words held is no longer needed and that `bytes` is not longer than the ring.
    #[inline]
    pub(super) fn put(&self, at: Lsn, bytes: &[u8]) {
        let words = &self.map.words()[HEADER_WORDS..=HEADER_WORDS + self.mask];
        let first = (at.0 as usize / WORD) & self.mask;
        let fits = ((words.len() - first) * WORD).min(bytes.len());
        let (head, tail) = bytes.split_at(fits);
        store(&words[first..], head);
        if !tail.is_empty() {
            store(words, tail);
        }
    }

    /// Copies the bytes at `at`, a multiple of 8, to `out`, whose length is no more than the ring's.
    pub(super) fn get(&self, at: Lsn, out: &mut [u8]) {
        get(&self.map.words()[HEADER_WORDS..=HEADER_WORDS + self.mask], at, out);
    }
}

#[inline]
fn store(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    for (word, bytes) in words.iter().zip(whole) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()].store(u64::from_le_bytes(last), Ordering::Relaxed);
    }
}

fn get(words: &[AtomicU64], at: Lsn, out: &mut [u8]) {
    let first = (at.0 as usize / WORD) & (words.len() - 1);
    let source = words[first..].iter().chain(&words[..first]);
    for (bytes, word) in out.chunks_mut(WORD).zip(source) {
        let word = word.load(Ordering::Relaxed).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// A ring that an earlier life of the engine left behind. It is read as a file, so nothing about it changes.
pub(super) struct Image {
    file: Arc<dyn File>,
    ring_len: u64,
    pub(super) written: Option<Lsn>,
    pub(super) durable: Option<Lsn>,
    pub(super) closed: Option<Lsn>,
}

impl Image {
    /// The ring of this log, when there is one. One of another log, or one that a power failure left without a header,
    /// says nothing and is as good as none.
    pub(super) fn open(place: &LogPlace) -> Result<Option<Self>> {
        let path = place.dir.join(BUFFER_NAME);
        let file = match place.env.open(&path, OpenMode::READ) {
            Ok(file) => file,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(other) => return Err(other),
        };
        let mut head = [0; BUFFER_HEADER_WORDS * WORD];
        if file.read_at(&mut head, 0)? < head.len() {
            return Ok(None);
        }
        let head: Vec<_> = head.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let Ok(header) = BufferHeader::decode(&head) else { return Ok(None) };
        if header.uuid != place.uuid || Some(header.ring_len) != file.len()?.checked_sub(BUFFER_HEADER_LEN as u64) {
            return Ok(None);
        }
        let [written, durable, closed] = [Mark::Written, Mark::Durable, Mark::Closed]
            .map(|mark| mark.get(&head).filter(|&lsn| lsn < LSN_MAX && lsn.0.is_multiple_of(RECORD_ALIGN as u64)));
        Ok(Some(Self { file, ring_len: header.ring_len, written, durable, closed }))
    }

    /// Length of the ring in bytes.
    pub(super) const fn ring_len(&self) -> u64 {
        self.ring_len
    }

    /// Copies the bytes at `at` to `out`, whose length is no more than the ring's.
    pub(super) fn get(&self, at: Lsn, out: &mut [u8]) -> Result<()> {
        let start = at.0 % self.ring_len;
        let fits = ((self.ring_len - start) as usize).min(out.len());
        let (head, tail) = out.split_at_mut(fits);
        self.read(head, start)?;
        self.read(tail, 0)
    }

    fn read(&self, out: &mut [u8], at: u64) -> Result<()> {
        let offset = BUFFER_HEADER_LEN as u64 + at;
        let len = self.file.read_at(out, offset)?;
        if len < out.len() {
            return Err(Error::corruption(self.file.path(), offset + len as u64, "log buffer became shorter"));
        }
        Ok(())
    }
}
