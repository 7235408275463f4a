//! The simulated world: files in memory, a clock that moves only when told, seeded chance, crashes and faults.
//!
//! Everything follows from the seed and the sequence of calls, so a failure is repeated by repeating its seed. There are no
//! threads; the world may be used from several, but then their interleaving is not the seed's.
//!
//! What a crash leaves: after the death of the processes, all that was written (also through maps). After a power failure,
//! all that was synced, and of the rest what chance keeps: each sector of each write, each change of a length, each name.

mod disk;
mod file;
mod image;
mod inode;
mod queue;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use self::disk::Disk;
use self::file::MemoryFile;
use self::queue::MemoryQueue;
use super::fault::{Fate, FaultKind, Faults, Op, error_of};
use super::random::Random;
use super::{DirLock, Env, File, IoQueue, OpenMode, SharedMap, Thread, check_map_len};
use crate::error::{Error, Result};

/// What every operation takes by the world's clock, besides injected latency.
const STEP: Duration = Duration::from_micros(1);

/// The world's clock starts here: 2024-01-01.
const UNIX_START: u64 = 1_704_067_200;

/// How the machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crash {
    /// All processes die. What was written stays, synced or not; maps too. Locks are released.
    Process,
    /// The power fails. What was synced stays; each unsynced sector, length and name stays or not, by chance.
    Power,
}

/// State shared by the environment, its files and its locks.
struct World {
    disk: Mutex<Disk>,
    faults: Faults,
    /// Nanoseconds since the world began.
    clock: AtomicU64,
    random: Mutex<Random>,
}

impl World {
    fn advance(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.clock.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The disk, when the process lives and `epoch`, the epoch of the caller's handle, is the present one.
    fn live_disk(&self, epoch: Option<u64>, path: &Path, attempt: &'static str) -> Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock();
        if epoch.is_some_and(|epoch| epoch != disk.epoch) {
            return Err(Error::io(path, attempt, io::Error::other("stale handle")));
        }
        if self.faults.is_crashed() {
            return Err(Error::io(path, attempt, error_of(FaultKind::Crash)));
        }
        Ok(disk)
    }

    /// Does one counted operation, or what its fate wants instead. `body` handles the faults that do half of it.
    fn run<T>(
        &self,
        epoch: Option<u64>,
        op: Op,
        path: &Path,
        offset: Option<u64>,
        body: impl FnOnce(&mut Disk, Option<FaultKind>) -> io::Result<T>,
    ) -> Result<T> {
        let mut disk = self.live_disk(epoch, path, op.attempt())?;
        let (fate, time) = self.faults.judge(op, path);
        self.advance(STEP + time);
        let outcome = match fate {
            Fate::Done => body(&mut disk, None),
            Fate::Fails(kind @ (FaultKind::ShortWrite | FaultKind::SyncLost)) => body(&mut disk, Some(kind)),
            Fate::Fails(kind) => Err(error_of(kind)),
            Fate::DiesAfter => body(&mut disk, None).and_then(|_| Err(error_of(FaultKind::Crash))),
            Fate::Dead => Err(error_of(FaultKind::Crash)),
        };
        outcome.map_err(|source| Error::Io { path: path.to_owned(), offset, attempt: op.attempt(), source })
    }
}

/// The simulated environment.
pub struct MemoryEnv {
    world: Arc<World>,
}

impl MemoryEnv {
    /// A world with an empty, unlimited disk, whose chance follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        let mut random = Random::new(seed);
        let world = World {
            disk: Mutex::new(Disk::new(Random::new(random.next()))),
            faults: Faults::new(random.next()),
            clock: AtomicU64::new(0),
            random: Mutex::new(random),
        };
        Arc::new(Self { world: Arc::new(world) })
    }

    /// Ends all processes, or the power with them. Handles of before fail from now on, and faults scheduled for the past
    /// life are forgotten; random faults go on.
    pub fn crash(&self, how: Crash) {
        let mut disk = self.world.disk.lock();
        disk.crash(how);
        self.world.faults.revive();
    }

    /// Limits the disk to this many bytes, in pages of 4 KiB; `None`: no limit. Names take no space.
    pub fn disk_capacity(&self, bytes: Option<u64>) {
        self.world.disk.lock().capacity = bytes;
    }

    /// Inverts one bit of a file, stable at once. Whether the file has it.
    pub fn flip_bit(&self, path: &Path, bit_offset: u64) -> bool {
        let mut disk = self.world.disk.lock();
        let inode = disk.find(path).filter(|inode| bit_offset / 8 < inode.len());
        inode.map(|inode| inode.flip_bit(bit_offset)).is_some()
    }

    /// Makes a file stable and cuts it to at most `len` bytes, stable at once. Whether the file exists.
    pub fn cut(&self, path: &Path, len: u64) -> bool {
        self.world.disk.lock().find(path).map(|inode| inode.cut(len)).is_some()
    }

    /// All bytes of a file as reads see them; `None` when it does not exist. Not an operation: neither counted nor failing.
    #[must_use]
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        self.world.disk.lock().find(path).map(inode::Inode::bytes)
    }

    /// Replaces a file, or creates it and its directory; stable at once. Not an operation: neither counted nor failing.
    ///
    /// # Panics
    /// When `path` cannot name a file.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) {
        self.world.disk.lock().put(path, bytes).expect("the path names a file");
    }

    /// Paths of all files, sorted by directory and name.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.world.disk.lock().files()
    }

    /// The faults of this world.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }
}

struct MemoryLock {
    world: Arc<World>,
    path: PathBuf,
    epoch: u64,
}

impl DirLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.world.disk.lock();
        if disk.epoch == self.epoch {
            disk.unlock(&self.path);
        }
    }
}

impl Env for MemoryEnv {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let op = if mode.create_new { Op::Create } else { Op::Open };
        let (inode, epoch) =
            self.world.run(None, op, path, None, |disk, _| Ok((disk.open(path, mode)?, disk.epoch)))?;
        Ok(Arc::new(MemoryFile { world: Arc::clone(&self.world), path: path.to_owned(), mode, inode, epoch }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.world.run(None, Op::Rename, from, None, |disk, _| disk.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.world.run(None, Op::Link, to, None, |disk, _| disk.link(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.world.run(None, Op::Remove, path, None, |disk, _| disk.remove(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.world.run(None, Op::List, dir, None, |disk, _| disk.list(dir))
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.world.run(None, Op::CreateDir, dir, None, |disk, _| disk.create_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.world.run(None, Op::SyncDir, dir, None, |disk, _| disk.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>> {
        let mut disk = self.world.live_disk(None, path, "lock")?;
        let epoch = disk.epoch;
        if !disk.lock(path).map_err(|error| Error::io(path, "lock", error))? {
            return Err(super::lock_held(path, "another engine"));
        }
        Ok(Box::new(MemoryLock { world: Arc::clone(&self.world), path: path.to_owned(), epoch }))
    }

    fn lock_holder(&self, path: &Path) -> Result<Option<String>> {
        let disk = self.world.live_disk(None, path, "look at the lock")?;
        Ok(disk.is_locked(path).then(|| "another engine".to_owned()))
    }

    fn free_space(&self, dir: &Path) -> Result<u64> {
        Ok(self.world.live_disk(None, dir, "measure the free space of")?.free_space())
    }

    fn map_shared(&self, path: &Path, len: usize) -> Result<SharedMap> {
        check_map_len(len)?;
        self.world.run(None, Op::Map, path, None, |disk, _| disk.map(path, len))
    }

    fn queue(&self, depth: usize) -> Result<Box<dyn IoQueue>> {
        let seed = self.world.disk.lock().random.next();
        Ok(Box::new(MemoryQueue::new(depth, Random::new(seed))))
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.world.clock.load(Ordering::Relaxed))
    }

    fn unix_time(&self) -> u64 {
        UNIX_START + self.now().as_secs()
    }

    fn random(&self) -> u64 {
        self.world.random.lock().next()
    }

    fn sleep(&self, time: Duration) {
        self.world.advance(time);
    }

    fn spawn(&self, name: &str, _run: Box<dyn FnOnce() + Send>) -> Result<Box<dyn Thread>> {
        Err(Error::usage(
            format!("there are no threads in simulation to run \"{name}\""),
            "Run background work from the caller, a step at a time.",
        ))
    }
}
