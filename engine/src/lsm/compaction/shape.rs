//! The levels as the picker sees them: files, what is busy, what running compactions may write to, what is deleted.
//!
//! A [`Shape`] is a value. It is copied out of a version and the table of busy files under the manifest claim; nothing in it
//! changes while a choice is made.
//!
//! 1. L0 is ordered newest first, the other levels by key, and these are disjoint.
//! 2. The outputs of a running compaction lie in one level, within the hull of its inputs. So nobody
//!    else may write to that stretch of that level, although it may hold no file yet.
//! 3. Every input of a running compaction is a busy file of some level: a compaction installs its edit before it gives up its marks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level, SeqNo};
use crate::base::limits::LEVEL_COUNT;
use crate::format::range_del::RangeTombstone;
use crate::format::version_edit::{Edge, FileMeta};
use crate::lsm::version::sublevels::Sublevels;

/// A file as the picker sees it.
#[derive(Clone, Debug)]
pub struct FileShape {
    /// The file.
    pub meta: Arc<FileMeta>,
    /// It is an input of a running compaction, which writes to this level.
    pub busy: Option<Level>,
}

impl FileShape {
    /// Whether a running compaction takes the file out of `level`; a file that it merely rewrites there stays.
    #[must_use]
    pub fn is_leaving(&self, level: usize) -> bool {
        self.busy.is_some_and(|output| output.index() != level)
    }
}

/// A stretch of keys, from the first key of a file to the last of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hull<'a> {
    /// Where it begins.
    pub start: Edge<'a>,
    /// Where it ends.
    pub end: Edge<'a>,
}

impl<'a> Hull<'a> {
    /// The keys of one file.
    #[must_use]
    pub fn of(file: &'a FileMeta) -> Self {
        Self { start: file.start(), end: file.end() }
    }

    /// The smallest stretch that has all of `files`; `None` when there are none.
    pub fn of_all(files: impl IntoIterator<Item = &'a FileMeta>) -> Option<Self> {
        files.into_iter().map(Self::of).reduce(Self::with)
    }

    /// The smallest stretch that has both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Whether some key is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether all of `other` is in this one.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// A running compaction. Its inputs are never empty.
#[derive(Clone, Debug)]
pub struct RunningCompaction {
    /// Where its outputs go.
    pub output: Level,
    /// What it reads.
    pub inputs: Vec<Arc<FileMeta>>,
}

/// A range tombstone that every reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The level of the file that holds it.
    pub level: Level,
    /// The file that holds it.
    pub file: FileNumber,
    /// The tombstone.
    pub range: RangeTombstone,
}

/// The levels as the picker sees them.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Files per level.
    pub levels: [Vec<FileShape>; LEVEL_COUNT],
    /// How the files of L0 lie over one another.
    pub sublevels: Sublevels,
    /// The running compactions.
    pub running: Vec<RunningCompaction>,
    /// Range tombstones that every reader sees, by start.
    pub deleted: Vec<Deleted>,
    /// Every reader sees what is not newer than this.
    pub seen_by_all: SeqNo,
}

impl Shape {
    /// A shape of `levels`, each in its order, with the `marks` of running compactions (which one, its input, its output
    /// level). Marks of files that are in no level are those of a compaction that has just ended.
    pub fn new<J: Ord>(
        levels: [Vec<Arc<FileMeta>>; LEVEL_COUNT],
        sublevels: Sublevels,
        marks: impl IntoIterator<Item = (J, FileNumber, Level)>,
    ) -> Self {
        let mut marks: HashMap<_, _> = marks.into_iter().map(|(job, file, output)| (file, (job, output))).collect();
        let mut running: BTreeMap<J, RunningCompaction> = BTreeMap::new();
        let mut shape = |meta: Arc<FileMeta>| {
            let mark = if marks.is_empty() { None } else { marks.remove(&meta.number) };
            let busy = mark.map(|(job, output)| {
                let new = || RunningCompaction { output, inputs: Vec::new() };
                running.entry(job).or_insert_with(new).inputs.push(Arc::clone(&meta));
                output
            });
            FileShape { meta, busy }
        };
        let levels = levels.map(|files| files.into_iter().map(&mut shape).collect());
        Self { levels, sublevels, running: running.into_values().collect(), ..Self::default() }
    }

    /// Bytes of a level.
    #[must_use]
    pub fn bytes(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|f| f.meta.size).sum()
    }

    /// Bytes of a level without those that running compactions take away.
    #[must_use]
    pub fn bytes_staying(&self, level: usize) -> u64 {
        self.levels[level].iter().filter(|f| !f.is_leaving(level)).map(|f| f.meta.size).sum()
    }

    /// The files of `level` (not L0) that have keys in `hull`.
    #[must_use]
    pub fn overlapping(&self, level: usize, hull: &Hull<'_>) -> &[FileShape] {
        debug_assert_ne!(level, 0, "the files of L0 for a range are no stretch");
        let files = &self.levels[level];
        let from = files.partition_point(|f| f.meta.end() <= hull.start);
        let count = files[from..].partition_point(|f| f.meta.start() < hull.end);
        &files[from..from + count]
    }

    /// The files of `level` that a compaction with outputs in `hull` has to take in; `None` when one of them is busy, or
    /// when a running compaction may write there. L0 takes any file, so there only the outputs of others are in the way.
    #[must_use]
    pub fn take_in(&self, level: usize, hull: &Hull<'_>) -> Option<&[FileShape]> {
        let taken = |other: &RunningCompaction| {
            let inputs = other.inputs.iter().map(|f| &**f);
            other.output.index() == level && Hull::of_all(inputs).is_some_and(|theirs| theirs.overlaps(hull))
        };
        if self.running.iter().any(taken) {
            return None;
        }
        let files = if level == 0 { &[][..] } else { self.overlapping(level, hull) };
        files.iter().all(|f| f.busy.is_none()).then_some(files)
    }
}
