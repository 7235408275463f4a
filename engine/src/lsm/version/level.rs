//! The files of one level, in order, with what makes them quick to search.

use std::collections::HashSet;
use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level};
use crate::format::version_edit::{FileMeta, edges};

use super::search::{KeyIndex, Spans};
use super::sublevels::Sublevels;
use super::{newest_first, pair};

/// Files of a level. What is derived from them is built once, here; only what the level's kind needs is not empty.
#[derive(Debug, Default)]
pub(super) struct LevelFiles {
    files: Box<[Arc<FileMeta>]>,
    /// The files' numbers, in the same order: a search by number touches one small array.
    numbers: Box<[FileNumber]>,
    bytes: u64,
    /// The largest keys; L1 and below.
    index: KeyIndex,
    /// L0 only.
    spans: Spans,
    /// L0 only.
    sublevels: Sublevels,
}

impl PartialEq for LevelFiles {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl LevelFiles {
    /// Puts `files` in the order of `level`.
    ///
    /// # Errors
    /// Says which files overlap in a level that does not allow it.
    pub(super) fn build(level: Level, mut files: Vec<Arc<FileMeta>>) -> Result<Self, String> {
        let mut out =
            Self { bytes: files.iter().map(|file| file.size).fold(0, u64::saturating_add), ..Self::default() };
        if level.0 == 0 {
            files.sort_by(newest_first);
            out.spans = Spans::build(&files);
            out.sublevels = Sublevels::assign(&files);
        } else {
            files.sort_by(|a, b| a.start().cmp(&b.start()).then_with(|| a.end().cmp(&b.end())));
            if let Some(two) = files.windows(2).find(|two| two[0].end() > two[1].start()) {
                return Err(format!("{} overlap", pair(level, two[0].number, two[1].number)));
            }
            out.index = KeyIndex::build(&files.iter().map(|file| file.largest.as_slice()).collect::<Vec<_>>());
        }
        out.numbers = files.iter().map(|file| file.number).collect();
        out.files = files.into_boxed_slice();
        Ok(out)
    }

    /// The level without `deleted` and with `added`.
    ///
    /// # Errors
    /// Says which deleted file is not here, or which files of the result overlap.
    pub(super) fn replace(
        &self,
        level: Level,
        deleted: Vec<FileNumber>,
        added: Vec<Arc<FileMeta>>,
    ) -> Result<Self, String> {
        let mut files = Vec::with_capacity(self.files.len() + added.len());
        if deleted.is_empty() {
            files.extend_from_slice(&self.files);
        } else {
            let count = deleted.len();
            let mut missing: HashSet<_> = deleted.into_iter().collect();
            if missing.len() != count {
                return Err(format!("{level}: a file is deleted twice"));
            }
            let kept = self.files.iter().zip(&self.numbers).filter(|(_, number)| !missing.remove(number));
            files.extend(kept.map(|(file, _)| Arc::clone(file)));
            if let Some(number) = missing.into_iter().min() {
                return Err(format!("{level}: file {number} is deleted but not there"));
            }
        }
        files.extend(added);
        Self::build(level, files)
    }

    #[inline]
    pub(super) fn files(&self) -> &[Arc<FileMeta>] {
        &self.files
    }

    #[inline]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn spans(&self) -> &Spans {
        &self.spans
    }

    pub(super) fn sublevels(&self) -> &Sublevels {
        &self.sublevels
    }

    /// Those of `sorted` that are numbers of files here.
    pub(super) fn numbers_among(&self, sorted: &[FileNumber]) -> impl Iterator<Item = FileNumber> {
        // New files have numbers past all others, so the range test alone settles nearly every call.
        let range = sorted.first().zip(sorted.last());
        let near = move |n: &&FileNumber| range.is_some_and(|(low, high)| low <= *n && *n <= high);
        self.numbers.iter().filter(near).copied().filter(|number| sorted.binary_search(number).is_ok())
    }

    /// Index of the first file that does not end before `key`. Not for L0.
    #[inline]
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        let at = self.index.lower_bound(key, |at| &self.files[at].largest);
        match self.files.get(at) {
            // Only one file can end right before `key`: the next one, being disjoint, ends past it.
            Some(file) if file.largest_exclusive && file.largest == key => at + 1,
            _ => at,
        }
    }

    /// The stretch of files that have keys in `range`. Not for L0.
    pub(super) fn overlapping(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Range<usize> {
        let (from, to) = edges(range);
        let mut start = match from {
            Some((key, _)) => self.lower_bound(key),
            None => 0,
        };
        if let Some((key, true)) = from
            && self.files.get(start).is_some_and(|file| file.end() == (key, true))
        {
            start += 1;
        }
        let empty = from.zip(to).is_some_and(|(from, to)| from >= to);
        let end = match to {
            _ if empty => start,
            None => self.files.len(),
            Some(to) => {
                // The first file that does not end before the bound is the last one that can begin before it.
                let at = self.lower_bound(to.0);
                at + usize::from(self.files.get(at).is_some_and(|file| file.start() < to))
            }
        };
        start..end.max(start)
    }
}
