//! Shows an SST: footer and properties, index, and on demand its blocks and entries.
//!
//! Reads with the decoders alone, so that a damaged block hides no other.

use std::sync::Arc;

use ssd_engine::Error;
use ssd_engine::base::key::Kind;
use ssd_engine::env::File;
use ssd_engine::format::block::iter::BlockIter;
use ssd_engine::format::block::{BlockHandle, BlockType, Stored};
use ssd_engine::format::footer::{Footer, TAIL_LEN, Tail};
use ssd_engine::format::index::IndexBlock;

use crate::cells::Cell;
use crate::report::{Report, Section};

use super::{Arguments, read};

/// An SST and its footer.
struct Sst<'s> {
    file: &'s Arc<dyn File>,
    footer: Footer,
}

/// A named block of an index.
struct Entry {
    separator: Vec<u8>,
    handle: BlockHandle,
}

/// Adds what the SST says.
pub(super) fn show(file: &Arc<dyn File>, arguments: &Arguments, report: &mut Report) -> Result<(), Error> {
    let len = file.len()?;
    let corrupt = |offset, what: &str| Error::corruption(file.path(), offset, what);
    let tail = read(&**file, len.saturating_sub(TAIL_LEN as u64), TAIL_LEN.min(len as usize))?;
    let tail = Tail::decode(&tail).map_err(|what| corrupt(len, what))?;
    let Some(offset) = len.checked_sub(tail.region_len as u64) else {
        return Err(corrupt(len, "footer is longer than the file"));
    };
    let region = read(&**file, offset, tail.region_len)?;
    let footer = Footer::decode(&region, offset).map_err(|what| corrupt(offset, what))?;
    let sst = Sst { file, footer };
    let mut section = Section::new("footer");
    section.field("file bytes", Cell::Size(len));
    section.field("region offset", offset);
    section.field("region bytes", Cell::Size(tail.region_len as u64));
    report.add(section);
    report.add(sst.properties());
    if let Some(filter) = sst.footer.filter {
        let mut section = Section::new("filter");
        section.field("probes", filter.probes);
        section.field("lines", filter.lines);
        section.field("partitions", filter.partitions());
        section.field("offset", filter.offset);
        report.add(section);
    }
    sst.tombstones(arguments.limit, report);
    let partitions = sst.entries_of(&sst.footer.top_index, sst.footer.properties.index_end)?;
    sst.index(&partitions, arguments.limit, report);
    sst.data(&partitions, arguments, report)
}

impl Sst<'_> {
    fn properties(&self) -> Section {
        let found = &self.footer.properties;
        let mut section = Section::new("properties");
        section.field("entries", found.entries);
        section.field("deletes", found.deletes);
        section.field("range deletes", found.range_deletes);
        section.field("raw key bytes", Cell::Size(found.raw_key_bytes));
        section.field("raw value bytes", Cell::Size(found.raw_value_bytes));
        section.field("smallest", Cell::Key(found.smallest.clone()));
        section.field("largest", Cell::Key(found.largest.clone()));
        section.field("largest exclusive", Cell::Flag(found.largest_exclusive));
        section.field("smallest seqno", found.smallest_seqno);
        section.field("largest seqno", found.largest_seqno);
        section.field("created", found.created);
        section.field("block limit", Cell::Size(found.block_bytes.into()));
        section.field("made for level", u64::from(found.level));
        section.field("data blocks", found.data_blocks);
        section.field("data end", found.data_end);
        section.field("index end", found.index_end);
        section
    }

    fn tombstones(&self, limit: u64, report: &mut Report) {
        if self.footer.tombstones.is_empty() {
            return;
        }
        let mut section = Section::table("range tombstones", &["seqno", "start", "end"]);
        for tombstone in &self.footer.tombstones {
            let keys = [&tombstone.start, &tombstone.end].map(|key| Cell::Key(key.clone()));
            section.row_within(limit, || [vec![tombstone.seqno.into()], keys.to_vec()].concat());
        }
        report.add(section);
    }

    fn index(&self, partitions: &[Entry], limit: u64, report: &mut Report) {
        let mut section = Section::table("index", &["offset", "stored", "raw", "first block", "ends at"]);
        for (entry, first) in partitions.iter().zip(&self.footer.partition_starts) {
            let BlockHandle { offset, stored_len, raw_len } = entry.handle;
            let end = Cell::Key(entry.separator.clone());
            let sizes = [offset, stored_len.into(), raw_len.into(), *first].map(Cell::Number);
            section.row_within(limit, || [sizes.to_vec(), vec![end]].concat());
        }
        report.add(section);
    }

    /// Lists the data blocks and their entries, as wanted; goes on behind damage.
    fn data(&self, partitions: &[Entry], arguments: &Arguments, report: &mut Report) -> Result<(), Error> {
        if !arguments.blocks && !arguments.entries {
            return Ok(());
        }
        const COLUMNS: &[&str] = &["offset", "stored", "raw", "compression", "entries", "ends at"];
        let mut blocks = Section::table("blocks", COLUMNS);
        let mut entries = Section::table("entries", &["block", "seqno", "kind", "key", "value"]);
        let limit = arguments.limit;
        for partition in partitions {
            let named = self.block(partition.handle, BlockType::Index);
            let named = named.and_then(|(payload, _)| self.entries_of(&payload, partition.handle.offset));
            let Some(named) = kept(named, report)? else { continue };
            for Entry { separator, handle } in named {
                let Some((payload, compressed)) = kept(self.block(handle, BlockType::Data), report)? else { continue };
                let counted = self.rows(handle.offset, &payload, limit, arguments.entries.then_some(&mut entries));
                let Some(count) = kept(counted, report)? else { continue };
                let BlockHandle { offset, stored_len, raw_len } = handle;
                let compression = if compressed { "lz4" } else { "none" };
                let sizes = [offset, stored_len.into(), raw_len.into()].map(Cell::Number).to_vec();
                let rest = vec![compression.into(), count.into(), Cell::Key(separator)];
                blocks.row_within(limit, || [sizes, rest].concat());
            }
        }
        if arguments.blocks {
            report.add(blocks);
        }
        if arguments.entries {
            report.add(entries);
        }
        Ok(())
    }

    /// Adds the entries of a data block; returns how many there are.
    fn rows(&self, offset: u64, payload: &[u8], limit: u64, into: Option<&mut Section>) -> Result<u32, Error> {
        let corrupt = |what| Error::corruption(self.file.path(), offset, what);
        let mut iter = BlockIter::new(payload).map_err(corrupt)?;
        let count = iter.count();
        let Some(section) = into else { return Ok(count) };
        let mut valid = iter.first().map_err(corrupt)?;
        while valid {
            let trailer = iter.trailer();
            section.row_within(limit, || {
                let kind = trailer.kind().map_or_else(|| Cell::from("unknown"), Cell::from);
                let value = match trailer.kind() {
                    Some(Kind::Put) => Cell::Value(iter.value().to_vec()),
                    _ => Cell::Nothing,
                };
                vec![offset.into(), trailer.seqno().into(), kind, Cell::Key(iter.key().to_vec()), value]
            });
            valid = iter.next().map_err(corrupt)?;
        }
        Ok(count)
    }

    /// What an index block names.
    fn entries_of(&self, payload: &[u8], offset: u64) -> Result<Vec<Entry>, Error> {
        let corrupt = |what| Error::corruption(self.file.path(), offset, what);
        let index = IndexBlock::parse(payload).map_err(corrupt)?;
        let mut found = Vec::new();
        for at in 0..index.len() {
            let mut separator = Vec::new();
            index.separator(at, &mut separator).map_err(corrupt)?;
            found.push(Entry { separator, handle: index.handle(at).map_err(corrupt)? });
        }
        Ok(found)
    }

    /// The payload of a block, and whether it is stored compressed.
    fn block(&self, handle: BlockHandle, kind: BlockType) -> Result<(Vec<u8>, bool), Error> {
        let corrupt = |what| Error::corruption(self.file.path(), handle.offset, what);
        let bytes = read(&**self.file, handle.offset, handle.stored_len as usize)?;
        let stored = Stored::check(&bytes, kind).map_err(corrupt)?;
        let mut payload = Vec::new();
        stored.open_vec(&mut payload).map_err(corrupt)?;
        Ok((payload, stored.is_compressed()))
    }
}

/// The value, or `None` when there was damage instead, which the report then has.
fn kept<T>(outcome: Result<T, Error>, report: &mut Report) -> Result<Option<T>, Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) => report.take(Err(error)).map(|()| None),
    }
}
