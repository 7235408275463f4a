//! Point lookups of many keys at once: the reads that miss the cache overlap on the device.
//!
//! Each key walks its sources from newest to oldest as `lookup` does, until one answers or a block must be read. The reads
//! of all keys go to the device together, and each key goes on when its own has come.

use crate::base::checksum::key_hash;
use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer};
use crate::base::limits::LEVEL_COUNT;
use crate::env::{IoDone, IoQueue};
use crate::error::Result;
use crate::format::block::BlockHandle;
use crate::lsm::Lsm;
use crate::lsm::queues::DEPTH;
use crate::lsm::view::{FileEntry, View};
use crate::sst::Located;

/// One key on its way.
struct Walk<'k, 'v> {
    key: &'k [u8],
    hash: u64,
    /// The files that may hold the key, newest first, and which of them comes next.
    files: Vec<&'v FileEntry>,
    at: usize,
    /// The block that is being read.
    reading: Option<BlockHandle>,
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
            let mut walk = Walk { key, hash, files: Vec::new(), at: 0, reading: None, value: Vec::new(), found: None };
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
        let (mut queue, mut done, mut next) = (None, Vec::new(), 0);
        loop {
            while next < walks.len() && in_flight(&queue) < DEPTH {
                self.go_on(&mut walks[next], next, bound, &mut queue)?;
                next += 1;
            }
            let Some(reading) = queue.as_mut().filter(|queue| queue.in_flight() > 0) else { break };
            // While some are looked at, the others are under way.
            reading.wait((reading.in_flight() / 8).max(1), &mut done)?;
            for IoDone { tag, result, buf } in done.drain(..) {
                let walk = &mut walks[tag as usize];
                let (len, buf) = (result?, buf.expect("a read brings its buffer back"));
                let reader = walk.files[walk.at].reader(&self.opener)?;
                let handle = walk.reading.take().expect("what was read was asked for");
                let found = &mut walk.value;
                walk.found =
                    reader.get_in_block(&self.cache, &handle, &buf[..len], walk.key, walk.hash, bound, found)?;
                self.opener.queues.give_buffer(buf);
                walk.at += 1;
                self.go_on(walk, tag as usize, bound, &mut queue)?;
            }
        }
        if let Some(queue) = queue {
            self.opener.queues.give(queue);
        }
        Ok(())
    }

    /// Walks on with key number `tag`, and starts to read the block that it needs.
    fn go_on(
        &self,
        walk: &mut Walk<'_, '_>,
        tag: usize,
        bound: Trailer,
        queue: &mut Option<Box<dyn IoQueue>>,
    ) -> Result<()> {
        if walk.found.is_some() {
            return Ok(());
        }
        let Some(handle) = self.advance(walk, bound)? else { return Ok(()) };
        let queue = match queue {
            Some(queue) => queue,
            none => none.insert(self.opener.queues.take()?),
        };
        let op = walk.files[walk.at].reader(&self.opener)?.read_op(&handle, self.opener.queues.take_buffer());
        walk.reading = Some(handle);
        queue.push(tag as u64, op)
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

fn in_flight(queue: &Option<Box<dyn IoQueue>>) -> usize {
    queue.as_ref().map_or(0, |queue| queue.in_flight())
}

fn candidates<'v>(view: &'v View, key: &[u8]) -> Vec<&'v FileEntry> {
    let l0 = view.levels[0].iter().filter(|f| f.meta.covers(key)).map(|f| &**f);
    l0.chain((1..LEVEL_COUNT).filter_map(|level| view.file_for(level, key).map(|f| &**f))).collect()
}
