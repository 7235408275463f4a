//! L0's files sorted into sublevels: within one the files are disjoint, across them newer files lie above older ones.
//!
//! A file lies right above the highest older file that it overlaps, as in Pebble. So a scan merges one run per sublevel
//! instead of one per file, and the count of sublevels is what L0 costs a reader.

use std::sync::Arc;

use crate::format::version_edit::{Edge, FileMeta};

/// Where each file of L0 lies.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sublevels {
    /// For each file of L0, in L0's order, its sublevel; 0 is the oldest.
    of: Box<[u32]>,
    /// For each sublevel the indices of its files in L0's order, by key.
    rows: Box<[Box<[usize]>]>,
}

impl Sublevels {
    /// Assigns `files`, which are ordered newest first.
    ///
    /// The bounds of the files cut the keys into intervals, and a file is a stretch of them; with n files this takes n²
    /// steps on small integers at worst.
    #[must_use]
    pub fn assign(files: &[Arc<FileMeta>]) -> Self {
        let mut cuts: Vec<Edge<'_>> = files.iter().flat_map(|file| [file.start(), file.end()]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let place = |edge: Edge<'_>| cuts.partition_point(|cut| *cut < edge);
        // For each interval the count of sublevels used so far.
        let mut heights = vec![0u32; cuts.len()];
        let mut of = vec![0; files.len()];
        for (at, file) in files.iter().enumerate().rev() {
            let covered = &mut heights[place(file.start())..place(file.end())];
            let sublevel = covered.iter().copied().max().unwrap_or(0);
            covered.fill(sublevel + 1);
            of[at] = sublevel;
        }
        let count = of.iter().max().map_or(0, |&top| top as usize + 1);
        let mut rows = vec![Vec::new(); count];
        for (at, &sublevel) in of.iter().enumerate() {
            rows[sublevel as usize].push(at);
        }
        for row in &mut rows {
            row.sort_unstable_by(|&a, &b| files[a].start().cmp(&files[b].start()));
        }
        Self { of: of.into(), rows: rows.into_iter().map(Vec::into_boxed_slice).collect() }
    }

    /// Count of sublevels: the sorted runs that a scan over L0 merges.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Sublevel of the file at index `file` of L0.
    ///
    /// # Panics
    /// When L0 has no such file.
    #[must_use]
    pub fn of(&self, file: usize) -> usize {
        self.of[file] as usize
    }

    /// Indices of the files of a sublevel in L0's order, by key; sublevel 0 is the oldest.
    ///
    /// # Panics
    /// When there is no such sublevel.
    #[must_use]
    pub fn row(&self, sublevel: usize) -> &[usize] {
        &self.rows[sublevel]
    }
}

#[cfg(test)]
mod tests;
