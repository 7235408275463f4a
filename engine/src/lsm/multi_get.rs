//! Point lookups of many keys at once: the reads that miss the cache overlap on the device.
//!
//! Each key walks its sources from newest to oldest as `lookup` does, until one answers or a block must be read. The reads
//! of all keys that stopped there go to the device together; then the keys go on.

use crate::base::checksum::key_hash;
use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer};
use crate::base::limits::LEVEL_COUNT;
use crate::env::IoQueue;
use crate::error::Result;
use crate::format::block::BlockHandle;
use crate::lsm::Lsm;
use crate::lsm::view::{FileEntry, View};
use crate::mem::aligned::AlignedBuf;
use crate::sst::Located;

/// One key on its way.
struct Walk<'k, 'v> {
    key: &'k [u8],
    hash: u64,
    /// The files that may hold the key, newest first, and which of them comes next.
    files: Vec<&'v FileEntry>,
    at: usize,
    value: Vec<u8>,
    found: Option<Trailer>,
}

impl Lsm {
    /// The values of full keys `keys`, in their order, as of `seqno` (one moment when `None`).
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn multi_get(&self, keys: &[Vec<u8>], seqno: Option<SeqNo>) -> Result<Vec<Option<Vec<u8>>>> {
        let _pin = self.pin_reader();
        // The order of these three matters, see `lookup`.
        let memtables = self.memtable_list();
        let view = self.view_full()?;
        let seqno = seqno.unwrap_or_else(|| self.visible());
        let bound = Trailer::seek(seqno);
        let start = |key| {
            let hash = key_hash(key);
            let mut walk = Walk { key, hash, files: Vec::new(), at: 0, value: Vec::new(), found: None };
            let entry = memtables.indices().find_map(|at| self.memtables.get(at).get(key, hash, bound));
            if let Some(entry) = entry {
                walk.found = Some(entry.trailer);
                walk.value.extend_from_slice(entry.value);
            } else {
                walk.files = candidates(&view, key);
            }
            walk
        };
        let mut walks: Vec<_> = keys.iter().map(|key| start(key)).collect();
        self.finish_walks(&mut walks, bound)?;
        walks
            .into_iter()
            .map(|walk| {
                let Some(trailer) = walk.found.filter(|t| t.kind() == Some(Kind::Put)) else { return Ok(None) };
                let cover = self.covering_range_delete(memtables, &view, walk.key, seqno)?;
                Ok(cover.is_none_or(|cover| cover < trailer.seqno()).then_some(walk.value))
            })
            .collect()
    }

    fn finish_walks(&self, walks: &mut [Walk<'_, '_>], bound: Trailer) -> Result<()> {
        let mut queue: Option<Box<dyn IoQueue>> = None;
        let mut open: Vec<usize> = (0..walks.len()).filter(|&at| walks[at].found.is_none()).collect();
        while !open.is_empty() {
            let mut reads = Vec::new();
            for &at in &open {
                if let Some(handle) = self.advance(&mut walks[at], bound)? {
                    reads.push((at, handle));
                }
            }
            if reads.is_empty() {
                return Ok(());
            }
            let queue = match &mut queue {
                Some(queue) => queue,
                none => none.insert(self.opener.queues.take()?),
            };
            for (tag, (at, handle)) in reads.iter().enumerate() {
                let walk = &walks[*at];
                let reader = walk.files[walk.at].reader(&self.opener)?;
                queue.push(tag as u64, reader.read_op(handle, AlignedBuf::zeroed(0)))?;
            }
            let mut done = Vec::new();
            queue.wait(reads.len(), &mut done)?;
            for done in done {
                let (at, handle) = &reads[done.tag as usize];
                let walk = &mut walks[*at];
                let read = done.result?;
                let buf = done.buf.expect("a read brings its buffer back");
                let reader = walk.files[walk.at].reader(&self.opener)?;
                walk.found = reader.get_in_block(
                    &self.cache,
                    handle,
                    &buf[..read],
                    walk.key,
                    walk.hash,
                    bound,
                    &mut walk.value,
                )?;
                walk.at += 1;
            }
            open.retain(|&at| walks[at].found.is_none() && walks[at].at < walks[at].files.len());
        }
        if let Some(queue) = queue {
            self.opener.queues.give(queue);
        }
        Ok(())
    }

    /// Walks on until the key is found, or known to be absent (then `at` is at the end), or a block must be read.
    fn advance(&self, walk: &mut Walk<'_, '_>, bound: Trailer) -> Result<Option<BlockHandle>> {
        while let Some(file) = walk.files.get(walk.at) {
            let reader = file.reader(&self.opener)?;
            match reader.locate(&self.cache, walk.key, walk.hash, bound, &mut walk.value)? {
                Located::Cached(trailer) => {
                    walk.found = Some(trailer);
                    return Ok(None);
                }
                Located::Absent => walk.at += 1,
                Located::Block(handle) => return Ok(Some(handle)),
            }
        }
        Ok(None)
    }
}

fn candidates<'v>(view: &'v View, key: &[u8]) -> Vec<&'v FileEntry> {
    let l0 = view.levels[0].iter().filter(|f| f.meta.covers(key)).map(|f| &**f);
    l0.chain((1..LEVEL_COUNT).filter_map(|level| view.file_for(level, key).map(|f| &**f))).collect()
}
