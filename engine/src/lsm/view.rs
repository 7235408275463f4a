//! What one process sees of the SSTs: the newest version it knows, with its files opened on first use.
//!
//! A [`View`] is immutable. [`Views`] swaps the current one and keeps file entries (with their open readers) alive across
//! views, so that a file is opened once per process.

use std::collections::HashMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};

use crate::base::ids::{FileNumber, Level};
use crate::base::limits::LEVEL_COUNT;
use crate::env::Env;
use crate::error::Result;
use crate::format::version_edit::FileMeta;
use crate::lsm::queues::Queues;
use crate::lsm::version::Version;
use crate::sst::reader::SstReader;

/// An SST of a view.
pub struct FileEntry {
    /// What the manifest says of it.
    pub meta: Arc<FileMeta>,
    reader: OnceLock<Arc<SstReader>>,
}

/// Opens SSTs of one directory.
pub struct Opener {
    /// The world.
    pub env: Arc<dyn Env>,
    /// The engine's directory.
    pub dir: PathBuf,
    /// Bypass the page cache.
    pub direct: bool,
    /// For reads of several files at once.
    pub queues: Queues,
}

impl Opener {
    /// Path of the SST `number`.
    #[must_use]
    pub fn path(&self, number: FileNumber) -> PathBuf {
        self.dir.join(sst_name(number))
    }
}

/// File name of the SST `number`.
#[must_use]
pub fn sst_name(number: FileNumber) -> String {
    format!("{number}.sst")
}

/// The number of the SST called `name`; `None` for any other file.
#[must_use]
pub fn parse_sst_name(name: &str) -> Option<FileNumber> {
    let number = FileNumber(name.strip_suffix(".sst")?.parse().ok()?);
    (sst_name(number) == name).then_some(number)
}

impl FileEntry {
    /// The open file.
    ///
    /// # Errors
    /// I/O or corruption when it is opened for the first time and its footer cannot be read.
    pub fn reader(&self, opener: &Opener) -> Result<&Arc<SstReader>> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let path = opener.path(self.meta.number);
        let reader = Arc::new(SstReader::open(&opener.env, &path, self.meta.number, opener.direct)?);
        Ok(self.reader.get_or_init(|| reader))
    }
}

/// A version and its files.
pub struct View {
    /// The version.
    pub version: Arc<Version>,
    /// Files per level, in the version's order.
    pub levels: [Vec<Arc<FileEntry>>; LEVEL_COUNT],
    /// Files that hold range tombstones; usually none.
    pub range_delete_files: Vec<Arc<FileEntry>>,
}

impl View {
    fn build(version: Arc<Version>, known: &HashMap<FileNumber, Arc<FileEntry>>) -> Self {
        let entry = |meta: &Arc<FileMeta>| {
            known
                .get(&meta.number)
                .cloned()
                .unwrap_or_else(|| Arc::new(FileEntry { meta: Arc::clone(meta), reader: OnceLock::new() }))
        };
        let levels: [Vec<_>; LEVEL_COUNT] =
            std::array::from_fn(|at| version.level(Level(at as u8)).iter().map(entry).collect());
        let range_delete_files = levels.iter().flatten().filter(|f| f.meta.range_deletes > 0).cloned().collect();
        Self { version, levels, range_delete_files }
    }

    /// Every file with its level.
    pub fn files(&self) -> impl Iterator<Item = (Level, &Arc<FileEntry>)> {
        self.levels.iter().zip(0u8..).flat_map(|(files, level)| files.iter().map(move |f| (Level(level), f)))
    }

    /// The only file of `level` (below L0) that may have entries for `key`.
    #[inline]
    #[must_use]
    pub fn file_for(&self, level: usize, key: &[u8]) -> Option<&Arc<FileEntry>> {
        let files = &self.levels[level];
        if files.is_empty() {
            return None;
        }
        files.get(self.version.seek(Level(level as u8), key)).filter(|file| file.meta.smallest.as_slice() <= key)
    }

    /// The files of `level` that may hold keys in `[from, to)`; `None` is unbounded. For levels below L0 in key order.
    #[must_use]
    pub fn overlapping(&self, level: usize, from: &[u8], to: Option<&[u8]>) -> Vec<Arc<FileEntry>> {
        let range = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        if level == 0 {
            return self.levels[0].iter().filter(|f| f.meta.overlaps_range(range)).cloned().collect();
        }
        self.levels[level][self.version.overlapping(Level(level as u8), range)].to_vec()
    }
}

/// The current view of this process.
pub struct Views {
    current: ArcSwap<View>,
}

impl Views {
    /// Starts with `version`.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self { current: ArcSwap::from_pointee(View::build(Arc::new(version), &HashMap::new())) }
    }

    /// The current view, without touching its reference count.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// The current view, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// Makes `version` current; the caller serialises. Returns the entries of files that it no longer has.
    pub fn install(&self, version: Version) -> Vec<Arc<FileEntry>> {
        let old = self.current.load_full();
        let known: HashMap<_, _> = old.files().map(|(_, f)| (f.meta.number, Arc::clone(f))).collect();
        let new = View::build(Arc::new(version), &known);
        let mut gone = known;
        for (_, file) in new.files() {
            gone.remove(&file.meta.number);
        }
        self.current.store(Arc::new(new));
        let mut gone: Vec<_> = gone.into_values().collect();
        gone.sort_by_key(|f| f.meta.number);
        gone
    }
}
