//! Writes the oldest immutable memtable to L0, and batches too large for a memtable straight to L0.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{Level, Lsn, SeqNo};
use crate::base::key::{Kind, Trailer, compare};
use crate::error::{Error, Result};
use crate::format::batch::ops;
use crate::format::range_del::{RangeTombstone, RangeTombstones};
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::hosted::Job;
use crate::lsm::keeper::Keeper;
use crate::lsm::memtable::Memtable;
use crate::lsm::output::Output;
use crate::lsm::rate_limit::Priority;
use crate::lsm::stats::Counter;

/// Payload of the record that follows the one of a large batch when its files are in the manifest; of no operation.
const WITNESS: &[u8] = b"installed";
/// Entries between two looks at the rate limit.
const PACE_EVERY: u32 = 256;

impl Lsm {
    /// Flushes the oldest immutable memtable; whether there was one (and nobody else was flushing).
    ///
    /// # Errors
    /// I/O: the memtable stays, and the flush may be tried again.
    pub fn flush_oldest(&self) -> Result<bool> {
        let Some(_turn) = self.control().flush.try_lock() else { return Ok(false) };
        let list = self.memtable_list();
        let Some(index) = list.oldest_immutable() else { return Ok(false) };
        // The next newer table: everything logged before it became active is in tables up to this one.
        let newer = list.indices().rev().nth(1).expect("an immutable table is not the only one");
        let job = Job::Flush { bytes: self.memtables.get(index).used() as u64 };
        self.working(job, || self.flush_table(index, newer))?;
        Ok(true)
    }

    /// Flushes table `index`, which `newer` follows. Under the turn to flush.
    fn flush_table(&self, index: usize, newer: usize) -> Result<()> {
        let durable = self.memtables.get(newer).start();
        if let Some(log) = self.log.get() {
            log.flush(durable)?;
        }
        let files = self.write_memtable(self.memtables.get(index))?;
        self.stats().add(Counter::Flushes, 1);
        self.stats().add(Counter::FlushBytes, files.iter().map(|f| f.size).sum());
        // A host that restores a copy of the directory replays from before what the copy's files have already.
        let durable = durable.max(self.view()?.version.durable);
        self.install_flushed(files, Some(durable), index)
    }

    fn install_flushed(&self, files: Vec<Arc<FileMeta>>, durable: Option<Lsn>, index: usize) -> Result<()> {
        let edit = VersionEdit {
            added: files.into_iter().map(|f| (Level(0), f)).collect(),
            durable,
            last_seqno: Some(self.visible()),
            ..VersionEdit::default()
        };
        {
            let claim = self.claim_manifest()?;
            self.install(&claim, edit)?;
        }
        let control = self.control();
        let _ = control
            .memtables
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| Some(MemtableList(word).without_oldest().0));
        let generation = control.advance_generation();
        self.memtables.get(index).dropped(generation);
        control.progress.notify();
        control.work.notify();
        if let (Some(log), Some(durable)) = (self.log.get(), durable) {
            log.truncate_below(durable)?;
        }
        Ok(())
    }

    /// Writes what the live snapshots can see of `table`. No writer has it any more.
    fn write_memtable(&self, table: &Memtable) -> Result<Vec<Arc<FileMeta>>> {
        let raw = table.raw_range_tombstones();
        let covering = RangeTombstones::new(raw.clone());
        let mut output = Output::new(self, Priority::Flush, raw);
        let mut keeper = Keeper::new(self)?;
        let mut last_key = Vec::new();
        let mut iter = table.iter();
        Memtable::seek_first(&mut iter);
        let mut since_pace = 0;
        while iter.valid() {
            let (key, trailer) = (iter.key(), iter.trailer());
            let new_key = key != last_key;
            if new_key {
                last_key.clear();
                last_key.extend_from_slice(key);
            }
            if let Some(kept) = keeper.judge(new_key, (key, trailer, iter.value()), &covering, false)? {
                output.add(key, kept)?;
            }
            since_pace += 1;
            if since_pace == PACE_EVERY {
                since_pace = 0;
                output.pace();
            }
            iter.next();
        }
        keeper.finish()?;
        output.finish()
    }

    /// Writes a batch that does not fit a memtable: its files are its log. Everybody else waits meanwhile.
    ///
    /// # Errors
    /// I/O, closed.
    pub(crate) fn write_large(&self, batch: &[u8], count: u64) -> Result<Lsn> {
        let _turn = self.hold(|| self.control().rotation.lock())?;
        self.check_open()?;
        self.control().writers_blocked.store(1, Ordering::SeqCst);
        let result = self.write_large_alone(batch, count);
        self.control().writers_blocked.store(0, Ordering::SeqCst);
        self.control().progress.notify();
        result
    }

    fn write_large_alone(&self, batch: &[u8], count: u64) -> Result<Lsn> {
        self.drain_writers()?;
        self.flush_all_alone()?;
        // An empty record takes the sequence numbers; the entries never pass through the log. Once another record follows it,
        // the files are in the manifest (or the next record says that they are not). The witness is there when nothing else follows.
        let appended = self.log().append(&[], count)?;
        let written = self.ingest_files(batch, appended.first);
        // Published even when it failed: nobody else may wait for these numbers for ever.
        self.publish().finish(appended.ticket, appended.first.plus(count), &self.control().visible);
        if let Err(error) = written {
            self.give_up_large()?;
            return Err(error);
        }
        self.note_in_log(WITNESS)
    }

    /// Says in the log that the numbers taken last stay unused. Without that, replay would take the records that follow for
    /// proof that the files were installed. The caller is alone.
    pub(crate) fn give_up_large(&self) -> Result<()> {
        if self.control().is_poisoned() {
            return Ok(());
        }
        self.note_in_log(&[]).map(drop)
    }

    /// Appends a record of no operations; where it ends. The caller is alone.
    fn note_in_log(&self, payload: &[u8]) -> Result<Lsn> {
        let noted = self.log().append(payload, 0).inspect_err(|_| self.control().poison())?;
        self.publish().finish(noted.ticket, noted.first, &self.control().visible);
        Ok(noted.end)
    }

    /// Applies a logged batch that does not fit a memtable of this size.
    pub(crate) fn ingest(&self, batch: &[u8], first: SeqNo) -> Result<()> {
        self.flush_all_alone()?;
        self.ingest_files(batch, first)
    }

    /// Flushes every memtable that has entries. The caller holds the rotation lock and has blocked writers, or is alone.
    pub(crate) fn flush_all_alone(&self) -> Result<()> {
        loop {
            let list = self.memtable_list();
            if self.memtables.get(list.active()).entries() > 0
                && let Some(free) = self.memtables.find_free(list.indices(), self.pins.oldest())
            {
                self.activate(free, list)?;
                self.control().writers_blocked.store(1, Ordering::SeqCst);
                continue;
            }
            if list.len() == 1 && self.memtables.get(list.active()).entries() == 0 {
                return Ok(());
            }
            self.check_open()?;
            if !self.flush_oldest()? {
                self.env.sleep(std::time::Duration::from_micros(200));
            }
        }
    }

    fn ingest_files(&self, batch: &[u8], first: SeqNo) -> Result<()> {
        let mut entries = Vec::new();
        let mut tombstones = Vec::new();
        let mut last = first;
        for (at, op) in ops(batch).enumerate() {
            let op = op.map_err(|bad| Error::usage(format!("malformed batch at byte {}", bad.0), ""))?;
            let seqno = first.plus(at as u64);
            last = seqno;
            if op.kind == Kind::RangeDelete {
                tombstones.push(RangeTombstone { start: op.key.to_vec(), end: op.value.to_vec(), seqno });
            } else {
                entries.push((op.key, Trailer::new(seqno, op.kind), op.value));
            }
        }
        entries.sort_by(|a, b| compare((a.0, a.1), (b.0, b.1)));
        let mut output = Output::new(self, Priority::Flush, tombstones);
        let mut keeper = Keeper::keep_all(&self.local_view().version);
        let mut last_key: &[u8] = &[];
        for (key, trailer, value) in entries {
            if key != last_key && output.current_bytes() >= self.options.target_file_bytes {
                output.cut(key)?;
            }
            output.add(key, keeper.as_is(key, trailer, value))?;
            last_key = key;
        }
        let edit = VersionEdit {
            added: output.finish()?.into_iter().map(|f| (Level(0), f)).collect(),
            last_seqno: Some(self.visible().max(last)),
            ..VersionEdit::default()
        };
        let claim = self.claim_manifest()?;
        self.install(&claim, edit).map(drop)
    }
}
