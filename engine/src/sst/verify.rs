//! Checks everything about an SST: every checksum, the order of entries within and across blocks, the index, the filter,
//! and the footer's counts.

use crate::base::checksum::key_hash;
use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer, compare};
use crate::error::{Error, Result};
use crate::format::Decoded;
use crate::format::block::iter::{BlockIter, check_block};
use crate::format::block::{BlockHandle, BlockType};
use crate::format::filter::FilterInfo;
use crate::format::footer::Properties;
use crate::format::index::IndexBlock;

use super::read_ahead::{CHUNK_MAX, ReadAheadStream};
use super::reader::SstReader;

/// The walk so far.
struct Walk {
    /// Separator of the block before, with its trailer; `None` at the start and behind damage.
    separator: Option<(Vec<u8>, Trailer)>,
    /// What the entries amount to.
    counted: Properties,
    /// The filter's partitions; `None` without a filter, or when one of them is damaged.
    filter: Option<Vec<Vec<u8>>>,
    payload: Vec<u8>,
    /// Where the next data block must be.
    at: u64,
    /// Nothing was passed over, so the counts must fit.
    whole: bool,
}

impl SstReader {
    /// Reads and checks the whole file. Calls `progress` with the count of bytes checked so far.
    ///
    /// # Errors
    /// Corruption: the first thing that is wrong; I/O.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let mut first = None;
        self.verify_all(progress, &mut |error| {
            first.get_or_insert(error);
        })?;
        first.map_or(Ok(()), Err)
    }

    /// As [`verify`](Self::verify), but goes on behind a damaged block and hands each error to `damage`.
    ///
    /// # Errors
    /// I/O, when not even a read can be started.
    pub fn verify_all(&self, progress: &mut dyn FnMut(u64), damage: &mut dyn FnMut(Error)) -> Result<()> {
        let properties = self.properties();
        let mut walk = Walk {
            separator: None,
            counted: Properties { smallest_seqno: SeqNo::MAX, ..Properties::default() },
            filter: self.read_filter(damage),
            payload: Vec::new(),
            at: 0,
            whole: true,
        };
        let mut stream = ReadAheadStream::new(&self.env, &self.blocks.file, properties.data_end)?;
        stream.start(0, CHUNK_MAX, CHUNK_MAX);
        for partition in 0..self.partition_starts.len() {
            if let Err(error) = self.verify_partition(partition, &mut walk, &mut stream, progress, damage) {
                damage(error);
                walk.separator = None;
                walk.whole = false;
                walk.at = self.partition_starts.get(partition + 1).copied().unwrap_or(properties.data_end);
            }
        }
        if walk.at != properties.data_end {
            damage(self.blocks.corrupt(walk.at, "data blocks do not fill their place"));
        } else if walk.whole
            && let Err(error) = self.compare_counts(walk.counted)
        {
            damage(error);
        }
        progress(self.file_len());
        Ok(())
    }

    /// Checks an index partition and the data blocks that it names.
    fn verify_partition(
        &self,
        partition: usize,
        walk: &mut Walk,
        stream: &mut ReadAheadStream,
        progress: &mut dyn FnMut(u64),
        damage: &mut dyn FnMut(Error),
    ) -> Result<()> {
        let (mut bytes, mut separator) = (Vec::new(), Vec::new());
        let handle = self.partition_handle(partition)?;
        self.blocks.read_vec(&handle, BlockType::Index, &mut bytes)?;
        let index = self.blocks.checked(&handle, IndexBlock::parse(&bytes))?;
        self.blocks.checked(&handle, index.check())?;
        if self.partition_starts.get(partition) != Some(&walk.at) {
            return Err(self.blocks.corrupt(handle.offset, "footer has another start for an index partition"));
        }
        let mut last = None;
        for entry in 0..index.len() {
            let data = self.blocks.checked(&handle, index.handle(entry))?;
            let trailer = self.blocks.checked(&handle, index.separator(entry, &mut separator))?;
            if data.offset != walk.at {
                return Err(self.blocks.corrupt(data.offset, "data blocks have gaps"));
            }
            if let Err(error) = self.verify_block(&data, walk, stream, (&separator, trailer)) {
                damage(error);
                walk.separator = None;
                walk.whole = false;
            }
            walk.at = data.end();
            last = Some(trailer);
            progress(walk.at);
        }
        let top = self.partition_separator(partition, &mut bytes)?;
        if last != Some(top) || separator != bytes {
            return Err(self.blocks.corrupt(handle.offset, "top index has another separator than its partition"));
        }
        Ok(())
    }

    fn verify_block(
        &self,
        handle: &BlockHandle,
        walk: &mut Walk,
        stream: &mut ReadAheadStream,
        separator: (&[u8], Trailer),
    ) -> Result<()> {
        self.blocks.open_vec(handle, BlockType::Data, stream.stored(handle)?, &mut walk.payload)?;
        self.blocks.checked(handle, walk.block(handle, self.properties(), self.filter.as_ref(), separator))
    }

    fn read_filter(&self, damage: &mut dyn FnMut(Error)) -> Option<Vec<Vec<u8>>> {
        let filter = self.filter.as_ref()?;
        let mut partitions = Vec::new();
        let mut is_whole = true;
        for partition in 0..filter.partitions() {
            let mut lines = Vec::new();
            if let Err(error) = self.blocks.read_vec(&filter.handle(partition), BlockType::Filter, &mut lines) {
                damage(error);
                is_whole = false;
            }
            partitions.push(lines);
        }
        is_whole.then_some(partitions)
    }

    /// Compares what was counted with what the footer says.
    fn compare_counts(&self, mut counted: Properties) -> Result<()> {
        let properties = self.properties();
        for tombstone in self.range_tombstones().list() {
            let nothing_yet = counted.entries == 0 && counted.largest.is_empty();
            if nothing_yet || tombstone.start < counted.smallest {
                counted.smallest.clone_from(&tombstone.start);
            }
            if tombstone.end > counted.largest {
                counted.largest.clone_from(&tombstone.end);
                counted.largest_exclusive = true;
            }
            counted.smallest_seqno = counted.smallest_seqno.min(tombstone.seqno);
            counted.largest_seqno = counted.largest_seqno.max(tombstone.seqno);
        }
        counted.smallest_seqno = counted.smallest_seqno.min(counted.largest_seqno);
        let same = counted.entries == properties.entries
            && counted.deletes == properties.deletes
            && counted.data_blocks == properties.data_blocks
            && counted.raw_key_bytes == properties.raw_key_bytes
            && counted.raw_value_bytes == properties.raw_value_bytes
            && counted.smallest == properties.smallest
            && counted.largest == properties.largest
            && counted.largest_exclusive == properties.largest_exclusive
            && counted.smallest_seqno == properties.smallest_seqno
            && counted.largest_seqno == properties.largest_seqno;
        if same {
            Ok(())
        } else {
            Err(self.blocks.corrupt(properties.index_end, "properties do not match the entries"))
        }
    }
}

impl Walk {
    /// Checks the block in `payload`, which the index says ends at `separator`.
    fn block(
        &mut self,
        handle: &BlockHandle,
        properties: &Properties,
        filter: Option<&FilterInfo>,
        separator: (&[u8], Trailer),
    ) -> Decoded<()> {
        check_block(&self.payload, key_hash)?;
        let mut iter = BlockIter::new(self.payload.as_slice())?;
        if handle.raw_len > properties.block_bytes && iter.count() != 1 {
            return Err("data block exceeds the limit with more than one entry");
        }
        let mut valid = iter.first()?;
        if let Some((key, trailer)) = &self.separator
            && compare((key, *trailer), (iter.key(), iter.trailer())).is_ge()
        {
            return Err("data block starts before the separator of the block before it");
        }
        let counted = &mut self.counted;
        if counted.entries == 0 {
            counted.smallest = iter.key().to_vec();
        }
        counted.data_blocks += 1;
        while valid {
            let (key, trailer) = (iter.key(), iter.trailer());
            counted.entries += 1;
            counted.deletes += u64::from(trailer.kind() == Some(Kind::Delete));
            counted.raw_key_bytes += key.len() as u64;
            counted.raw_value_bytes += iter.value().len() as u64;
            counted.smallest_seqno = counted.smallest_seqno.min(trailer.seqno());
            counted.largest_seqno = counted.largest_seqno.max(trailer.seqno());
            if let Some((filter, partitions)) = filter.zip(self.filter.as_ref()) {
                let hash = key_hash(key);
                let slot = filter.slot(hash);
                let lines = partitions.get(slot.partition as usize).map(Vec::as_slice).unwrap_or_default();
                if !filter.matches(lines, slot, hash)? {
                    return Err("key of the block is not in the filter");
                }
            }
            valid = iter.next()?;
        }
        // The iterator is behind its last entry but still has that entry's key.
        if compare((iter.key(), iter.trailer()), separator).is_gt() {
            return Err("data block ends behind its separator");
        }
        counted.largest.clear();
        counted.largest.extend_from_slice(iter.key());
        self.separator = Some((separator.0.to_vec(), separator.1));
        Ok(())
    }
}
