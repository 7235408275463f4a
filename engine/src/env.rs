//! Layer 1: the world as a trait. Only code under `env/` touches the kernel, the clock, randomness or threads.
//!
//! Three worlds: `uring` (Linux, io_uring with O_DIRECT), `pool` (pread/pwrite threads, everywhere) and `memory`
//! (simulation: crashes, torn writes, faults). They pass the same tests.
//!
//! What every world promises:
//! 1. A write is on stable storage only after `File::sync` (of the file) returned `Ok`. A file's *name* (create, rename,
//!    link, remove) is stable only after `Env::sync_dir` of its directory returned `Ok`.
//! 2. A failed sync means that nothing written since the last good sync may be relied on. It is never retried.
//! 3. Reads and writes of a direct file need offset, length and memory aligned to `IO_ALIGN`; a file opened with
//!    `direct` that the file system refuses direct I/O for is opened buffered and says so through `File::is_direct`.

pub mod counted;
pub mod fault;
mod map;
pub mod memory;
mod order;
pub mod pool;
mod random;
mod sys;
#[cfg(target_os = "linux")]
pub mod uring;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::base::limits::IO_ALIGN;
use crate::error::{Error, Result};
use crate::mem::aligned::AlignedBuf;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OpenMode {
    /// Writing is allowed. Otherwise the file is read-only and must exist.
    pub write: bool,
    /// The file is created and must not exist yet.
    pub create_new: bool,
    /// Bypass the page cache where the file system allows it.
    pub direct: bool,
    /// The page cache should hold what is read and no more: whoever reads in order reads ahead by himself.
    pub random: bool,
}

impl OpenMode {
    /// Read an existing file through the page cache.
    pub const READ: Self = Self { write: false, create_new: false, direct: false, random: false };
    /// Read an existing file, bypassing the page cache.
    pub const READ_DIRECT: Self = Self { write: false, create_new: false, direct: true, random: false };
    /// Read and write an existing file through the page cache.
    pub const WRITE: Self = Self { write: true, create_new: false, direct: false, random: false };
    /// Create a file, read and write it through the page cache.
    pub const CREATE: Self = Self { write: true, create_new: true, direct: false, random: false };
    /// Create a file, read and write it bypassing the page cache.
    pub const CREATE_DIRECT: Self = Self { write: true, create_new: true, direct: true, random: false };
}

/// An open file. All methods may be called from any thread at once.
pub trait File: Send + Sync + 'static {
    /// The name it was opened under; for messages.
    fn path(&self) -> &Path;

    /// Whether reads and writes bypass the page cache (and so must be aligned).
    fn is_direct(&self) -> bool;

    /// Length in bytes.
    ///
    /// # Errors
    /// I/O.
    fn len(&self) -> Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// I/O.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads from `offset` until `buf` is full or the file ends; returns the count of bytes read.
    ///
    /// # Errors
    /// I/O.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes all of `buf` at `offset`, extending the file when needed.
    ///
    /// # Errors
    /// I/O; any prefix may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Makes everything written so far, and the length, stable.
    ///
    /// # Errors
    /// I/O: nothing written since the last good sync may be relied on.
    fn sync(&self) -> Result<()>;

    /// Writes all of `buf` at `offset` and makes that range stable, in one device operation where the device can.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at) and [`sync`](Self::sync).
    fn write_sync_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.write_at(buf, offset)?;
        self.sync()
    }

    /// Cuts or extends (with zeros) to `len` bytes.
    ///
    /// # Errors
    /// I/O.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Reserves space for the first `len` bytes, so that writing there cannot fail for lack of space. Where the file
    /// system cannot, this only extends the file.
    ///
    /// # Errors
    /// I/O, in particular a full disk.
    fn allocate(&self, len: u64) -> Result<()>;

    /// For backends that need to know their own files again.
    fn as_any(&self) -> &dyn Any;
}

/// One operation for an [`IoQueue`]. Buffers travel with the operation and come back with its completion.
pub enum IoOp {
    /// Fill `buf` (its whole length) from `offset`.
    Read {
        /// The file.
        file: Arc<dyn File>,
        /// Byte offset.
        offset: u64,
        /// Destination.
        buf: AlignedBuf,
    },
    /// Write `buf` (its whole length) at `offset`.
    Write {
        /// The file.
        file: Arc<dyn File>,
        /// Byte offset.
        offset: u64,
        /// Source.
        buf: AlignedBuf,
    },
    /// Make everything pushed before on this queue for `file`, and everything written before, stable.
    Sync {
        /// The file.
        file: Arc<dyn File>,
    },
}

/// The end of one [`IoOp`].
pub struct IoDone {
    /// The tag it was pushed with.
    pub tag: u64,
    /// Bytes read or written (0 for a sync). A read may be short only at the end of the file.
    pub result: Result<usize>,
    /// The operation's buffer; its length is as pushed. `None` for a sync.
    pub buf: Option<AlignedBuf>,
}

/// A queue of asynchronous operations owned by one thread at a time. Dropping it waits for what is in flight.
pub trait IoQueue: Send {
    /// Adds an operation; it may start at once, and starts at the latest with the next [`wait`](Self::wait): `wait(0, …)`
    /// starts it without waiting for anything. Waits for a completion first when the queue is at its depth.
    ///
    /// # Errors
    /// Only when the queue itself is broken; an operation's own failure arrives as its [`IoDone`].
    fn push(&mut self, tag: u64, op: IoOp) -> Result<()>;

    /// Starts everything pushed, waits until at least `min` operations (or all, when fewer are in flight) are done, and
    /// appends all that are done to `out`, in any order.
    ///
    /// # Errors
    /// Only when the queue itself is broken.
    fn wait(&mut self, min: usize, out: &mut Vec<IoDone>) -> Result<()>;

    /// Operations pushed whose completion has not been handed out.
    fn in_flight(&self) -> usize;
}

/// A file mapped into memory and shared by every process that maps it. Survives the death of processes, not of the
/// machine. Accessed word-wise with atomics, so racing access is merely unordered, never undefined.
#[derive(Clone)]
pub struct SharedMap {
    words: &'static [AtomicU64],
    /// Unmaps (or frees) when the last clone goes; `words` must not be used after that, hence private.
    _owner: Arc<dyn Any + Send + Sync>,
}

impl SharedMap {
    /// A map over `words`, which must stay valid until `owner` is dropped. For backends.
    #[must_use]
    pub(in crate::env) fn new(words: &'static [AtomicU64], owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self { words, _owner: owner }
    }

    /// The mapped bytes as words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.words
    }
}

/// Held while a directory is in use; released on drop (and by the kernel when the process dies).
pub trait DirLock: Send + Sync {}

/// A running background thread; `join` waits for its end.
pub trait Thread: Send {
    /// Waits until the thread has ended.
    fn join(self: Box<Self>);
}

/// The world. One value per engine, shared by all its threads.
pub trait Env: Send + Sync + 'static {
    /// A short name for log lines: "io_uring", "pool", "memory".
    fn name(&self) -> &'static str;

    /// Opens a file.
    ///
    /// # Errors
    /// I/O; the source's kind tells `NotFound` and `AlreadyExists`.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>>;

    /// Renames a file, replacing the target, atomically.
    ///
    /// # Errors
    /// I/O.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Gives a file a second name (a hard link); copies where links are refused.
    ///
    /// # Errors
    /// I/O.
    fn link(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file. Its space is freed when the last open handle goes.
    ///
    /// # Errors
    /// I/O.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Names of the files in a directory, in any order.
    ///
    /// # Errors
    /// I/O.
    fn list(&self, dir: &Path) -> Result<Vec<String>>;

    /// Creates a directory and its missing parents, each stable on return; fine when it exists.
    ///
    /// # Errors
    /// I/O.
    fn create_dir(&self, dir: &Path) -> Result<()>;

    /// Makes the names in a directory stable.
    ///
    /// # Errors
    /// I/O.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// Takes the exclusive lock file `path`, creating it when missing.
    ///
    /// # Errors
    /// Usage when another process (or another engine of this one) holds it; I/O.
    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>>;

    /// Who holds the lock file `path`, as a message says it; `None` when nobody does. Changes nothing. Where the kernel has
    /// to be asked, whoever takes the lock at this very moment may be refused.
    ///
    /// # Errors
    /// I/O.
    fn lock_holder(&self, path: &Path) -> Result<Option<String>>;

    /// Bytes that may still be written in the file system of `dir`.
    ///
    /// # Errors
    /// I/O.
    fn free_space(&self, dir: &Path) -> Result<u64>;

    /// Maps `len` bytes (a multiple of the page size) of the file at `path`, which is created, or extended with zeros and
    /// its space allocated, as needed.
    ///
    /// # Errors
    /// I/O.
    fn map_shared(&self, path: &Path, len: usize) -> Result<SharedMap>;

    /// A queue for up to `depth` operations in flight.
    ///
    /// # Errors
    /// I/O, when the kernel refuses the resources.
    fn queue(&self, depth: usize) -> Result<Box<dyn IoQueue>>;

    /// Time since some fixed instant; never goes back.
    fn now(&self) -> Duration;

    /// Seconds since 1970, for stamps that people read.
    fn unix_time(&self) -> u64;

    /// Sixty-four random bits.
    fn random(&self) -> u64;

    /// Waits for `time`. In simulation the clock advances instead.
    fn sleep(&self, time: Duration);

    /// Starts a background thread.
    ///
    /// # Errors
    /// I/O when the system refuses; usage where threads do not exist (simulation).
    fn spawn(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> Result<Box<dyn Thread>>;
}

/// `path` with a file name appended; a shorthand used throughout.
#[must_use]
pub fn join(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

/// Threads that serve the queues of the pool world. They wait for the disk, so their count follows the depth at which
/// an SSD reaches most of its speed, not the count of cores.
const POOL_THREADS: usize = 16;

/// The best world of this machine: io_uring where the kernel allows it, otherwise threads. Says which in a log line.
#[cfg(target_os = "linux")]
#[must_use]
pub fn default_env() -> Arc<dyn Env> {
    match uring::UringEnv::new() {
        Ok(env) => {
            tracing::info!("asynchronous I/O through io_uring");
            env
        }
        Err(error) => {
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::info!(why, threads = POOL_THREADS, "asynchronous I/O through threads: no io_uring");
            pool::PoolEnv::new(POOL_THREADS)
        }
    }
}

/// The best world of this machine: threads, for want of io_uring. Says so in a log line.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn default_env() -> Arc<dyn Env> {
    tracing::info!(threads = POOL_THREADS, "asynchronous I/O through threads");
    pool::PoolEnv::new(POOL_THREADS)
}

/// Pauses the calling thread between two looks at a word that another thread or process will change. For platforms
/// whose kernel cannot wait on a word.
pub fn poll_pause(time: Duration) {
    std::thread::sleep(time);
}

/// Refuses a misaligned request to a direct file, the same way in every world.
#[inline]
fn check_aligned(file: &dyn File, buf: &[u8], offset: u64, attempt: &'static str) -> Result<()> {
    let aligned = (buf.as_ptr().addr() | buf.len()).is_multiple_of(IO_ALIGN) && offset.is_multiple_of(IO_ALIGN as u64);
    if !aligned && file.is_direct() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "misaligned for direct I/O");
        return Err(Error::io_at(file.path(), offset, attempt, source));
    }
    Ok(())
}

/// Refuses a length that is not whole pages.
fn check_map_len(len: usize) -> Result<()> {
    if len == 0 || !len.is_multiple_of(IO_ALIGN) {
        return Err(Error::usage(
            format!("cannot map {len} bytes"),
            format!("Ask for a positive multiple of {IO_ALIGN} bytes."),
        ));
    }
    Ok(())
}

/// What a queue answers in a forked child when its parent left operations in it.
fn inherited_queue() -> Error {
    Error::usage("the queue was inherited over a fork with operations in flight", "Make a queue after forking.")
}

/// What somebody is told who wants a lock that is held.
fn lock_held(path: &Path, by: &str) -> Error {
    Error::usage(
        format!("lock file \"{}\" is held by {by}", path.display()),
        "Close the other engine first; one directory serves one engine at a time.",
    )
}
