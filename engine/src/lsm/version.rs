//! The version: an immutable list of the files of every level, with the positions and trees that go with it.
//!
//! An edit makes the next version of it; levels the edit does not touch are shared between the two. Versions are values:
//! no file, lock or counter. Who holds the current one, and when files may go, is decided elsewhere.
//!
//! 1. L0 is ordered newest first: by largest sequence number, then by file number, both falling. Its files may overlap, in
//!    keys and in sequence numbers, so a reader that found an entry in L0 still has to look at the files whose largest
//!    sequence number is larger than the entry's; the order lets it stop at the first that is not. What it finds there
//!    counts only when its sequence number is larger: of equal ones (zeroed by compaction) the first found is right.
//! 2. L1 and below are ordered by key and disjoint: all versions of a key in a level are in one file.
//! 3. A file number occurs once in a version and is smaller than `next_file`. No file has an entry newer than
//!    `last_seqno`.
//! 4. The durable position and the three counters never fall.

pub mod builder;
mod level;
mod search;
pub mod sublevels;

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level, Lsn, SeqNo, TreeId};
use crate::base::limits::LEVEL_COUNT;
use crate::format::version_edit::{FileMeta, Identity, TreeEdit, TreeOptionsBytes, VersionEdit};

use level::LevelFiles;
use sublevels::Sublevels;

/// What the catalogue knows about a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeMeta {
    /// Names the tree, for ever.
    pub id: TreeId,
    /// What the host calls it.
    pub name: Vec<u8>,
    /// Its options, as the layer above wrote them.
    pub options: TreeOptionsBytes,
}

/// The files of the database at one point of its life.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Counts the edits since the directory was created; the same in every process.
    pub number: u64,
    /// The log position at which replay starts.
    pub durable: Lsn,
    /// No entry in a file has a larger sequence number.
    pub last_seqno: SeqNo,
    /// No file has this number or a larger one.
    pub next_file: u64,
    /// No tree has, or had, this id or a larger one.
    pub next_tree: u64,
    /// The trees that exist.
    pub trees: Arc<BTreeMap<TreeId, TreeMeta>>,
    /// Which database this is; `None` only before the first edit.
    pub identity: Option<Identity>,
    /// For each level the key from which its next round of compactions starts; empty for the level's beginning.
    pub cursors: Arc<[Vec<u8>; LEVEL_COUNT]>,
    levels: [Arc<LevelFiles>; LEVEL_COUNT],
}

impl Default for Version {
    fn default() -> Self {
        Self::empty()
    }
}

impl Version {
    /// The version before the first edit.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            number: 0,
            durable: Lsn(0),
            last_seqno: SeqNo(0),
            next_file: 1,
            next_tree: 1,
            trees: Arc::default(),
            identity: None,
            cursors: Arc::default(),
            levels: std::array::from_fn(|_| Arc::default()),
        }
    }

    /// The version after `edit`.
    ///
    /// # Errors
    /// Says what in the edit contradicts this version or breaks an invariant of the result.
    pub fn apply(&self, edit: &VersionEdit) -> Result<Self, String> {
        let mut next = self.clone();
        next.apply_head(edit)?;
        self.check_new_numbers(edit)?;
        for (at, files) in next.levels.iter_mut().enumerate() {
            let level = Level(at as u8);
            let deleted: Vec<_> = edit.deleted.iter().filter(|d| d.0 == level).map(|d| d.1).collect();
            let added: Vec<_> = edit.added.iter().filter(|a| a.0 == level).map(|a| Arc::clone(&a.1)).collect();
            if !deleted.is_empty() || !added.is_empty() {
                *files = Arc::new(files.replace(level, deleted, added)?);
            }
        }
        Ok(next)
    }

    /// Takes over everything in `edit` but its files.
    fn apply_head(&mut self, edit: &VersionEdit) -> Result<(), String> {
        if let Some(identity) = edit.identity {
            if self.identity.is_some_and(|own| own != identity) {
                return Err("the edit belongs to another database".to_owned());
            }
            self.identity = Some(identity);
        }
        let number = edit.version.unwrap_or(self.number.saturating_add(1));
        if number < self.number {
            return Err(format!("version {number} after version {}", self.number));
        }
        self.number = number;
        if let Some(durable) = edit.durable {
            if durable < self.durable {
                return Err(format!("durable position {durable} after {}", self.durable));
            }
            self.durable = durable;
        }
        // Counters are drawn before the edits that record them are put in order, so a smaller one is no contradiction.
        self.next_file = self.next_file.max(edit.next_file.unwrap_or(0));
        self.next_tree = self.next_tree.max(edit.next_tree.unwrap_or(0));
        self.last_seqno = self.last_seqno.max(edit.last_seqno.unwrap_or_default());
        for (_, file) in &edit.added {
            file.check_bounds()?;
            self.next_file = self.next_file.max(file.number.0.saturating_add(1));
            self.last_seqno = self.last_seqno.max(file.largest_seqno);
        }
        for (level, key) in &edit.cursors {
            let cursor = Arc::make_mut(&mut self.cursors).get_mut(level.index());
            *cursor.ok_or_else(|| format!("there is no level {level}"))? = key.clone();
        }
        if let Some(level) = levels_of(edit).find(|level| level.index() >= LEVEL_COUNT) {
            return Err(format!("there is no level {level}"));
        }
        edit.trees.iter().try_for_each(|tree| self.apply_tree(tree))
    }

    fn apply_tree(&mut self, edit: &TreeEdit) -> Result<(), String> {
        match edit {
            TreeEdit::Created { id, name, options } => {
                self.next_tree = self.next_tree.max(id.0.saturating_add(1));
                let tree = TreeMeta { id: *id, name: name.clone(), options: options.clone() };
                match Arc::make_mut(&mut self.trees).insert(*id, tree) {
                    None => Ok(()),
                    Some(_) => Err(format!("{id} is created but exists")),
                }
            }
            TreeEdit::Dropped { id } => match Arc::make_mut(&mut self.trees).remove(id) {
                Some(_) => Ok(()),
                None => Err(format!("{id} is dropped but does not exist")),
            },
        }
    }

    /// Refuses a file that the edit adds twice, or that this version has and the edit does not delete.
    fn check_new_numbers(&self, edit: &VersionEdit) -> Result<(), String> {
        let mut added: Vec<_> = edit.added.iter().map(|(_, file)| file.number).collect();
        added.sort_unstable();
        if let Some(twice) = added.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("file {} is added twice", twice[0]));
        }
        for (at, files) in self.levels.iter().enumerate() {
            for number in files.numbers_among(&added) {
                if !edit.deleted.contains(&(Level(at as u8), number)) {
                    return Err(format!("file {number} is added but exists in L{at}"));
                }
            }
        }
        Ok(())
    }

    /// The edit that makes this version out of the empty one.
    #[must_use]
    pub fn snapshot_edit(&self) -> VersionEdit {
        let trees = self.trees.values().map(|tree| TreeEdit::Created {
            id: tree.id,
            name: tree.name.clone(),
            options: tree.options.clone(),
        });
        let cursors = self.cursors.iter().enumerate().filter(|(_, key)| !key.is_empty());
        VersionEdit {
            identity: self.identity,
            version: Some(self.number),
            durable: Some(self.durable),
            next_file: Some(self.next_file),
            last_seqno: Some(self.last_seqno),
            next_tree: Some(self.next_tree),
            trees: trees.collect(),
            deleted: Vec::new(),
            added: self.files().map(|(level, file)| (level, Arc::clone(file))).collect(),
            cursors: cursors.map(|(at, key)| (Level(at as u8), key.clone())).collect(),
        }
    }

    /// The files of `level`: L0 newest first, the others by key.
    #[inline]
    #[must_use]
    pub fn level(&self, level: Level) -> &[Arc<FileMeta>] {
        self.levels[level.index()].files()
    }

    /// All files, level by level.
    pub fn files(&self) -> impl Iterator<Item = (Level, &Arc<FileMeta>)> {
        self.levels.iter().enumerate().flat_map(|(at, files)| files.files().iter().map(move |f| (Level(at as u8), f)))
    }

    /// Count of files in all levels.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.levels.iter().map(|files| files.files().len()).sum()
    }

    /// Bytes of the files of `level`.
    #[inline]
    #[must_use]
    pub fn level_bytes(&self, level: Level) -> u64 {
        self.levels[level.index()].bytes()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.levels.iter().map(|files| files.bytes()).sum()
    }

    /// The only file of `level` that may have entries for `key`; for L1 and below.
    #[inline]
    #[must_use]
    pub fn file_for(&self, level: Level, key: &[u8]) -> Option<&Arc<FileMeta>> {
        debug_assert_ne!(level, Level(0), "L0 may have several files for a key");
        let files = &self.levels[level.index()];
        files.files().get(files.lower_bound(key)).filter(|file| file.smallest.as_slice() <= key)
    }

    /// Index of the first file of `level` that does not end before `key`, or the count of files; for L1 and below.
    #[inline]
    #[must_use]
    pub fn seek(&self, level: Level, key: &[u8]) -> usize {
        debug_assert_ne!(level, Level(0), "L0 is not ordered by key");
        self.levels[level.index()].lower_bound(key)
    }

    /// The files of L0 that may have entries for `key`, newest first. See invariant 1 for when a reader may stop.
    pub fn l0_for<'v>(&'v self, key: &'v [u8]) -> impl Iterator<Item = &'v Arc<FileMeta>> {
        let files = &self.levels[0];
        files.spans().candidates(key).map(|at| &files.files()[at]).filter(|file| file.covers(key))
    }

    /// The files of `level`, as a stretch of [`level`](Self::level), that may have entries in `range`; for L1 and below.
    #[must_use]
    pub fn overlapping(&self, level: Level, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Range<usize> {
        debug_assert_ne!(level, Level(0), "the files of L0 for a range are no stretch");
        self.levels[level.index()].overlapping(range)
    }

    /// The files of L0 that may have entries in `range`, newest first.
    pub fn l0_overlapping(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> impl Iterator<Item = &Arc<FileMeta>> {
        self.level(Level(0)).iter().filter(move |file| file.overlaps_range(range))
    }

    /// How the files of L0 lie over one another.
    #[must_use]
    pub fn sublevels(&self) -> &Sublevels {
        self.levels[0].sublevels()
    }

    /// Sorted runs that a scan has to merge: the sublevels of L0 and every other level with files.
    #[must_use]
    pub fn read_amplification(&self) -> usize {
        let deep = self.levels[1..].iter().filter(|files| !files.files().is_empty()).count();
        self.sublevels().count() + deep
    }

    /// Whether `level` of both versions is the same object, so that nothing derived from it needs an update.
    #[must_use]
    pub fn shares_level(&self, other: &Self, level: Level) -> bool {
        Arc::ptr_eq(&self.levels[level.index()], &other.levels[level.index()])
    }
}

/// Every level that the edit's files name.
fn levels_of(edit: &VersionEdit) -> impl Iterator<Item = Level> {
    edit.deleted.iter().map(|d| d.0).chain(edit.added.iter().map(|a| a.0))
}

/// The order of L0: newest first.
fn newest_first(a: &Arc<FileMeta>, b: &Arc<FileMeta>) -> std::cmp::Ordering {
    (b.largest_seqno, b.number).cmp(&(a.largest_seqno, a.number))
}

/// Names two files in a message.
fn pair(level: Level, a: FileNumber, b: FileNumber) -> String {
    format!("{level}: files {a} and {b}")
}

#[cfg(test)]
mod tests;
