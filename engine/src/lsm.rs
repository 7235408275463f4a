//! Layer 4: the LSM tree. What is in memory, what is in SSTs, and how the one becomes the other.
//!
//! [`Lsm`] ties the parts together; each operation is an `impl` block in the file of its name: `write`, `lookup`, `scan`,
//! `rotate`, `flush`, `install`, `compaction::run`. All of them may be called from any thread of any process that is
//! attached to the region.

use crate::mem::sync::{AtomicU32, AtomicU64, Ordering};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::Guard;
use parking_lot::Mutex;

use crate::base::ids::{FileNumber, Lsn, SeqNo};
use crate::cache::{BlockCache, CacheOptions, CacheParts};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::lsm::busy::BusyFiles;
use crate::lsm::compaction::pieces::SplitMerges;
use crate::lsm::control::{Control, MemtableList};
use crate::lsm::hosted::{Host, Wait};
use crate::lsm::install::Obsolete;
use crate::lsm::memtable::{MemtableParts, Memtables};
use crate::lsm::publish::PublishQueue;
use crate::lsm::queues::Queues;
use crate::lsm::rate_limit::TokenBucket;
use crate::lsm::row_host::RowHost;
use crate::lsm::stats::Stats;
use crate::lsm::view::{Opener, View, Views};
use crate::manifest::Manifest;
use crate::mem::lock::{LockGuard, OwnerDied};
use crate::mem::lock_table::{LockTable, LockTableParts};
use crate::mem::pins::{Pin, PinParts, PinTable};
use crate::mem::region::{Layout, Part, Region};
use crate::mem::snapshots::{SnapshotHandle, SnapshotParts, Snapshots};
use crate::options::Options;
use crate::wal::{Log, LogShared};

pub mod busy;
pub mod check;
pub mod compaction;
pub mod control;
pub mod flush;
pub mod hosted;
pub mod install;
pub mod jobs;
pub mod keeper;
pub mod lookup;
pub mod memtable;
pub mod merge;
pub mod multi_get;
pub mod output;
pub mod publish;
pub mod queues;
pub mod rate_limit;
pub mod report;
pub mod rotate;
pub mod row_host;
pub mod scan;
pub mod split;
pub mod stall;
pub mod stats;
pub mod trees;
pub mod version;
pub mod versions;
pub mod view;
pub mod write;

/// Engine calls that may be under way at once in all processes; a further one waits. One cache line each.
const PIN_CELLS: usize = 512;

/// Places of everything the LSM shares.
pub struct LsmParts {
    control: Part<Control>,
    publish: Part<PublishQueue>,
    busy: Part<BusyFiles>,
    stats: Part<Stats>,
    limiter: Part<TokenBucket>,
    throttle: Part<TokenBucket>,
    pins: PinParts,
    snapshots: SnapshotParts,
    memtables: MemtableParts,
    cache: CacheParts,
    row_locks: LockTableParts,
    /// The file log's words; unused when the host brings its own log.
    pub log: Part<LogShared>,
}

impl LsmParts {
    /// The control words of the engine in `region`.
    pub(crate) fn control_in<'r>(&self, region: &'r Region) -> &'r Control {
        &region.part(self.control)[0]
    }
}

/// The layout of a region for `options`, and the places in it.
#[must_use]
pub fn layout(options: &Options) -> (Layout, LsmParts) {
    let mut layout = Layout::new();
    let cache =
        CacheOptions { bytes: options.cache_bytes, frame_bytes: options.block_bytes, policy: options.cache_policy };
    let parts = LsmParts {
        control: layout.part("control", 1),
        publish: layout.part("publish", 1),
        busy: layout.part("busy files", 1),
        stats: layout.part("statistics", 1),
        limiter: layout.part("background limiter", 1),
        throttle: layout.part("write throttle", 1),
        pins: PinTable::reserve(&mut layout, PIN_CELLS),
        snapshots: Snapshots::reserve(&mut layout, options.snapshots),
        memtables: Memtables::reserve(&mut layout, options.memtables, options.memtable_bytes),
        cache: BlockCache::reserve(&mut layout, &cache),
        row_locks: LockTable::reserve(&mut layout, options.row_locks),
        log: layout.part("log", 1),
    };
    (layout, parts)
}

/// The LSM tree as one process sees it.
pub struct Lsm {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) region: Region,
    pub(crate) pins: PinTable,
    pub(crate) snapshots: Snapshots,
    pub(crate) memtables: Memtables,
    pub(crate) cache: BlockCache,
    pub(crate) row_locks: LockTable,
    pub(crate) opener: Opener,
    pub(crate) views: Views,
    /// The manifest this process has open for appending, when it has appended before.
    pub(crate) manifest: Mutex<Option<Manifest>>,
    /// Files that left the version through this process and wait until nobody reads them.
    pub(crate) obsolete: Mutex<Vec<Obsolete>>,
    pub(crate) log: OnceLock<Arc<dyn Log>>,
    /// Knows transactions, once somebody does.
    pub(crate) row_host: OnceLock<Arc<dyn RowHost>>,
    /// Keeps the log, when the engine does not.
    pub(crate) host: OnceLock<Arc<dyn Host>>,
    /// Merges of this process that its other threads can help with.
    pub(crate) split_merges: SplitMerges,
    /// During recovery, where the record being applied starts.
    replaying: AtomicU64,
    /// This process has closed its handle; others may go on.
    left: AtomicU32,
    control: Part<Control>,
    publish: Part<PublishQueue>,
    busy: Part<BusyFiles>,
    stats: Part<Stats>,
    limiter: Part<TokenBucket>,
    throttle: Part<TokenBucket>,
}

impl Lsm {
    /// The LSM in `region`, at the version in `views`. The caller recovers it (or has attached to one that is ready).
    #[must_use]
    pub fn new(
        env: Arc<dyn Env>,
        dir: PathBuf,
        options: Options,
        region: Region,
        parts: LsmParts,
        views: Views,
    ) -> Self {
        let queues = Queues::new(Arc::clone(&env));
        let opener = Opener { env: Arc::clone(&env), dir: dir.clone(), direct: options.direct_io, queues };
        Self {
            pins: PinTable::new(&region, parts.pins),
            snapshots: Snapshots::new(&region, parts.snapshots),
            memtables: Memtables::new(&region, parts.memtables),
            cache: BlockCache::new(&region, parts.cache),
            row_locks: LockTable::new(&region, parts.row_locks),
            opener,
            views,
            manifest: Mutex::new(None),
            obsolete: Mutex::new(Vec::new()),
            log: OnceLock::new(),
            row_host: OnceLock::new(),
            host: OnceLock::new(),
            split_merges: SplitMerges::default(),
            replaying: AtomicU64::new(0),
            left: AtomicU32::new(0),
            control: parts.control,
            publish: parts.publish,
            busy: parts.busy,
            stats: parts.stats,
            limiter: parts.limiter,
            throttle: parts.throttle,
            env,
            dir,
            options,
            region,
        }
    }

    /// The shared control words.
    #[inline]
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.region.part(self.control)[0]
    }

    #[inline]
    pub(crate) fn publish(&self) -> &PublishQueue {
        &self.region.part(self.publish)[0]
    }

    pub(crate) fn busy(&self) -> &BusyFiles {
        &self.region.part(self.busy)[0]
    }

    /// The shared counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.region.part(self.stats)[0]
    }

    /// Paces the writes of background jobs.
    pub(crate) fn limiter(&self) -> &TokenBucket {
        &self.region.part(self.limiter)[0]
    }

    /// Paces foreground writes while compaction is behind.
    pub(crate) fn throttle(&self) -> &TokenBucket {
        &self.region.part(self.throttle)[0]
    }

    /// The log.
    ///
    /// # Panics
    /// Before recovery has attached one.
    #[inline]
    #[must_use]
    pub fn log(&self) -> &Arc<dyn Log> {
        self.log.get().expect("the log is attached before the first write")
    }

    /// During recovery, the log position of the record being applied: a memtable made active now starts there.
    pub(crate) fn replay_position(&self) -> Lsn {
        Lsn(self.replaying.load(Ordering::Relaxed))
    }

    pub(crate) fn set_replay_position(&self, lsn: Lsn) {
        self.replaying.store(lsn.0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn pin_reader(&self) -> Pin<'_> {
        self.pins.pin(&self.control().generation, false)
    }

    /// The largest sequence number that readers may see.
    #[inline]
    #[must_use]
    pub fn visible(&self) -> SeqNo {
        SeqNo(self.control().visible.load(Ordering::SeqCst))
    }

    #[inline]
    pub(crate) fn memtable_list(&self) -> MemtableList {
        MemtableList(self.control().memtables.load(Ordering::SeqCst))
    }

    /// The newest view, following the manifest when another process has moved on.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    #[inline]
    pub fn view(&self) -> Result<Guard<Arc<View>>> {
        self.check_not_closed()?;
        let view = self.views.load();
        if view.version.number >= self.control().version.load(Ordering::SeqCst) {
            return Ok(view);
        }
        drop(view);
        self.follow()?;
        Ok(self.views.load())
    }

    /// The newest view, to keep.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn view_full(&self) -> Result<Arc<View>> {
        Ok(Guard::into_inner(self.view()?))
    }

    /// Registers what is visible now as a snapshot that garbage collection respects.
    ///
    /// # Errors
    /// Usage when all cells are taken; closed.
    pub fn register_snapshot(&self) -> Result<SnapshotHandle> {
        self.check_not_closed()?;
        self.snapshots.register(&self.control().visible).ok_or_else(|| {
            Error::usage(
                format!("{} snapshots are open", self.options.snapshots),
                "Drop snapshots and scans that are no longer used, or raise option snapshots.",
            )
        })
    }

    /// Gives a snapshot back.
    pub fn release_snapshot(&self, handle: SnapshotHandle) {
        self.snapshots.release(handle);
    }

    pub(crate) fn take_file_number(&self) -> FileNumber {
        FileNumber(self.control().take_file_number())
    }

    /// Takes a region lock; when its holder died half way, the engine shuts for writing.
    pub(crate) fn hold<'l>(
        &self,
        lock: impl FnOnce() -> std::result::Result<LockGuard<'l>, OwnerDied>,
    ) -> Result<LockGuard<'l>> {
        lock().map_err(|_| {
            self.control().poison();
            closed_by_death()
        })
    }

    /// Takes this process out: its calls fail from now on.
    pub(crate) fn leave(&self) {
        self.left.store(1, Ordering::Release);
    }

    /// Fails when the engine was closed, by this process or for all. After a failure reads go on, so this is not
    /// [`check_open`](Self::check_open).
    ///
    /// # Errors
    /// Closed.
    #[inline]
    pub(crate) fn check_not_closed(&self) -> Result<()> {
        if self.left.load(Ordering::Relaxed) != 0 || self.control().is_closed() {
            return Err(closed());
        }
        Ok(())
    }

    /// Fails when the engine was shut for writing, or closed.
    ///
    /// # Errors
    /// Closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_not_closed()?;
        if self.control().is_poisoned() {
            return Err(Error::Closed("an earlier failure shut it for writing; open it again to recover".into()));
        }
        Ok(())
    }

    /// Waits until something in the background has finished, or does a piece of background work when nobody else will.
    pub(crate) fn await_progress(&self, seen: u32) -> Result<()> {
        self.check_host_interrupts()?;
        if self.host.get().is_some_and(|host| host.flushes_itself()) && self.flush_oldest()? {
            return Ok(());
        }
        if self.options.background_threads == 0 && self.run_next_job()? {
            return Ok(());
        }
        self.control().work.notify();
        self.waiting(Wait::Memtable, || {
            if self.options.background_threads == 0 {
                self.env.sleep(Duration::from_millis(1));
            } else {
                self.control().progress.wait(seen, Duration::from_millis(100));
            }
        });
        Ok(())
    }
}

#[cold]
fn closed() -> Error {
    Error::Closed("close was called".into())
}

/// The error after a process died while it held a lock or was in the middle of a write.
#[must_use]
pub fn closed_by_death() -> Error {
    Error::Closed("a process died in the middle of a write; open the engine again to recover".into())
}
