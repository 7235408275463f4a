//! A memory cgroup for a child process, so that the page cache counts as memory for every store.
//!
//! Version 1 of the memory controller, below the cgroup that this process is in, where that is writable. Version 2 does not
//! let a process that shares its cgroup with others make limits below it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// Where the version 1 memory controller is mounted.
const MOUNT: &str = "/sys/fs/cgroup/memory";

/// A cgroup with a limit; removed when dropped.
#[derive(Debug)]
pub struct MemoryCgroup {
    path: PathBuf,
}

impl MemoryCgroup {
    /// A new cgroup of this process for `name`, of at most `bytes`, page cache included.
    ///
    /// # Errors
    /// When there is no controller of version 1, or it is not writable.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let cgroups = fs::read_to_string("/proc/self/cgroup")?;
        let own = own_path(&cgroups).ok_or("no memory controller of version 1")?;
        let path = Path::new(MOUNT).join(own).join(format!("ssd-bench-{name}-{}", std::process::id()));
        if !path.is_dir() {
            fs::create_dir(&path)?;
        }
        let cgroup = Self { path };
        fs::write(cgroup.path.join("memory.limit_in_bytes"), bytes.to_string())?;
        Ok(cgroup)
    }

    /// Runs `work` with this process in the cgroup, so that what it starts stays there.
    ///
    /// # Errors
    /// When the process cannot move; the error of `work`.
    pub fn within<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        enter(&self.path)?;
        let out = work();
        enter(self.path.parent().unwrap_or(Path::new(MOUNT)))?;
        out
    }

    /// Its directory, for [`enter`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Page cache that is charged to it would live on in its parent.
        let _ = fs::write(self.path.join("memory.force_empty"), "0");
        let _ = fs::remove_dir(&self.path);
    }
}

/// Moves this process into a cgroup.
///
/// # Errors
/// When it is not writable.
pub fn enter(path: &Path) -> Result<()> {
    Ok(fs::write(path.join("cgroup.procs"), std::process::id().to_string())?)
}

/// The path of the memory cgroup in a /proc/self/cgroup text, below the mount.
fn own_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|c| c == "memory").then(|| path.trim_start_matches('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_memory_controller() {
        assert_eq!(own_path("5:devices:/\n4:memory:/a/b\n0::/\n"), Some("a/b"));
        assert_eq!(own_path("3:cpu,memory:/\n"), Some(""));
        assert_eq!(own_path("0::/user.slice\n"), None);
    }
}
