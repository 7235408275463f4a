//! Names, directories and the lock of one, through std.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::env::{DirLock, lock_held, sys};
use crate::error::{Error, Result};

/// Whether `error` means that this file system does not make links, at all or between these two places.
fn refuses_links(error: &io::Error) -> bool {
    sys::is_unsupported(error)
        || matches!(error.raw_os_error(), Some(libc::EPERM | libc::EXDEV | libc::EMLINK | libc::ENOTSUP))
}

/// A hard link, or a stable copy where links are refused.
pub(super) fn link(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if refuses_links(&error) => copy(from, to).map_err(|error| Error::io(to, "copy to", error)),
        outcome => outcome.map_err(|error| Error::io(to, "link", error)),
    }
}

/// A link to a synced file needs no sync of its own, so neither may the copy that stands in for it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let outcome = io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    if outcome.is_err() {
        // The failure of the copy is what the caller has to know; a left-over is an orphan that the next open deletes.
        drop(fs::remove_file(to));
    }
    outcome
}

/// Names of what is not a directory. Names that are not UTF-8 are none of ours.
pub(super) fn list(dir: &Path) -> Result<Vec<String>> {
    let names = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                continue;
            }
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    };
    names().map_err(|error| Error::io(dir, "list", error))
}

/// Creates missing directories from the top down and makes each name stable.
pub(super) fn create_dir(dir: &Path) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()).collect();
    for dir in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => sync_dir(parent(dir))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(Error::io(dir, "create directory", error)),
        }
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in `dir` stable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::io(dir, "sync directory", error))
}

/// Lock files that this process holds, by canonical path. The kernel's lock alone would do on local file systems, but
/// network file systems turn it into one that belongs to the whole process.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A held lock file.
struct FileLock {
    file: fs::File,
    path: PathBuf,
    process: u32,
}

impl DirLock for FileLock {}

impl Drop for FileLock {
    fn drop(&mut self) {
        // A child made by fork shares the kernel's lock with us: it must not undo it for its parent.
        if self.process != std::process::id() {
            return;
        }
        // Closing the file does the same; this is for children that inherited the descriptor and keep it open.
        drop(self.file.unlock());
        HELD.lock().remove(&self.path);
    }
}

/// Another engine of this process, as messages call it.
const OURSELVES: &str = "another engine of this process";

/// What the holder wrote into its lock file.
fn name_of_holder(file: &mut fs::File) -> String {
    let mut holder = String::new();
    let named = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
    if named { format!("process {}", holder.trim()) } else { "another process".to_owned() }
}

/// Who holds the lock file; asks with a shared lock that is given back at once.
pub(super) fn lock_holder(path: &Path) -> Result<Option<String>> {
    let failed = |error| Error::io(path, "look at the lock", error);
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let canonical = path.canonicalize().map_err(failed)?;
    if HELD.lock().contains(&canonical) {
        return Ok(Some(OURSELVES.to_owned()));
    }
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| None).map_err(failed),
        Err(TryLockError::WouldBlock) => Ok(Some(name_of_holder(&mut file))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Takes the lock file and writes our process id into it, for people who wonder who holds it.
pub(super) fn lock(path: &Path) -> Result<Box<dyn DirLock>> {
    let failed = |error| Error::io(path, "lock", error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    let canonical = path.canonicalize().map_err(failed)?;
    if !HELD.lock().insert(canonical.clone()) {
        return Err(lock_held(path, OURSELVES));
    }
    let outcome = file.try_lock();
    if outcome.is_err() {
        HELD.lock().remove(&canonical);
    }
    match outcome {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(lock_held(path, &name_of_holder(&mut file)));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let process = std::process::id();
    let lock = FileLock { file, path: canonical, process };
    lock.file.set_len(0).and_then(|()| writeln!(&lock.file, "{process}")).map_err(failed)?;
    Ok(Box::new(lock))
}
