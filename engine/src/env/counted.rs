//! A world inside a host that limits open files: every descriptor is counted there, and files that are only read are closed and
//! opened again when there are too many.
//!
//! ```text
//!   open to read ──► Shelved ── read ──► open file (counted) ── others need room ──► closed ── read ──► opened again
//!   open to write ─► open file (counted) until it is dropped
//! ```
//!
//! 1. A descriptor is asked for before it is opened and given back after it is closed.
//! 2. A file that is only read has at most one descriptor of its own; operations that are under way hold on to it.
//! 3. A file must have its name as long as it may be read. Files of the engine do: they are removed when nobody can reach them.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::{DirLock, Env, File, IoDone, IoOp, IoQueue, OpenMode, SharedMap, Thread};
use crate::error::Result;

/// A host's account of descriptors. Called from anywhere in the engine: nothing here may wait, unwind or call the engine.
pub trait Descriptors: Send + Sync + 'static {
    /// Counts one more, unless there are too many already.
    fn acquire(&self) -> bool;

    /// Counts one more in any case.
    fn reserve(&self);

    /// Counts one less.
    fn release(&self);
}

/// A descriptor that is counted until this is dropped.
struct Share(Arc<dyn Descriptors>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// An open file that is counted. Backends see their own file through it.
struct Counted {
    // First, so that it is closed before it is given back.
    file: Arc<dyn File>,
    _share: Share,
}

impl File for Counted {
    fn path(&self) -> &Path {
        self.file.path()
    }
    fn is_direct(&self) -> bool {
        self.file.is_direct()
    }
    fn len(&self) -> Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(buf, offset)
    }
    fn sync(&self) -> Result<()> {
        self.file.sync()
    }
    fn write_sync_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_sync_at(buf, offset)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> Result<()> {
        self.file.allocate(len)
    }
    fn as_any(&self) -> &dyn Any {
        self.file.as_any()
    }
}

/// A file that is only read, open or not.
struct Shelved {
    shelf: Arc<Shelf>,
    path: PathBuf,
    mode: OpenMode,
    is_direct: bool,
    open: Mutex<Option<Arc<Counted>>>,
    /// The shelf's clock at the last use.
    used: AtomicU64,
}

impl Shelved {
    /// The file, opened again if need be.
    fn current(&self) -> Result<Arc<Counted>> {
        self.used.store(self.shelf.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(file) = &*self.open.lock() {
            return Ok(Arc::clone(file));
        }
        // Not under its own lock: making room looks at all files.
        let file = Arc::new(self.shelf.open(&self.path, self.mode)?);
        Ok(Arc::clone(self.open.lock().get_or_insert(file)))
    }
}

impl File for Shelved {
    fn path(&self) -> &Path {
        &self.path
    }
    fn is_direct(&self) -> bool {
        self.is_direct
    }
    fn len(&self) -> Result<u64> {
        self.current()?.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.current()?.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.current()?.write_at(buf, offset)
    }
    fn sync(&self) -> Result<()> {
        self.current()?.sync()
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.current()?.set_len(len)
    }
    fn allocate(&self, len: u64) -> Result<()> {
        self.current()?.allocate(len)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The files that are only read.
struct Shelf {
    env: Arc<dyn Env>,
    descriptors: Arc<dyn Descriptors>,
    files: Mutex<Vec<Weak<Shelved>>>,
    clock: AtomicU64,
}

impl Shelf {
    /// Counts a descriptor, closing the file that was read longest ago as long as there are too many.
    fn share(&self) -> Share {
        while !self.descriptors.acquire() {
            if !self.close_one() {
                self.descriptors.reserve();
                break;
            }
        }
        Share(Arc::clone(&self.descriptors))
    }

    /// Closes the file that was read longest ago, of those that are open and that nobody reads now; whether there was one.
    fn close_one(&self) -> bool {
        let oldest = {
            let mut files = self.files.lock();
            files.retain(|file| file.strong_count() > 0);
            let idle = |file: &Arc<Shelved>| file.open.lock().as_ref().is_some_and(|open| Arc::strong_count(open) == 1);
            let open = files.iter().filter_map(Weak::upgrade).filter(idle);
            open.min_by_key(|file| file.used.load(Ordering::Relaxed))
        };
        oldest.is_some_and(|file| file.open.lock().take().is_some())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Counted> {
        let share = self.share();
        Ok(Counted { file: self.env.open(path, mode)?, _share: share })
    }
}

/// A queue whose own descriptors count as one.
struct CountedQueue {
    queue: Box<dyn IoQueue>,
    _share: Share,
}

impl IoQueue for CountedQueue {
    fn push(&mut self, tag: u64, op: IoOp) -> Result<()> {
        let op = match op {
            IoOp::Read { file, offset, buf } => IoOp::Read { file: unshelved(file)?, offset, buf },
            op => op,
        };
        self.queue.push(tag, op)
    }
    fn wait(&mut self, min: usize, out: &mut Vec<IoDone>) -> Result<()> {
        self.queue.wait(min, out)
    }
    fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }
}

/// The open file behind `file`, which stays open as long as the result lives.
fn unshelved(file: Arc<dyn File>) -> Result<Arc<dyn File>> {
    match file.as_any().downcast_ref::<Shelved>() {
        Some(shelved) => Ok(shelved.current()?),
        None => Ok(file),
    }
}

/// See the module.
pub struct CountedEnv {
    shelf: Arc<Shelf>,
}

impl CountedEnv {
    /// The world `env`, whose descriptors are counted by `descriptors`.
    #[must_use]
    pub fn new(env: Arc<dyn Env>, descriptors: Arc<dyn Descriptors>) -> Arc<Self> {
        let shelf = Shelf { env, descriptors, files: Mutex::default(), clock: AtomicU64::new(0) };
        Arc::new(Self { shelf: Arc::new(shelf) })
    }

    fn env(&self) -> &Arc<dyn Env> {
        &self.shelf.env
    }
}

impl Env for CountedEnv {
    fn name(&self) -> &'static str {
        self.env().name()
    }
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let file = Arc::new(self.shelf.open(path, mode)?);
        if mode.write {
            return Ok(file);
        }
        let shelved = Arc::new(Shelved {
            shelf: Arc::clone(&self.shelf),
            path: path.to_owned(),
            mode,
            is_direct: file.is_direct(),
            open: Mutex::new(Some(file)),
            used: AtomicU64::new(self.shelf.clock.fetch_add(1, Ordering::Relaxed)),
        });
        let mut files = self.shelf.files.lock();
        if files.len() == files.capacity() {
            files.retain(|file| file.strong_count() > 0);
        }
        files.push(Arc::downgrade(&shelved));
        Ok(shelved)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.env().rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.env().link(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.env().remove(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.env().list(dir)
    }
    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.env().create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.env().sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>> {
        self.env().lock(path)
    }
    fn lock_holder(&self, path: &Path) -> Result<Option<String>> {
        self.env().lock_holder(path)
    }
    fn free_space(&self, dir: &Path) -> Result<u64> {
        self.env().free_space(dir)
    }
    fn map_shared(&self, path: &Path, len: usize) -> Result<SharedMap> {
        self.env().map_shared(path, len)
    }
    fn queue(&self, depth: usize) -> Result<Box<dyn IoQueue>> {
        let share = self.shelf.share();
        Ok(Box::new(CountedQueue { queue: self.env().queue(depth)?, _share: share }))
    }
    fn now(&self) -> Duration {
        self.env().now()
    }
    fn unix_time(&self) -> u64 {
        self.env().unix_time()
    }
    fn random(&self) -> u64 {
        self.env().random()
    }
    fn sleep(&self, time: Duration) {
        self.env().sleep(time);
    }
    fn spawn(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> Result<Box<dyn Thread>> {
        self.env().spawn(name, run)
    }
}

#[cfg(test)]
pub(in crate::env) mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::env::memory::MemoryEnv;
    use crate::mem::aligned::AlignedBuf;

    /// At most so many descriptors, if that can be.
    pub(in crate::env) struct Limit {
        most: usize,
        now: AtomicUsize,
        peak: AtomicUsize,
    }

    impl Limit {
        pub(in crate::env) fn new(most: usize) -> Arc<Self> {
            Arc::new(Self { most, now: AtomicUsize::new(0), peak: AtomicUsize::new(0) })
        }
    }

    impl Descriptors for Limit {
        fn acquire(&self) -> bool {
            let room = self.now.load(Ordering::SeqCst) < self.most;
            if room {
                self.reserve();
            }
            room
        }
        fn reserve(&self) {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.peak.fetch_max(now, Ordering::SeqCst);
        }
        fn release(&self) {
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn name(number: usize) -> PathBuf {
        PathBuf::from(format!("/db/{number}"))
    }

    /// A world with 20 files that each hold their number.
    fn world(most: usize) -> (Arc<CountedEnv>, Arc<Limit>) {
        let limit = Limit::new(most);
        let env = CountedEnv::new(MemoryEnv::new(1), Arc::<Limit>::clone(&limit));
        env.create_dir(Path::new("/db")).unwrap();
        for number in 0..20 {
            let file = env.open(&name(number), OpenMode::CREATE).unwrap();
            file.write_at(&[number as u8; 4096], 0).unwrap();
        }
        (env, limit)
    }

    #[test]
    fn many_files_are_read_with_few_descriptors() {
        let (env, limit) = world(3);
        assert_eq!(limit.now.load(Ordering::SeqCst), 0, "files that are written are closed");
        let files: Vec<_> = (0..20).map(|number| env.open(&name(number), OpenMode::READ).unwrap()).collect();
        for turn in 0..200 {
            let number = turn * 7 % 20;
            let mut buf = [0; 10];
            assert_eq!(files[number].read_at(&mut buf, 5).unwrap(), 10);
            assert_eq!(buf, [number as u8; 10]);
        }
        assert_eq!(limit.peak.load(Ordering::SeqCst), 3);
        drop(files);
        assert_eq!(limit.now.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_file_that_is_read_is_not_closed() {
        let (env, limit) = world(2);
        let files: Vec<_> = (0..20).map(|number| env.open(&name(number), OpenMode::READ).unwrap()).collect();
        let mut queue = env.queue(32).unwrap();
        for (tag, file) in (0..).zip(&files) {
            let buf = AlignedBuf::zeroed(4096);
            queue.push(tag, IoOp::Read { file: Arc::clone(file), offset: 0, buf }).unwrap();
        }
        let mut done = Vec::new();
        queue.wait(20, &mut done).unwrap();
        assert_eq!(done.len(), 20);
        for done in done {
            assert!(done.buf.unwrap().iter().all(|byte| u64::from(*byte) == done.tag));
        }
        drop((queue, files));
        assert_eq!(limit.now.load(Ordering::SeqCst), 0, "all is given back, the queue's too");
    }

    #[test]
    fn a_failed_open_is_not_counted() {
        let (env, limit) = world(3);
        assert!(env.open(Path::new("/db/none"), OpenMode::READ).is_err());
        assert_eq!(limit.now.load(Ordering::SeqCst), 0);
    }
}
