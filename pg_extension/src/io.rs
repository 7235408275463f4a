//! The engine's world as the server's operators see it: file operations show as wait events, reads are counted and timed.
//!
//! A wrapper around another world. What it counts is of this process, in blocks of the server's size, so that
//! `am/counts.rs` can tell reads of the device from hits of the cache. The files inside are handed to queues bare: a queue that has
//! threads must not show their waits as this process's.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgrx::pg_sys;
use ssd_engine::Result;
use ssd_engine::env::{DirLock, Env, File, IoDone, IoOp, IoQueue, OpenMode, SharedMap, Thread};

use crate::wait_event::{self, show};

/// Blocks that this process has read from files with rows.
static BLOCKS_READ: AtomicU64 = AtomicU64::new(0);
/// Microseconds that it took; only while `track_io_timing` is on.
static READ_MICROS: AtomicU64 = AtomicU64::new(0);

/// What this process has read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Blocks of the server's size, rounded up for each read.
    pub blocks: u64,
    /// Microseconds, as far as they were measured.
    pub micros: u64,
}

/// What this process has read so far.
#[inline]
#[must_use]
pub fn reads() -> Reads {
    Reads { blocks: BLOCKS_READ.load(Ordering::Relaxed), micros: READ_MICROS.load(Ordering::Relaxed) }
}

/// The world `inner`, watched.
#[must_use]
pub fn watched(inner: Arc<dyn Env>) -> Arc<dyn Env> {
    Arc::new(Watched { inner })
}

struct Watched {
    inner: Arc<dyn Env>,
}

struct WatchedFile {
    inner: Arc<dyn File>,
    clock: Arc<dyn Env>,
    /// It has rows, and reads of it count; the others are the engine's own books.
    has_rows: bool,
}

struct WatchedQueue {
    inner: Box<dyn IoQueue>,
    clock: Arc<dyn Env>,
    /// Whether something is written since the queue was last empty.
    writes: bool,
}

/// Runs `read`, which tells how many bytes it has read, as a wait.
fn timed<T>(clock: &dyn Env, event: u32, read: impl FnOnce() -> (T, usize)) -> T {
    // SAFETY: a setting of this process.
    let started = unsafe { pg_sys::track_io_timing }.then(|| clock.now());
    let shown = show(event);
    let (out, bytes) = read();
    drop(shown);
    let blocks = bytes.div_ceil(pg_sys::BLCKSZ as usize) as u64;
    BLOCKS_READ.fetch_add(blocks, Ordering::Relaxed);
    if let (Some(started), true) = (started, blocks > 0) {
        READ_MICROS.fetch_add(clock.now().saturating_sub(started).as_micros() as u64, Ordering::Relaxed);
    }
    out
}

impl File for WatchedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn is_direct(&self) -> bool {
        self.inner.is_direct()
    }
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        timed(&*self.clock, wait_event::READ, || {
            let read = self.inner.read_at(buf, offset);
            let bytes = if self.has_rows { *read.as_ref().unwrap_or(&0) } else { 0 };
            (read, bytes)
        })
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let _shown = show(wait_event::WRITE);
        self.inner.write_at(buf, offset)
    }
    fn sync(&self) -> Result<()> {
        let _shown = show(wait_event::SYNC);
        self.inner.sync()
    }
    fn write_sync_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let _shown = show(wait_event::SYNC);
        self.inner.write_sync_at(buf, offset)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        let _shown = show(wait_event::TRUNCATE);
        self.inner.set_len(len)
    }
    fn allocate(&self, len: u64) -> Result<()> {
        let _shown = show(wait_event::EXTEND);
        self.inner.allocate(len)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The file inside, as the world that opened it knows it.
fn bare(file: Arc<dyn File>) -> Arc<dyn File> {
    match file.as_any().downcast_ref::<WatchedFile>() {
        Some(watched) => Arc::clone(&watched.inner),
        None => file,
    }
}

impl WatchedQueue {
    const fn event(&self) -> u32 {
        if self.writes { wait_event::WRITE } else { wait_event::READ }
    }
}

impl IoQueue for WatchedQueue {
    fn push(&mut self, tag: u64, op: IoOp) -> Result<()> {
        if self.inner.in_flight() == 0 {
            self.writes = false;
        }
        let op = match op {
            IoOp::Read { file, offset, buf } => IoOp::Read { file: bare(file), offset, buf },
            IoOp::Write { file, offset, buf } => {
                self.writes = true;
                IoOp::Write { file: bare(file), offset, buf }
            }
            IoOp::Sync { file } => {
                self.writes = true;
                IoOp::Sync { file: bare(file) }
            }
        };
        // A full queue waits.
        let _shown = show(self.event());
        self.inner.push(tag, op)
    }
    fn wait(&mut self, min: usize, out: &mut Vec<IoDone>) -> Result<()> {
        let (before, writes, event) = (out.len(), self.writes, self.event());
        timed(&*self.clock, event, || {
            let waited = self.inner.wait(min, out);
            let read = out[before..].iter().filter(|_| !writes);
            let bytes = read.map(|done| *done.result.as_ref().unwrap_or(&0)).sum();
            (waited, bytes)
        })
    }
    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

impl Env for Watched {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let inner = self.inner.open(path, mode)?;
        let has_rows = path.extension().is_some_and(|extension| extension == "sst");
        Ok(Arc::new(WatchedFile { inner, clock: Arc::clone(&self.inner), has_rows }))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.link(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.inner.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let _shown = show(wait_event::SYNC);
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>> {
        self.inner.lock(path)
    }
    fn lock_holder(&self, path: &Path) -> Result<Option<String>> {
        self.inner.lock_holder(path)
    }
    fn free_space(&self, dir: &Path) -> Result<u64> {
        self.inner.free_space(dir)
    }
    fn map_shared(&self, path: &Path, len: usize) -> Result<SharedMap> {
        self.inner.map_shared(path, len)
    }
    fn queue(&self, depth: usize) -> Result<Box<dyn IoQueue>> {
        let inner = self.inner.queue(depth)?;
        Ok(Box::new(WatchedQueue { inner, clock: Arc::clone(&self.inner), writes: false }))
    }
    fn now(&self) -> Duration {
        self.inner.now()
    }
    fn unix_time(&self) -> u64 {
        self.inner.unix_time()
    }
    fn random(&self) -> u64 {
        self.inner.random()
    }
    fn sleep(&self, time: Duration) {
        self.inner.sleep(time);
    }
    fn spawn(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> Result<Box<dyn Thread>> {
        self.inner.spawn(name, run)
    }
}
