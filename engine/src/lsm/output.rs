//! Writes sorted entries and range tombstones into as many SSTs as their size asks for.
//!
//! Invariants:
//! 1. A file ends only between two full keys, so the files of one output are disjoint.
//! 2. Each range tombstone is cut at the ends of files: a file's bounds cover everything it says.
//! 3. Files are synced when they are done; their names are stable after [`Output::finish`].

use std::sync::Arc;

use crate::base::ids::FileNumber;
use crate::error::Result;
use crate::format::range_del::RangeTombstone;
use crate::format::version_edit::FileMeta;
use crate::lsm::Lsm;
use crate::lsm::keeper::Kept;
use crate::lsm::rate_limit::Priority;
use crate::sst::writer::{CacheFill, SstOptions, SstSummary, SstWriter};

/// Files being written.
pub struct Output<'l> {
    lsm: &'l Lsm,
    options: SstOptions,
    priority: Priority,
    writer: Option<(FileNumber, SstWriter<'l>)>,
    /// What is left of the range tombstones, by start; those before the current file are gone.
    tombstones: Vec<RangeTombstone>,
    done: Vec<Arc<FileMeta>>,
    /// Bytes of the current file that the rate limit has seen.
    paced: u64,
}

impl<'l> Output<'l> {
    /// An output without entries. `tombstones` are those to keep, in any order.
    #[must_use]
    pub fn new(lsm: &'l Lsm, priority: Priority, mut tombstones: Vec<RangeTombstone>) -> Self {
        tombstones.sort_by(|a, b| a.start.cmp(&b.start));
        let options = lsm.sst_options();
        Self { lsm, options, priority, writer: None, tombstones, done: Vec::new(), paced: 0 }
    }

    /// Bytes of the current file so far.
    #[must_use]
    pub fn current_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, w)| w.estimated_size())
    }

    /// Adds an entry; entries come in the order of internal keys.
    ///
    /// # Errors
    /// I/O.
    pub fn add(&mut self, key: &[u8], entry: Kept<'_>) -> Result<()> {
        self.open()?;
        let (_, writer) = self.writer.as_mut().expect("opened above");
        if let Some(txn) = entry.txn {
            writer.note_unfrozen(txn);
        }
        writer.add(key, entry.trailer, entry.value)
    }

    /// Says that the entry added last was in the cache until now; see [`CacheFill`].
    pub const fn note_cached(&mut self) {
        if let Some((_, writer)) = &mut self.writer {
            writer.note_cached();
        }
    }

    /// Lets the rate limit catch up with what was written. Call it between entries, now and then.
    pub fn pace(&mut self) {
        if let Some(host) = self.lsm.host.get() {
            host.at_work();
        }
        let written = self.current_bytes();
        let Some(rate) = self.lsm.options.background_bytes_per_second else { return };
        let fresh = written.saturating_sub(self.paced);
        self.paced = written;
        let wait = self.lsm.limiter().take_at(fresh, rate, self.priority, self.lsm.env.now());
        if !wait.is_zero() {
            self.lsm.env.sleep(wait);
        }
    }

    /// Ends the current file before `next`, the full key that comes next.
    ///
    /// # Errors
    /// I/O.
    pub fn cut(&mut self, next: &[u8]) -> Result<()> {
        let Some((_, writer)) = &mut self.writer else { return Ok(()) };
        let mut later = Vec::new();
        for tombstone in std::mem::take(&mut self.tombstones) {
            let RangeTombstone { start, end, seqno } = tombstone;
            if start.as_slice() < next {
                writer.add_range_delete(&start, (&end[..]).min(next), seqno)?;
            }
            if end.as_slice() > next {
                later.push(RangeTombstone { start: start.max(next.to_vec()), end, seqno });
            }
        }
        later.sort_by(|a, b| a.start.cmp(&b.start));
        self.tombstones = later;
        self.close()
    }

    /// Ends the last file and makes all names stable.
    ///
    /// # Errors
    /// I/O.
    pub fn finish(mut self) -> Result<Vec<Arc<FileMeta>>> {
        if !self.tombstones.is_empty() {
            self.open()?;
        }
        if let Some((_, writer)) = &mut self.writer {
            for RangeTombstone { start, end, seqno } in std::mem::take(&mut self.tombstones) {
                writer.add_range_delete(&start, &end, seqno)?;
            }
            self.close()?;
        }
        if !self.done.is_empty() {
            self.lsm.env.sync_dir(&self.lsm.dir)?;
        }
        Ok(std::mem::take(&mut self.done))
    }

    fn open(&mut self) -> Result<()> {
        if self.writer.is_none() {
            let number = self.lsm.take_file_number();
            let path = self.lsm.opener.path(number);
            let writer = SstWriter::new(&self.lsm.env, &path, number, self.options);
            let mut writer = self.or_remove(number, writer)?;
            let which = if self.priority == Priority::Flush { CacheFill::Room } else { CacheFill::Inherited };
            writer.fill_cache(&self.lsm.cache, which);
            self.writer = Some((number, writer));
            self.paced = 0;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some((number, writer)) = self.writer.take() else { return Ok(()) };
        let summary = self.or_remove(number, writer.finish())?;
        self.done.push(Arc::new(meta_of(number, summary, self.lsm.env.unix_time())));
        Ok(())
    }

    /// Removes the file that could not be begun or ended.
    fn or_remove<T>(&self, number: FileNumber, result: Result<T>) -> Result<T> {
        if result.is_err() {
            let _ = self.lsm.env.remove(&self.lsm.opener.path(number));
        }
        result
    }
}

impl Drop for Output<'_> {
    /// Removes what a failed job leaves behind; what cannot be removed is an orphan that the next open finds.
    fn drop(&mut self) {
        if let Some((number, writer)) = self.writer.take() {
            let _ = writer.abandon();
            let _ = self.lsm.env.remove(&self.lsm.opener.path(number));
        }
        for meta in self.done.drain(..) {
            let _ = self.lsm.env.remove(&self.lsm.opener.path(meta.number));
        }
    }
}

fn meta_of(number: FileNumber, summary: SstSummary, created_unix: u64) -> FileMeta {
    FileMeta {
        number,
        size: summary.size,
        smallest: summary.smallest,
        largest: summary.largest,
        largest_exclusive: summary.largest_exclusive,
        smallest_seqno: summary.smallest_seqno,
        largest_seqno: summary.largest_seqno,
        entries: summary.entries,
        deletes: summary.deletes,
        range_deletes: summary.range_deletes,
        raw_bytes: summary.raw_bytes,
        min_txn: summary.unfrozen_min,
        max_txn: summary.unfrozen_max,
        created_unix,
    }
}

impl Lsm {
    fn sst_options(&self) -> SstOptions {
        SstOptions {
            block_bytes: self.options.block_bytes,
            compress: self.options.compress,
            bits_per_key: self.options.filter_bits_per_key,
            direct: self.options.direct_io,
            ..SstOptions::default()
        }
    }
}
