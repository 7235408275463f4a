//! Writing for a host that keeps the log itself, such as a database whose own write-ahead log carries the engine's batches.
//!
//! ```text
//! admit_write ─► try_place ─► [critical section of the host: its log ─► Placed::insert]
//!                   │ Full
//!                   ▼
//!              rotate, and again
//! ```
//! `try_place` pins as a writer, makes room and takes sequence numbers; from then on nothing can fail but the host's log. The
//! three steps are three calls because the middle one is the host's and must not be left half way.
//!
//! What differs from an engine that logs for itself:
//! 1. Sequence numbers come from `Control::visible`: a number is visible as soon as it is taken. Versions of rows are judged by
//!    their writers, so nothing is gained by hiding them; batches to trees of values are not atomic for readers.
//! 2. Trees are known by the host ([`Host::tree_kind`]), not by the manifest.
//! 3. Waits ask the host whether they should end ([`Host::check_interrupts`]), and nothing of the engine is held then.

use crate::base::ids::{Level, Lsn, SeqNo, TreeId};
use crate::base::key::full_key;
use crate::base::key::prefix_successor;
use crate::error::{Error, Result};
use crate::format::version_edit::VersionEdit;
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::memtable::{Memtable, Room, space_needed};
use crate::lsm::merge::Direction;
use crate::lsm::row_host::TreeKind;
use crate::lsm::scan::Scan;
use crate::lsm::stats::Counter;
use crate::lsm::write::with_splice;
use crate::mem::pins::Pin;
use crate::mem::sync::Ordering;
use std::time::Duration;

/// After this time without progress a flush says what it waits for, and again each time.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// Pause between two looks at a flush that another process does.
const FLUSH_POLL: Duration = Duration::from_micros(200);

/// What a writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A memtable with room: flushes are behind.
    Memtable,
    /// Its turn: compaction is behind, and writers are slowed.
    Turn,
}

/// A piece of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Writes a memtable to a file of L0.
    Flush {
        /// Bytes that the memtable takes.
        bytes: u64,
    },
    /// Merges files.
    Merge {
        /// How many.
        files: usize,
        /// Their bytes.
        bytes: u64,
        /// Where the result goes.
        output: Level,
    },
}

/// A host that keeps the log, as the engine needs it.
pub trait Host: Send + Sync {
    /// Logs what was placed and inserts it. Called for the few writes that the engine itself makes.
    ///
    /// # Errors
    /// The host's own; nothing was logged then.
    fn write(&self, placed: Placed<'_>) -> Result<()>;

    /// Asked by everybody who waits, at least every 100 ms, and never under a lock or a pin of the engine.
    ///
    /// # Errors
    /// Why the wait should end. A host may also unwind.
    fn check_interrupts(&self) -> Result<()>;

    /// Called often while a job works, perhaps under locks of the engine: it must neither wait nor unwind.
    fn at_work(&self) {}

    /// A wait begins, for [`wait_ended`](Self::wait_ended) to end; for whoever watches. Must neither wait nor unwind.
    fn wait_began(&self, _wait: Wait) {}

    /// The wait has ended. Left out when [`check_interrupts`](Self::check_interrupts) unwinds.
    fn wait_ended(&self) {}

    /// A job begins; jobs may be nested. As [`wait_began`](Self::wait_began).
    fn job_began(&self, _job: Job) {}

    /// The job that began last has ended, well or not.
    fn job_ended(&self) {}

    /// Told now and then while a flush waits for something that should not take long. Must neither wait nor unwind.
    fn waits_long(&self, _what: &str) {}

    /// Whether whoever waits for a flush in this process should do it (nobody else will).
    fn flushes_itself(&self) -> bool;

    /// What `tree` holds.
    fn tree_kind(&self, tree: TreeId) -> TreeKind;

    /// Whether files that left the version must stay for now, because somebody copies the directory while it changes: every
    /// file of the version that was in force when the copy began has to be there until it ends. Asked after the version has
    /// changed, and again before files are removed that were kept.
    fn keeps_files(&self) -> bool {
        false
    }
}

/// A batch with room in a memtable and numbers, pinned there until it is inserted or given up.
#[must_use]
pub struct Placed<'l> {
    lsm: &'l Lsm,
    table: &'l Memtable,
    room: Room,
    batch: &'l [u8],
    first: SeqNo,
    /// Last: it is dropped after everything else.
    _pin: Pin<'l>,
}

/// What came of asking for room.
pub enum Place<'l> {
    /// There is room.
    Placed(Placed<'l>),
    /// The active memtable of this list is full: [`Lsm::rotate`], then ask again.
    Full(MemtableList),
}

impl Placed<'_> {
    /// The batch.
    #[must_use]
    pub const fn batch(&self) -> &[u8] {
        self.batch
    }

    /// The first of its sequence numbers; goes into the host's log beside the batch.
    #[must_use]
    pub const fn first(&self) -> SeqNo {
        self.first
    }

    /// Makes the batch readable. Cannot fail.
    pub fn insert(self) {
        let Self { lsm, table, room, batch, first, _pin } = self;
        with_splice(|splice| table.insert(room, batch, first, splice));
        lsm.stats().add(Counter::BatchesWritten, 1);
        lsm.stats().add(Counter::BytesWritten, batch.len() as u64);
    }
}

impl Lsm {
    /// Whether the host keeps the log.
    #[must_use]
    pub fn is_hosted(&self) -> bool {
        self.host.get().is_some()
    }

    /// Waits until a write of `bytes` may start: slowed when compaction is behind, refused when the disk is nearly full.
    ///
    /// # Errors
    /// I/O for the full disk, closed; what the host's check for interrupts said.
    pub fn admit_write(&self, bytes: usize) -> Result<()> {
        self.admit(bytes)
    }

    /// Makes room for a batch of `count` operations and takes numbers for it, without waiting for anything but a rotation that
    /// is under way.
    ///
    /// # Errors
    /// Usage for a batch that is larger than half a memtable; closed.
    pub fn try_place<'l>(&'l self, batch: &'l [u8], count: u64) -> Result<Place<'l>> {
        if space_needed(batch, 0) > self.options.memtable_bytes / 2 {
            return Err(Error::usage(
                format!("batch of {} bytes does not fit a memtable", batch.len()),
                "Write fewer rows at once, or use larger memtables.",
            ));
        }
        Ok(match self.try_room_for(batch)? {
            Ok((pin, table, room)) => {
                let before = self.control().visible.fetch_add(count, Ordering::SeqCst);
                Place::Placed(Placed { lsm: self, table, room, batch, first: SeqNo(before + 1), _pin: pin })
            }
            Err(list) => Place::Full(list),
        })
    }

    /// As [`try_place`](Self::try_place), waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`admit_write`](Self::admit_write) and [`try_place`](Self::try_place).
    pub fn place<'l>(&'l self, batch: &'l [u8], count: u64) -> Result<Placed<'l>> {
        self.admit(batch.len())?;
        loop {
            match self.try_place(batch, count)? {
                Place::Placed(placed) => return Ok(placed),
                Place::Full(list) => self.rotate(list)?,
            }
        }
    }

    /// Applies a batch from the host's log, which has the record that starts at `at`, unless files have it already.
    ///
    /// # Errors
    /// Corruption of the batch; I/O, closed.
    pub fn replay_hosted(&self, batch: &[u8], first: SeqNo, at: Lsn) -> Result<()> {
        let mut count = 0;
        for op in crate::format::batch::ops(batch) {
            op.map_err(|bad| Error::corruption(&self.dir, at.0, format!("malformed batch in the log at {}", bad.0)))?;
            count += 1;
        }
        if count == 0 || at < self.view()?.version.durable {
            return Ok(());
        }
        self.set_replay_position(at);
        self.control().visible.fetch_max(first.plus(count - 1).0, Ordering::SeqCst);
        self.replay(batch, first)
    }

    /// Flushes everything that was logged below `upto`; whether there was anything. Only one process does this at a time.
    ///
    /// # Errors
    /// I/O: what could not be flushed stays in memory, and it may be tried again.
    pub fn flush_below(&self, upto: Lsn) -> Result<bool> {
        let mut any = false;
        // Nothing is logged beyond; and a memtable made active from now on starts at or above this.
        let upto = upto.min(self.log().position());
        let mut told = self.env.now();
        loop {
            let list = self.memtable_list();
            if self.memtables.get(list.active()).start() < upto
                && self.memtables.find_free(list.indices(), self.pins.oldest()).is_some()
            {
                self.rotate(list)?;
                continue;
            }
            let oldest_start = list.indices().next_back().map(|index| self.memtables.get(index).start());
            if oldest_start.is_none_or(|start| start >= upto) {
                return Ok(any);
            }
            if self.flush_oldest()? {
                any = true;
                told = self.env.now();
            } else {
                // Another process is at it, or somebody reads what the only free memtable has.
                self.env.sleep(FLUSH_POLL);
                if self.env.now().saturating_sub(told) > LONG_WAIT {
                    told = self.env.now();
                    self.tell_of_wait();
                }
            }
            self.check_host_interrupts()?;
        }
    }

    /// Tells the host whom a flush waits for.
    fn tell_of_wait(&self) {
        let Some(host) = self.host.get() else { return };
        let owners = self.pins.owners();
        let generation = self.control().generation.load(Ordering::SeqCst);
        let readers: Vec<_> =
            owners.iter().map(|(pid, oldest)| format!("{pid} (generation {oldest} of {generation})")).collect();
        host.waits_long(&match &readers[..] {
            [] => "another process, which flushes".to_owned(),
            readers => format!("processes that read: {}", readers.join(", ")),
        });
    }

    /// As [`flush_below`](Self::flush_below) for `redo`, where a checkpoint of the host will let replay begin, and notes that
    /// position: a copy of the directory that is replayed from there is known by it. The host's log must have arrived there:
    /// nothing will be logged below. (Its end may be short of it by the header of a page.)
    ///
    /// # Errors
    /// I/O: as for [`flush_below`](Self::flush_below).
    pub fn flush_for_checkpoint(&self, redo: Lsn) -> Result<()> {
        self.flush_below(redo)?;
        if self.view()?.version.durable >= redo {
            return Ok(());
        }
        let claim = self.claim_manifest()?;
        let edit = VersionEdit { durable: Some(redo), last_seqno: Some(self.visible()), ..VersionEdit::default() };
        self.install(&claim, edit).map(drop)
    }

    /// Whether `tree` has any entry at all, in memory or in files; what was deleted and not yet forgotten counts as one when
    /// it is newer than what deleted it.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn tree_has_entries(self: &std::sync::Arc<Self>, tree: TreeId) -> Result<bool> {
        let from = full_key(tree, &[]);
        let to = prefix_successor(&from);
        let mut scan = Scan::unanchored(std::sync::Arc::clone(self), from, to, Direction::Forward);
        Ok(scan.next_row()?.is_some())
    }

    /// Frees what this process holds in the region, when it ends in the middle of a call.
    pub fn forget_process(&self) {
        self.pins.release_process(crate::mem::process::current_pid());
    }

    /// A job of the host's found the disk full: writers are refused until the next look at the free space says otherwise.
    pub fn note_disk_full(&self) {
        self.control().disk_full.store(1, Ordering::Relaxed);
        self.look_at_disk();
    }

    /// Whether the host wants files to stay that left the version.
    pub(crate) fn keeps_files(&self) -> bool {
        self.host.get().is_some_and(|host| host.keeps_files())
    }

    pub(crate) fn check_host_interrupts(&self) -> Result<()> {
        self.host.get().map_or(Ok(()), |host| host.check_interrupts())
    }

    /// Runs `work`, which waits for what `wait` says, so that the host can show it.
    pub(crate) fn waiting<T>(&self, wait: Wait, work: impl FnOnce() -> T) -> T {
        let Some(host) = self.host.get() else { return work() };
        host.wait_began(wait);
        let out = work();
        host.wait_ended();
        out
    }

    /// Runs `work`, which does `job`, so that the host can show it.
    pub(crate) fn working<T>(&self, job: Job, work: impl FnOnce() -> T) -> T {
        let Some(host) = self.host.get() else { return work() };
        host.job_began(job);
        let out = work();
        host.job_ended();
        out
    }
}
