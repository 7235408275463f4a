//! Files by positioned system calls: one call and no allocation per read or write.
//!
//! Invariants:
//! 1. `direct` only ever goes from true to false, when the kernel answers EINVAL to an aligned request.
//! 2. A sync is issued once; its failure is reported and not retried.

use std::any::Any;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Findings;
use crate::base::limits::IO_ALIGN;
use crate::env::{File, OpenMode, check_aligned, sys};
use crate::error::{Error, Result};

/// Database files are their owner's alone.
const FILE_PERMISSIONS: u32 = 0o600;

/// An open file of the pool and io_uring worlds.
pub(in crate::env) struct PoolFile {
    file: std::fs::File,
    path: PathBuf,
    direct: AtomicBool,
    findings: Arc<Findings>,
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(mode.write).create_new(mode.create_new).mode(FILE_PERMISSIONS);
    options
}

/// Opens with the page cache bypassed. `None` when the file system refuses; the file may then have been created.
#[cfg(target_os = "linux")]
fn open_direct(path: &Path, mode: OpenMode) -> io::Result<Option<std::fs::File>> {
    match options(mode).custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_invalid(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens with the page cache bypassed. `None` when the file system refuses; the file may then have been created.
#[cfg(not(target_os = "linux"))]
fn open_direct(path: &Path, mode: OpenMode) -> io::Result<Option<std::fs::File>> {
    let file = options(mode).open(path)?;
    Ok(sys::no_cache(&file, true).is_ok().then_some(file))
}

/// Opens buffered after [`open_direct`] was refused. The refusal comes after the creation, so a file that was to be
/// created is either there already, and ours, or still missing.
fn open_after_refusal(path: &Path, mode: OpenMode) -> io::Result<std::fs::File> {
    match options(OpenMode { create_new: false, ..mode }).open(path) {
        Err(error) if mode.create_new && error.kind() == ErrorKind::NotFound => options(mode).open(path),
        outcome => outcome,
    }
}

impl PoolFile {
    pub(super) fn open(path: &Path, mode: OpenMode, findings: &Arc<Findings>) -> Result<Self> {
        let attempt = if mode.create_new { "create" } else { "open" };
        let opened = if mode.direct {
            open_direct(path, mode).and_then(|file| match file {
                Some(file) => Ok((file, true)),
                None => {
                    findings.refuse_direct(path);
                    open_after_refusal(path, mode).map(|file| (file, false))
                }
            })
        } else {
            options(mode).open(path).map(|file| (file, false))
        };
        let (file, direct) = opened.map_err(|error| Error::io(path, attempt, error))?;
        if mode.random && !direct {
            sys::no_read_ahead(&file);
        }
        Ok(Self { file, path: path.to_owned(), direct: AtomicBool::new(direct), findings: Arc::clone(findings) })
    }

    /// Opens a file for mapping, creating it when it is missing.
    pub(super) fn open_or_create(path: &Path, findings: &Arc<Findings>) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_PERMISSIONS);
        let file = options.open(path).map_err(|error| Error::io(path, "open", error))?;
        Ok(Self { file, path: path.to_owned(), direct: AtomicBool::new(false), findings: Arc::clone(findings) })
    }

    /// The file as the kernel knows it.
    pub(in crate::env) fn inner(&self) -> &std::fs::File {
        &self.file
    }

    /// After EINVAL for an aligned request: goes through the page cache from now on. Whether the request may be retried.
    pub(in crate::env) fn give_up_direct(&self, error: &io::Error) -> bool {
        if !is_invalid(error) || !self.direct.load(Ordering::Relaxed) || sys::make_buffered(&self.file).is_err() {
            return false;
        }
        self.direct.store(false, Ordering::Relaxed);
        self.findings.refuse_direct(&self.path);
        true
    }

    /// Makes sure that writing through a map of the first `len` bytes cannot find the disk full, which would kill the
    /// process: where space cannot be reserved, zeros are written behind the old end.
    pub(super) fn allocate_for_map(&self, len: u64) -> Result<()> {
        let old = self.len()?;
        if self.reserve(len)? {
            return Ok(());
        }
        let zeros = [0; 16 << 10];
        let mut at = old;
        while at < len {
            let part = zeros.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
            self.write_at(&zeros[..part], at)?;
            at += part as u64;
        }
        Ok(())
    }

    fn reserve(&self, len: u64) -> Result<bool> {
        sys::allocate(&self.file, len).map_err(|error| Error::io_at(&self.path, len, "allocate", error))
    }

    /// Writes all of `buf` by repeated calls of `write_some`.
    fn write_all(
        &self,
        buf: &[u8],
        offset: u64,
        write_some: impl Fn(&[u8], u64) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match write_some(&buf[done..], offset + done as u64) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted || self.give_up_direct(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `pwritev2` with `RWF_DSYNC`. `false`: the kernel or the file system lacks it, and anything may have been written.
    #[cfg(target_os = "linux")]
    fn write_dsync(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        if self.findings.dsync_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match self.write_all(buf, offset, |part, at| sys::write_dsync(&self.file, part, at)) {
            Ok(()) => Ok(true),
            Err(error) if sys::is_unsupported(&error) => {
                self.findings.dsync_refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// There is no such call on this platform.
    #[cfg(not(target_os = "linux"))]
    fn write_dsync(&self, _buf: &[u8], _offset: u64) -> io::Result<bool> {
        self.findings.dsync_refused.store(true, Ordering::Relaxed);
        Ok(false)
    }

    fn failed(&self, attempt: &'static str, offset: u64, error: io::Error) -> Error {
        Error::io_at(&self.path, offset, attempt, error)
    }
}

impl File for PoolFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|data| data.len()).map_err(|error| Error::io(&self.path, "get the length of", error))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        check_aligned(self, buf, offset, "read")?;
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted || self.give_up_direct(&error) => continue,
                Err(error) => return Err(self.failed("read", offset + done as u64, error)),
            }
            // Only the end of the file ends a direct read off the grid, and going on from there would be refused.
            if !done.is_multiple_of(IO_ALIGN) && self.is_direct() {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_aligned(self, buf, offset, "write")?;
        self.write_all(buf, offset, |part, at| self.file.write_at(part, at))
            .map_err(|error| self.failed("write", offset, error))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io(&self.path, "sync", error))
    }

    fn write_sync_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_aligned(self, buf, offset, "write")?;
        if self.write_dsync(buf, offset).map_err(|error| self.failed("write", offset, error))? {
            return Ok(());
        }
        self.write_at(buf, offset)?;
        self.sync()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| self.failed("set the length of", len, error))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        if self.reserve(len)? || self.len()? >= len {
            return Ok(());
        }
        self.set_len(len)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
