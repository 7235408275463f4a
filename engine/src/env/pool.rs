//! The portable world: files by `pread` and `pwrite`, queues served by a bounded set of threads.
//!
//! The io_uring world shares everything here but the queues.

mod file;
mod names;
mod queue;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

pub(super) use self::file::PoolFile;
use self::queue::{PoolQueue, WorkersHandle};
use super::{DirLock, Env, File, IoQueue, OpenMode, SharedMap, Thread, map, sys};
use crate::error::{Error, Result};

/// What the kernel or a file system turned out not to support; shared by all files of one environment.
#[derive(Default)]
pub(super) struct Findings {
    direct_refused: AtomicBool,
    dsync_refused: AtomicBool,
}

impl Findings {
    /// Notes that direct I/O is refused for `path`; the first time in a log line.
    fn refuse_direct(&self, path: &Path) {
        if !self.direct_refused.swap(true, Ordering::Relaxed) {
            tracing::info!(path = %path.display(), "the file system refuses direct I/O; using the page cache");
        }
    }
}

/// The portable environment.
pub struct PoolEnv {
    findings: Arc<Findings>,
    threads: usize,
    workers: ArcSwap<WorkersHandle>,
}

impl PoolEnv {
    /// An environment whose queues share up to `threads` threads (at least one), started when first needed.
    #[must_use]
    pub fn new(threads: usize) -> Arc<Self> {
        let threads = threads.max(1);
        let workers = ArcSwap::from_pointee(WorkersHandle::new(threads));
        Arc::new(Self { findings: Arc::default(), threads, workers })
    }

    /// The workers of this process: threads do not survive a fork.
    fn workers(&self) -> Arc<WorkersHandle> {
        let workers = self.workers.load_full();
        if workers.is_of_this_process() {
            return workers;
        }
        let fresh = Arc::new(WorkersHandle::new(self.threads));
        self.workers.store(Arc::clone(&fresh));
        fresh
    }
}

struct PoolThread {
    name: String,
    handle: JoinHandle<()>,
}

impl Thread for PoolThread {
    fn join(self: Box<Self>) {
        if self.handle.join().is_err() {
            tracing::error!(thread = self.name, "a background thread panicked");
        }
    }
}

impl Env for PoolEnv {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        Ok(Arc::new(PoolFile::open(path, mode, &self.findings)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|error| Error::io(from, "rename", error))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        names::link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| Error::io(path, "remove", error))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        names::list(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        names::create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        names::sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>> {
        names::lock(path)
    }

    fn lock_holder(&self, path: &Path) -> Result<Option<String>> {
        names::lock_holder(path)
    }

    fn free_space(&self, dir: &Path) -> Result<u64> {
        sys::free_space(dir).map_err(|error| Error::io(dir, "measure the free space of", error))
    }

    fn map_shared(&self, path: &Path, len: usize) -> Result<SharedMap> {
        super::check_map_len(len)?;
        let file = PoolFile::open_or_create(path, &self.findings)?;
        file.allocate_for_map(len as u64)?;
        map::map_file(file.inner(), len).map_err(|error| Error::io(path, "map", error))
    }

    fn queue(&self, depth: usize) -> Result<Box<dyn IoQueue>> {
        Ok(Box::new(PoolQueue::new(self.workers(), depth)))
    }

    fn now(&self) -> Duration {
        sys::monotonic()
    }

    fn unix_time(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    fn random(&self) -> u64 {
        sys::random()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn spawn(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> Result<Box<dyn Thread>> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        let handle = sys::with_signals_blocked(|| builder.spawn(run))
            .map_err(|error| Error::io(Path::new(name), "start thread", error))?;
        Ok(Box::new(PoolThread { name: name.to_owned(), handle }))
    }
}
