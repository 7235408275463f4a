//! A handle on a simulated file, void after a crash.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::World;
use super::disk::InodeId;
use crate::env::fault::{FaultKind, Op, error_of};
use crate::env::{File, OpenMode, check_aligned};
use crate::error::{Error, Result};

/// An open file of the memory world.
pub(super) struct MemoryFile {
    pub(super) world: Arc<World>,
    pub(super) path: PathBuf,
    pub(super) mode: OpenMode,
    pub(super) inode: InodeId,
    pub(super) epoch: u64,
}

impl MemoryFile {
    fn check_writable(&self, attempt: &'static str) -> Result<()> {
        if self.mode.write {
            return Ok(());
        }
        Err(Error::io(&self.path, attempt, std::io::Error::from_raw_os_error(libc::EBADF)))
    }

    fn run<T>(
        &self,
        op: Op,
        offset: Option<u64>,
        body: impl FnOnce(&mut super::disk::Disk, Option<FaultKind>) -> std::io::Result<T>,
    ) -> Result<T> {
        self.world.run(Some(self.epoch), op, &self.path, offset, body)
    }

    /// Syncs the range, or everything.
    fn sync_part(&self, range: Option<(u64, usize)>) -> Result<()> {
        self.run(Op::Sync, range.map(|(offset, _)| offset), |disk, fault| {
            if fault.is_some() {
                disk.lose_unsynced(self.inode);
                return Err(error_of(FaultKind::SyncLost));
            }
            match range {
                Some((offset, len)) => disk.inode(self.inode).sync_range(offset, len),
                None => disk.inode(self.inode).sync(),
            }
            Ok(())
        })
    }
}

impl File for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_direct(&self) -> bool {
        self.mode.direct
    }

    fn len(&self) -> Result<u64> {
        let mut disk = self.world.live_disk(Some(self.epoch), &self.path, "get the length of")?;
        Ok(disk.inode(self.inode).len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        check_aligned(self, buf, offset, "read")?;
        self.run(Op::Read, Some(offset), |disk, _| Ok(disk.inode(self.inode).read(buf, offset)))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check_writable("write")?;
        check_aligned(self, buf, offset, "write")?;
        self.run(Op::Write, Some(offset), |disk, fault| {
            if fault.is_some() {
                disk.write(self.inode, &buf[..buf.len() / 2], offset)?;
                return Err(error_of(FaultKind::ShortWrite));
            }
            disk.write(self.inode, buf, offset)
        })
    }

    fn sync(&self) -> Result<()> {
        self.sync_part(None)
    }

    fn write_sync_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.write_at(buf, offset)?;
        self.sync_part(Some((offset, buf.len())))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.check_writable("set the length of")?;
        self.run(Op::SetLen, Some(len), |disk, _| {
            disk.inode(self.inode).set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.check_writable("allocate")?;
        self.run(Op::Allocate, Some(len), |disk, _| disk.allocate(self.inode, len))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut disk = self.world.disk.lock();
        if disk.epoch == self.epoch {
            disk.close(self.inode);
        }
    }
}
