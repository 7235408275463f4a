//! The simulated disk: names, files, locks and space, and what of them a crash leaves.
//!
//! Invariants:
//! 1. A directory's `names` are what processes see; `stable` is what a power failure leaves for sure. The entries of
//!    `changes`, in order, lead from the one to the other.
//! 2. One rename is one change: both of its entries survive a power failure, or neither does, until one of its
//!    directories is synced.
//! 3. An inode is kept while a handle, a name, a stable name or a change refers to it; it takes space while a handle or a
//!    name does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::Crash;
use super::inode::Inode;
use crate::env::random::Random;
use crate::env::{OpenMode, SharedMap};

/// Free space that an unlimited disk reports.
const UNLIMITED: u64 = 1 << 40;

/// Survival in percent that a power failure draws from: all, none and everything between find different mistakes.
const SURVIVAL: [u64; 5] = [0, 25, 50, 75, 100];

/// Names an inode.
pub(super) type InodeId = u64;

#[derive(Default)]
struct Dir {
    names: BTreeMap<String, InodeId>,
    stable: BTreeMap<String, InodeId>,
}

/// An entry of a directory before it is stable: `None` removes it.
struct Entry {
    dir: PathBuf,
    name: String,
    inode: Option<InodeId>,
}

/// The disk.
pub(super) struct Disk {
    dirs: BTreeMap<PathBuf, Dir>,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    changes: Vec<Vec<Entry>>,
    locks: BTreeSet<PathBuf>,
    /// Counts crashes: handles and locks of an earlier epoch are void.
    pub(super) epoch: u64,
    pub(super) capacity: Option<u64>,
    pub(super) random: Random,
}

/// The path without `.` and doubled separators.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// Directory and name of a file.
fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let path = normal(path);
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
    Ok((path.parent().map(Path::to_owned).unwrap_or_default(), name.to_owned()))
}

impl Disk {
    pub(super) fn new(random: Random) -> Self {
        let dirs = ["", "/"].map(|dir| (PathBuf::from(dir), Dir::default()));
        Self {
            dirs: dirs.into(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            changes: Vec::new(),
            locks: BTreeSet::new(),
            epoch: 0,
            capacity: None,
            random,
        }
    }

    fn dir(&self, dir: &Path) -> io::Result<&Dir> {
        self.dirs.get(dir).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn lookup(&self, path: &Path) -> io::Result<Option<InodeId>> {
        if self.dirs.contains_key(&normal(path)) {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (dir, name) = split(path)?;
        Ok(self.dir(&dir)?.names.get(&name).copied())
    }

    fn existing(&self, path: &Path) -> io::Result<InodeId> {
        self.lookup(path)?.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The inode, which a live handle or name keeps.
    pub(super) fn inode(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("invariant 3: a handle or name keeps the inode")
    }

    /// Points a name elsewhere (or removes it), as part of a change that the caller records.
    fn set_name(&mut self, path: &Path, inode: Option<InodeId>) -> io::Result<Entry> {
        let (dir, name) = split(path)?;
        let names = &mut self.dirs.get_mut(&dir).ok_or(ErrorKind::NotFound)?.names;
        let old = match inode {
            Some(id) => names.insert(name.clone(), id),
            None => names.remove(&name),
        };
        if let Some(id) = inode {
            self.inode(id).names += 1;
        }
        if let Some(id) = old {
            self.inode(id).names -= 1;
        }
        Ok(Entry { dir, name, inode })
    }

    fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        let id = self.next_inode;
        self.inodes.insert(id, Inode::default());
        let entry = self.set_name(path, Some(id))?;
        self.next_inode += 1;
        self.changes.push(vec![entry]);
        Ok(id)
    }

    /// The inode of a file, with one more handle.
    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<InodeId> {
        let id = match self.lookup(path)? {
            Some(_) if mode.create_new => return Err(ErrorKind::AlreadyExists.into()),
            Some(id) => id,
            None if mode.create_new => self.create(path)?,
            None => return Err(ErrorKind::NotFound.into()),
        };
        self.inode(id).handles += 1;
        Ok(id)
    }

    pub(super) fn close(&mut self, id: InodeId) {
        self.inode(id).handles -= 1;
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.existing(from)?;
        if self.lookup(to)? == Some(id) {
            return Ok(());
        }
        let entries = vec![self.set_name(to, Some(id))?, self.set_name(from, None)?];
        self.changes.push(entries);
        Ok(())
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.existing(from)?;
        if self.lookup(to)?.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let entry = self.set_name(to, Some(id))?;
        self.changes.push(vec![entry]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.existing(path)?;
        let entry = self.set_name(path, None)?;
        self.changes.push(vec![entry]);
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.dir(&normal(dir))?.names.keys().cloned().collect())
    }

    /// Creates a directory and its missing parents, stable at once.
    pub(super) fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        let dir = normal(dir);
        for dir in dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
            if !self.dirs.contains_key(dir) && self.lookup(dir).is_ok_and(|file| file.is_some()) {
                return Err(ErrorKind::AlreadyExists.into());
            }
        }
        for dir in dir.ancestors() {
            self.dirs.entry(dir.to_owned()).or_default();
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let dir = normal(dir);
        let names = self.dirs.get_mut(&dir).ok_or(ErrorKind::NotFound)?;
        names.stable = names.names.clone();
        for change in &mut self.changes {
            change.retain(|entry| entry.dir != dir);
        }
        self.changes.retain(|change| !change.is_empty());
        self.collect();
        Ok(())
    }

    /// Drops the inodes that nothing refers to.
    fn collect(&mut self) {
        let in_dirs = self.dirs.values().flat_map(|dir| dir.stable.values().copied());
        let in_changes = self.changes.iter().flatten().filter_map(|entry| entry.inode);
        let kept: BTreeSet<InodeId> = in_dirs.chain(in_changes).collect();
        self.inodes.retain(|id, inode| inode.handles > 0 || inode.names > 0 || kept.contains(id));
    }

    /// Bytes taken by files that have a name or a handle.
    fn used(&self) -> u64 {
        self.inodes.values().filter(|inode| inode.handles > 0 || inode.names > 0).map(Inode::space).sum()
    }

    pub(super) fn free_space(&self) -> u64 {
        self.capacity.unwrap_or(UNLIMITED).saturating_sub(self.used())
    }

    /// Refuses to take `more` bytes when the disk does not have them.
    fn claim(&self, more: u64) -> io::Result<()> {
        if more > 0 && self.capacity.is_some() && self.free_space() < more {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }

    pub(super) fn write(&mut self, id: InodeId, buf: &[u8], offset: u64) -> io::Result<()> {
        let more = self.inode(id).space_to_write(offset, buf.len());
        self.claim(more)?;
        self.inode(id).write(buf, offset);
        Ok(())
    }

    pub(super) fn allocate(&mut self, id: InodeId, len: u64) -> io::Result<()> {
        let more = self.inode(id).space_to_write(0, super::image::to_index(len));
        self.claim(more)?;
        self.inode(id).allocate(len);
        Ok(())
    }

    /// A sync of the file failed.
    pub(super) fn lose_unsynced(&mut self, id: InodeId) {
        let inode = self.inodes.get_mut(&id).expect("invariant 3: a handle keeps the inode");
        inode.lose_unsynced(&mut self.random);
    }

    /// Maps the first `len` bytes of a file, created or extended as needed.
    pub(super) fn map(&mut self, path: &Path, len: usize) -> io::Result<SharedMap> {
        let id = match self.lookup(path)? {
            Some(id) => id,
            None => self.create(path)?,
        };
        self.allocate(id, len as u64)?;
        let refused = || io::Error::new(ErrorKind::Unsupported, "the simulation cannot grow a map that is in use");
        self.inode(id).map(len).ok_or_else(refused)
    }

    /// Takes the lock file, creating it when missing. `false`: it is held.
    pub(super) fn lock(&mut self, path: &Path) -> io::Result<bool> {
        if self.lookup(path)?.is_none() {
            self.create(path)?;
        }
        Ok(self.locks.insert(normal(path)))
    }

    pub(super) fn is_locked(&self, path: &Path) -> bool {
        self.locks.contains(&normal(path))
    }

    pub(super) fn unlock(&mut self, path: &Path) {
        self.locks.remove(&normal(path));
    }

    /// Ends all processes, or the power with them.
    pub(super) fn crash(&mut self, how: Crash) {
        self.epoch += 1;
        self.locks.clear();
        match how {
            Crash::Process => self.inodes.values_mut().for_each(Inode::lose_processes),
            Crash::Power => self.lose_power(),
        }
        self.collect();
    }

    fn lose_power(&mut self) {
        let draw = self.random.below(SURVIVAL.len() as u64);
        let percent = SURVIVAL[usize::try_from(draw).expect("an index")];
        for inode in self.inodes.values_mut() {
            inode.lose_power(&mut self.random, percent);
            inode.names = 0;
        }
        for change in self.changes.drain(..) {
            if !self.random.percent(percent) {
                continue;
            }
            for Entry { dir, name, inode } in change {
                let stable = &mut self.dirs.get_mut(&dir).expect("directories are never removed").stable;
                match inode {
                    Some(id) => stable.insert(name, id),
                    None => stable.remove(&name),
                };
            }
        }
        for dir in self.dirs.values_mut() {
            dir.names = dir.stable.clone();
            for id in dir.names.values() {
                self.inodes.get_mut(id).expect("invariant 3").names += 1;
            }
        }
    }

    /// The inode of an existing file, for the tests' own doings.
    pub(super) fn find(&mut self, path: &Path) -> Option<&mut Inode> {
        let id = self.lookup(path).ok()??;
        Some(self.inode(id))
    }

    /// Replaces or creates a file, stable at once.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (dir, name) = split(path)?;
        self.create_dir(&dir)?;
        let id = match self.lookup(path)? {
            Some(id) => id,
            None => self.create(path)?,
        };
        self.inode(id).replace(bytes);
        for change in &mut self.changes {
            change.retain(|entry| entry.dir != dir || entry.name != name);
        }
        self.changes.retain(|change| !change.is_empty());
        self.dirs.get_mut(&dir).expect("created above").stable.insert(name, id);
        Ok(())
    }

    /// Paths of all files.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.dirs.iter().flat_map(|(dir, names)| names.names.keys().map(|name| dir.join(name))).collect()
    }
}
