//! What an operator asks about the tree: files and levels, what is in memory, what compaction owes, the size of one tree.
//!
//! Nothing here changes anything. Each answer is of one moment, but not all of the same one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{Level, Lsn, TreeId};
use crate::base::key::{Trailer, full_key, prefix_successor};
use crate::base::limits::LEVEL_COUNT;
use crate::cache::CacheStats;
use crate::error::Result;
use crate::format::version_edit::FileMeta;
use crate::lsm::Lsm;
use crate::lsm::view::FileEntry;

/// One level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelStats {
    /// Which.
    pub level: Level,
    /// Files in it.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their entries, tombstones included.
    pub entries: u64,
}

/// A file of the newest version.
#[derive(Clone, Debug)]
pub struct FileStats {
    /// Where it is.
    pub level: Level,
    /// What the manifest says of it.
    pub meta: Arc<FileMeta>,
    /// A running compaction reads it.
    pub is_compacting: bool,
}

/// What a memtable is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemtableUse {
    /// Takes writes.
    Active,
    /// Waits for its flush, or is being flushed.
    Immutable,
    /// Empty, or flushed and perhaps still read.
    Free,
}

/// A memtable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemtableStats {
    /// What for.
    pub used_for: MemtableUse,
    /// Bytes that it has room for.
    pub capacity: usize,
    /// Bytes taken; 0 when it is free.
    pub used: usize,
    /// Entries, range tombstones included; 0 when it is free.
    pub entries: u64,
    /// Nothing logged below this is in it, unless it is free.
    pub start: Lsn,
}

/// What the background owes, and what that does to writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundStats {
    /// Compactions under way.
    pub running: usize,
    /// Bytes of the files that they read.
    pub running_bytes: u64,
    /// Bytes that compaction has to rewrite until each level has its target size, roughly.
    pub debt_bytes: u64,
    /// Sorted runs of L0 that a read has to look at.
    pub l0_runs: usize,
    /// Memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Bytes per second that writers are slowed to; 0 is no limit.
    pub write_rate: u64,
    /// Free bytes of the disk at the last look; `None` before the first.
    pub disk_free: Option<u64>,
    /// Writes are refused because the disk is nearly full.
    pub disk_full: bool,
    /// Everything that was logged below is in files.
    pub durable: Lsn,
}

/// The part of a tree that is in one level, or in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreePart {
    /// Files with blocks of the tree; of memory, memtables.
    pub files: usize,
    /// Bytes of its blocks and its share of what else is in the files, exact to a block; of memory, bytes of its entries.
    pub bytes: u64,
    /// Entries, tombstones and all versions of rows included; where other trees share a file, estimated.
    pub entries: u64,
}

impl Lsm {
    /// Every level.
    ///
    /// # Errors
    /// I/O, corruption (of the manifest, when another process has moved on), closed.
    pub fn level_stats(&self) -> Result<Vec<LevelStats>> {
        let view = self.view_full()?;
        let level = |(files, number): (&Vec<Arc<FileEntry>>, u8)| LevelStats {
            level: Level(number),
            files: files.len(),
            bytes: files.iter().map(|f| f.meta.size).sum(),
            entries: files.iter().map(|f| f.meta.entries).sum(),
        };
        Ok(view.levels.iter().zip(0u8..).map(level).collect())
    }

    /// Every file, level by level.
    ///
    /// # Errors
    /// As [`level_stats`](Self::level_stats).
    pub fn file_stats(&self) -> Result<Vec<FileStats>> {
        let view = self.view_full()?;
        let busy: Vec<_> = self.busy().list().into_iter().map(|(_, file, _)| file).collect();
        let file = |(level, file): (Level, &Arc<FileEntry>)| FileStats {
            level,
            meta: Arc::clone(&file.meta),
            is_compacting: busy.contains(&file.meta.number),
        };
        Ok(view.files().map(file).collect())
    }

    /// Every memtable, by its place in the region.
    #[must_use]
    pub fn memtable_stats(&self) -> Vec<MemtableStats> {
        let list = self.memtable_list();
        let stats = |index| {
            let table = self.memtables.get(index);
            let used_for = match list.indices().position(|other| other == index) {
                Some(0) => MemtableUse::Active,
                Some(_) => MemtableUse::Immutable,
                None => MemtableUse::Free,
            };
            // A table that is out of use keeps its bytes until its next life.
            let in_use = used_for != MemtableUse::Free;
            MemtableStats {
                used_for,
                capacity: table.capacity(),
                used: if in_use { table.used() } else { 0 },
                entries: if in_use { table.entries() } else { 0 },
                start: table.start(),
            }
        };
        (0..self.options.memtables).map(stats).collect()
    }

    /// What the background owes.
    ///
    /// # Errors
    /// As [`level_stats`](Self::level_stats).
    pub fn background_stats(&self) -> Result<BackgroundStats> {
        let (running, input) = (self.busy().list(), self.stall_input()?);
        let mut jobs: Vec<_> = running.iter().map(|(job, ..)| *job).collect();
        jobs.sort_unstable();
        jobs.dedup();
        let view = self.view_full()?;
        let is_running = |file: &FileEntry| running.iter().any(|(_, number, _)| *number == file.meta.number);
        let control = self.control();
        let free = control.disk_free.load(Ordering::Relaxed);
        Ok(BackgroundStats {
            running: jobs.len(),
            running_bytes: view.files().filter(|(_, f)| is_running(f)).map(|(_, f)| f.meta.size).sum(),
            debt_bytes: input.debt_bytes,
            l0_runs: input.l0_sublevels,
            immutable_memtables: input.immutable_memtables,
            write_rate: control.write_rate.load(Ordering::Relaxed),
            disk_free: (free != u64::MAX && control.disk_checked_ms.load(Ordering::Relaxed) != 0).then_some(free),
            disk_full: control.disk_full.load(Ordering::Relaxed) != 0,
            durable: view.version.durable,
        })
    }

    /// What happened in the block cache, and its size in bytes.
    #[must_use]
    pub fn cache_stats(&self) -> (CacheStats, usize) {
        (self.cache.stats(), self.options.cache_bytes)
    }

    /// What of `tree` is in each level. Reads blocks of the indexes of files that other trees share.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn tree_levels(&self, tree: TreeId) -> Result<[TreePart; LEVEL_COUNT]> {
        let from = full_key(tree, &[]);
        let to = prefix_successor(&from);
        let mut parts = [TreePart::default(); LEVEL_COUNT];
        // The files may leave the version meanwhile; under a pin they stay.
        let _pin = self.pin_reader();
        let view = self.view_full()?;
        for (level, part) in parts.iter_mut().enumerate() {
            for file in view.overlapping(level, &from, to.as_deref()) {
                let (bytes, entries) = self.share_of(&file, &from, to.as_deref())?;
                if bytes > 0 {
                    part.files += 1;
                    part.bytes += bytes;
                    part.entries += entries;
                }
            }
        }
        Ok(parts)
    }

    /// Bytes and entries of the stretch from `from` to before `to` in a file.
    fn share_of(&self, file: &FileEntry, from: &[u8], to: Option<&[u8]>) -> Result<(u64, u64)> {
        let meta = &file.meta;
        let ends_before = to.is_none_or(|to| meta.end() <= (to, false));
        if from <= meta.smallest.as_slice() && ends_before {
            return Ok((meta.size, meta.entries));
        }
        let reader = file.reader(&self.opener)?;
        let data_end = reader.properties().data_end;
        let start = reader.block_offset(&self.cache, from)?;
        let end = match to {
            Some(to) if !ends_before => reader.block_offset(&self.cache, to)?,
            _ => data_end,
        };
        if data_end == 0 {
            return Ok((0, 0));
        }
        let share =
            |whole: u64| (u128::from(whole) * u128::from(end.saturating_sub(start)) / u128::from(data_end)) as u64;
        Ok((share(meta.size), share(meta.entries)))
    }

    /// Whether the first `keys` keys of `tree` in the active memtable, as far as there are so many, have `versions` versions there each:
    /// scans of such a tree follow pointers from row to row. Looks at no more entries than that.
    #[must_use]
    pub fn begins_hot(&self, tree: TreeId, keys: u32, versions: u32) -> bool {
        let prefix = full_key(tree, &[]);
        let _pin = self.pin_reader();
        let mut entry = self.memtables.get(self.memtable_list().active()).iter();
        entry.seek(&prefix, Trailer::MAX);
        let mut found = 0;
        while found < keys && entry.valid() && entry.key().starts_with(&prefix) {
            let key = entry.key();
            for _ in 1..versions {
                entry.next();
                if !entry.valid() || entry.key() != key {
                    return false;
                }
            }
            while entry.valid() && entry.key() == key {
                entry.pass_versions();
            }
            found += 1;
        }
        found > 0
    }

    /// What of `tree` is in memtables. Visits its entries there.
    #[must_use]
    pub fn tree_in_memory(&self, tree: TreeId) -> TreePart {
        let prefix = full_key(tree, &[]);
        let mut part = TreePart::default();
        // A table that is flushed meanwhile stays readable under the pin.
        let _pin = self.pin_reader();
        for index in self.memtable_list().indices() {
            let before = part.entries;
            let mut entry = self.memtables.get(index).iter();
            entry.seek(&prefix, Trailer::MAX);
            while entry.valid() && entry.key().starts_with(&prefix) {
                part.entries += 1;
                part.bytes += (entry.key().len() + entry.value().len()) as u64;
                entry.next();
            }
            part.files += usize::from(part.entries > before);
        }
        part
    }
}

#[cfg(test)]
mod tests;
