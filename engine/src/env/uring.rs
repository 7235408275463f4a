//! The Linux world: queues on io_uring rings, everything else as in the pool world.
//!
//! A plain read or write stays a system call of its own: with one operation at a time a ring has nothing to batch.

mod queue;
mod ring;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::queue::UringQueue;
use self::ring::Ring;
use super::pool::PoolEnv;
use super::{DirLock, Env, File, IoQueue, OpenMode, SharedMap, Thread};
use crate::error::{Error, Result};

/// The io_uring environment.
pub struct UringEnv {
    /// Files, names and threads; its workers are never started.
    pool: Arc<PoolEnv>,
}

impl UringEnv {
    /// An environment whose queues are io_uring rings.
    ///
    /// # Errors
    /// I/O when the kernel has no io_uring, forbids it, or lacks an operation that queues need.
    pub fn new() -> Result<Arc<Self>> {
        Ring::probe().map_err(|error| Error::io(Path::new("io_uring"), "set up", error))?;
        Ok(Arc::new(Self { pool: PoolEnv::new(1) }))
    }
}

impl Env for UringEnv {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        self.pool.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.pool.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.pool.link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.pool.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.pool.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.pool.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.pool.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>> {
        self.pool.lock(path)
    }

    fn lock_holder(&self, path: &Path) -> Result<Option<String>> {
        self.pool.lock_holder(path)
    }

    fn free_space(&self, dir: &Path) -> Result<u64> {
        self.pool.free_space(dir)
    }

    fn map_shared(&self, path: &Path, len: usize) -> Result<SharedMap> {
        self.pool.map_shared(path, len)
    }

    fn queue(&self, depth: usize) -> Result<Box<dyn IoQueue>> {
        Ok(Box::new(UringQueue::new(depth)))
    }

    fn now(&self) -> Duration {
        self.pool.now()
    }

    fn unix_time(&self) -> u64 {
        self.pool.unix_time()
    }

    fn random(&self) -> u64 {
        self.pool.random()
    }

    fn sleep(&self, time: Duration) {
        self.pool.sleep(time);
    }

    fn spawn(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> Result<Box<dyn Thread>> {
        self.pool.spawn(name, run)
    }
}
