//! Which SSTs are inputs of a running compaction, seen by every process that picks one.
//!
//! A fixed set of (file, compaction, output level, process). Marks are set under the manifest claim and taken away after the
//! edit that removes the files from their levels; a process that dies leaves marks that the next picker finds and clears.
//! A compaction is named by the first of its inputs: no other running one has that file.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::base::ids::{FileNumber, Level};
use crate::mem::process::{current_pid, process_alive};
use crate::shared_struct;

/// Files that may be busy at once. A compaction that would not fit is not started.
pub const BUSY_MAX: usize = 2048;

shared_struct! {
    struct Cell {
        /// File number plus one; 0 is free.
        file: AtomicU64,
        /// Number of the compaction's first input.
        job: AtomicU64,
        pid: AtomicU32,
        output_level: AtomicU32,
    }
}

shared_struct! {
    /// The set.
    pub struct BusyFiles {
        cells: [Cell; BUSY_MAX],
    }
}

impl BusyFiles {
    /// Marks `files` as inputs of a compaction into `output`; `false` (and nothing marked) when they do not fit.
    pub fn mark(&self, files: &[FileNumber], output: Level) -> bool {
        let free: Vec<_> =
            self.cells.iter().filter(|c| c.file.load(Ordering::Relaxed) == 0).take(files.len()).collect();
        if free.len() < files.len() {
            return false;
        }
        for (cell, file) in free.into_iter().zip(files) {
            cell.job.store(files[0].0, Ordering::Relaxed);
            cell.pid.store(current_pid(), Ordering::Relaxed);
            cell.output_level.store(u32::from(output.0), Ordering::Relaxed);
            cell.file.store(file.0 + 1, Ordering::Release);
        }
        true
    }

    /// Takes the marks of `files` away.
    pub fn clear(&self, files: &[FileNumber]) {
        for cell in &self.cells {
            let file = cell.file.load(Ordering::Relaxed);
            if file != 0 && files.contains(&FileNumber(file - 1)) {
                cell.file.store(0, Ordering::Release);
            }
        }
    }

    /// Every busy file as (compaction, file, level that the compaction writes to).
    #[must_use]
    pub fn list(&self) -> Vec<(FileNumber, FileNumber, Level)> {
        self.cells
            .iter()
            .filter_map(|cell| {
                let file = cell.file.load(Ordering::Acquire).checked_sub(1)?;
                let (job, output) = (cell.job.load(Ordering::Relaxed), cell.output_level.load(Ordering::Relaxed));
                Some((FileNumber(job), FileNumber(file), Level(output as u8)))
            })
            .collect()
    }

    /// Clears what dead processes left behind.
    pub fn reap_dead(&self) {
        for cell in &self.cells {
            if cell.file.load(Ordering::Relaxed) != 0 && !process_alive(cell.pid.load(Ordering::Relaxed)) {
                cell.file.store(0, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::region::{Layout, Region};

    #[test]
    fn marks_are_all_or_nothing() {
        let mut layout = Layout::new();
        let part = layout.part::<BusyFiles>("busy", 1);
        let region = Region::anonymous(&layout).unwrap();
        let busy = &region.part(part)[0];
        let files: Vec<_> = (0..BUSY_MAX as u64 - 1).map(FileNumber).collect();
        assert!(busy.mark(&files, Level(3)));
        assert!(!busy.mark(&[FileNumber(9001), FileNumber(9002)], Level(1)));
        assert_eq!(busy.list().len(), files.len());
        busy.clear(&files[1..]);
        busy.reap_dead();
        assert_eq!(busy.list(), [(FileNumber(0), FileNumber(0), Level(3))], "our own marks stay: we are alive");
    }
}
