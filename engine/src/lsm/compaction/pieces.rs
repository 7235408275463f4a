//! One merge run by several threads: the pieces it is cut into, and the list from which threads of this process take them.
//!
//! The owner (the thread that picked the merge) cuts it by full keys, lists it, runs pieces itself until none is left to
//! take, and waits for those that others took. Then it installs all outputs in one edit, or removes them all.
//!
//! ```text
//! piece:   listed --take--> taken --finish--> done (files, or failed)
//!                             └────dropped──> done (failed): its thread panicked
//! ```
//!
//! 1. A taken piece is being run by a live thread, which ends it in any case; so the owner never waits for nobody.
//! 2. Pieces have disjoint key ranges and their outputs end between full keys, so outputs are disjoint as well.
//! 3. After one piece has failed, the others end at their next look, and nothing of them is installed.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::format::range_del::RangeTombstone;
use crate::format::version_edit::FileMeta;
use crate::lsm::Lsm;
use crate::lsm::compaction::run::{MergePlan, Merged};
use crate::lsm::compaction::split::{Stretch, split_keys};
use crate::lsm::stats::Counter;

/// The keys of a piece: from the first (inclusive) to the last (exclusive); `None` is unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub from: Option<Vec<u8>>,
    /// First key behind.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// The range as bounds.
    #[must_use]
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let from = self.from.as_deref().map_or(Bound::Unbounded, Bound::Included);
        (from, self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded))
    }

    /// The part of a tombstone that is in the range.
    #[must_use]
    pub fn clip(&self, tombstone: &RangeTombstone) -> Option<RangeTombstone> {
        let start = self.from.as_ref().map_or(&tombstone.start, |from| from.max(&tombstone.start));
        let end = self.to.as_ref().map_or(&tombstone.end, |to| to.min(&tombstone.end));
        (start < end).then(|| RangeTombstone { start: start.clone(), end: end.clone(), seqno: tombstone.seqno })
    }
}

/// `ranges`, which are ascending and disjoint, with a cut at each of `keys` (ascending) that lies within one of them.
fn cut_ranges(ranges: Vec<KeyRange>, keys: &[Vec<u8>]) -> Vec<KeyRange> {
    let mut pieces = Vec::new();
    for KeyRange { mut from, to } in ranges {
        let is_within = |key: &&Vec<u8>| Some(*key) > from.as_ref() && to.as_ref().is_none_or(|to| *key < to);
        let within: Vec<_> = keys.iter().filter(is_within).collect();
        for key in within {
            pieces.push(KeyRange { from: from.replace(key.clone()), to: Some(key.clone()) });
        }
        pieces.push(KeyRange { from, to });
    }
    pieces
}

#[derive(Default)]
struct Progress {
    /// Pieces taken so far, in the order of their keys.
    taken: usize,
    done: usize,
    merged: Merged,
    /// The first failure.
    error: Option<Error>,
}

/// A merge in pieces.
pub struct SplitMerge {
    plan: Arc<MergePlan>,
    ranges: Vec<KeyRange>,
    progress: Mutex<Progress>,
    failed: AtomicBool,
}

/// A piece that the calling thread runs.
struct Taken<'s> {
    split: &'s SplitMerge,
    at: usize,
    ended: bool,
}

impl SplitMerge {
    fn new(plan: Arc<MergePlan>, ranges: Vec<KeyRange>) -> Self {
        Self { plan, ranges, progress: Mutex::default(), failed: AtomicBool::new(false) }
    }

    fn take(&self) -> Option<Taken<'_>> {
        let mut progress = self.progress.lock();
        let at = progress.taken;
        if at == self.ranges.len() {
            return None;
        }
        progress.taken += 1;
        Some(Taken { split: self, at, ended: false })
    }

    fn is_done(&self) -> bool {
        self.progress.lock().done == self.ranges.len()
    }
}

impl Taken<'_> {
    fn finish(mut self, result: Result<Merged>) {
        self.ended = true;
        self.end(result);
    }

    fn end(&self, result: Result<Merged>) {
        let mut progress = self.split.progress.lock();
        match result {
            Ok(merged) => {
                progress.merged.files.extend(merged.files);
                progress.merged.entries += merged.entries;
            }
            Err(error) => {
                // Later failures are mostly echoes of the first.
                progress.error.get_or_insert(error);
                self.split.failed.store(true, Ordering::Relaxed);
            }
        }
        progress.done += 1;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err(Error::Closed("a thread died in a compaction".into())));
        }
    }
}

/// The merges of this process that have pieces to take.
#[derive(Default)]
pub struct SplitMerges(Mutex<Vec<Arc<SplitMerge>>>);

/// Takes the merge off the list in any case.
struct Listed<'l> {
    list: &'l SplitMerges,
    split: Arc<SplitMerge>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.list.0.lock().retain(|other| !Arc::ptr_eq(other, &self.split));
    }
}

impl Lsm {
    /// Merges what the inputs have in `ranges`, which are ascending and disjoint; these in pieces where there is much and there are threads
    /// for them.
    pub(crate) fn merge_in_pieces(
        &self,
        plan: &Arc<MergePlan>,
        ranges: Vec<KeyRange>,
        pieces_max: u64,
    ) -> Result<Merged> {
        let ranges = cut_ranges(ranges, &self.cut_into_pieces(plan, pieces_max)?);
        if let [range] = &ranges[..] {
            return self.merge_range(plan, range, &AtomicBool::new(false));
        }
        let split = Arc::new(SplitMerge::new(Arc::clone(plan), ranges));
        self.stats().add(Counter::CompactionPieces, split.ranges.len() as u64);
        self.split_merges.0.lock().push(Arc::clone(&split));
        let listed = Listed { list: &self.split_merges, split: Arc::clone(&split) };
        self.control().work.notify();
        while let Some(taken) = split.take() {
            self.run_piece(taken);
        }
        drop(listed);
        loop {
            let seen = self.control().progress.current();
            if split.is_done() {
                break;
            }
            self.control().progress.wait(seen, std::time::Duration::from_millis(100));
        }
        let Progress { merged, error, .. } = std::mem::take(&mut *split.progress.lock());
        let Some(error) = error else { return Ok(merged) };
        self.remove_outputs(&merged.files);
        Err(error)
    }

    /// Removes files that were written and will not be installed.
    pub(super) fn remove_outputs(&self, files: &[Arc<FileMeta>]) {
        for file in files {
            // What cannot be removed is an orphan that the next open finds.
            let _ = self.env.remove(&self.opener.path(file.number));
        }
    }

    /// Runs a piece of a merge that another thread of this process owns; whether there was one.
    pub(crate) fn help_merge(&self) -> bool {
        let merges = self.split_merges.0.lock().clone();
        for split in merges {
            if let Some(taken) = split.take() {
                self.run_piece(taken);
                return true;
            }
        }
        false
    }

    fn run_piece(&self, taken: Taken<'_>) {
        let split = taken.split;
        let result = self.merge_range(&split.plan, &split.ranges[taken.at], &split.failed);
        taken.finish(result);
        self.control().progress.notify();
    }

    /// The keys at which to cut a merge: none when it is small, or when all jobs run on one thread anyway.
    fn cut_into_pieces(&self, plan: &MergePlan, pieces_max: u64) -> Result<Vec<Vec<u8>>> {
        let bytes: u64 = plan.inputs.iter().map(|(_, f)| f.meta.size).sum();
        // A piece that makes less than two files is not worth its seeks and its short last file.
        let worth = bytes / (2 * self.options.target_file_bytes);
        let pieces = worth.min(pieces_max);
        if pieces < 2 {
            return Ok(Vec::new());
        }
        Ok(split_keys(self.stretches(plan)?, pieces))
    }

    /// The data of all inputs, in stretches.
    pub(super) fn stretches(&self, plan: &MergePlan) -> Result<Vec<Stretch>> {
        let mut stretches = Vec::new();
        for (_, file) in &plan.inputs {
            let partitions = file.reader(&self.opener)?.partitions()?;
            stretches.extend(partitions.into_iter().map(|(end, bytes)| Stretch { end, bytes }));
        }
        Ok(stretches)
    }
}

#[cfg(test)]
mod tests;
