//! Builds a new snapshot from the SSTs that can still be read, when the manifest is lost.
//!
//! Sequence numbers say which of two files is the newer one, as long as the ranges of their numbers are apart. So a file
//! may lie in a deep level when every file that it overlaps is wholly newer or wholly older; all other files, and those
//! that are wholly newer than one of them, go to L0, where order is by sequence number.
//!
//! 1. Every readable file is placed once; placing loses no entry.
//! 2. In each level below L0 files are disjoint, and of two overlapping files in different levels the upper one has only
//!    larger sequence numbers; or both are in L0.
//! 3. Of two overlapping files in which compaction zeroed sequence numbers, the one with the larger file number comes first
//!    in L0: it is the later output. For that its `largest_seqno` may be raised above what the file holds.
//!
//! What repair cannot know: files that were obsolete but not yet removed come back, and with them deleted keys whose
//! tombstone a compaction had already dropped; so do files of dropped trees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level, Lsn, SeqNo, TreeId};
use crate::base::key::split_full_key;
use crate::base::limits::LEVEL_COUNT;
use crate::error::{Error, Result};
use crate::format::version_edit::{FileMeta, Identity, TreeEdit, TreeOptionsBytes, VersionEdit};

/// What a readable SST says about itself.
#[derive(Clone, Debug)]
pub struct Summary {
    /// As it stood in the manifest.
    pub meta: FileMeta,
    /// The trees that have entries in it. When empty, the trees of its bounds are taken instead.
    pub trees: Vec<TreeId>,
}

/// What the caller knows from elsewhere.
#[derive(Clone, Debug)]
pub struct Known {
    /// Identity of the repaired database.
    pub identity: Identity,
    /// The number of the new version; larger than that of any version a process may still hold.
    pub version: u64,
    /// The log position at which replay starts: the beginning of the oldest segment that is there.
    pub durable: Lsn,
    /// No log or manifest file has this number or a larger one.
    pub next_file: u64,
    /// Trees whose names and options survived, such as from the readable part of the old manifest.
    pub trees: BTreeMap<TreeId, (Vec<u8>, TreeOptionsBytes)>,
}

/// The outcome of [`rebuild`].
#[derive(Debug)]
pub struct Repaired {
    /// The snapshot to start the new manifest with.
    pub snapshot: VersionEdit,
    /// Files that could not be read, and why. The snapshot does not have them.
    pub skipped: Vec<(FileNumber, Error)>,
    /// Trees that have entries but were not known; the snapshot calls them `recovered-ID` and gives them no options.
    pub nameless: Vec<TreeId>,
}

/// Builds a snapshot of the files `numbers`, which `summary` reads. A file whose summary fails, is of another file or is
/// impossible in itself is skipped.
pub fn rebuild(
    numbers: &[FileNumber],
    known: Known,
    summary: &mut dyn FnMut(FileNumber) -> Result<Summary>,
) -> Repaired {
    let mut skipped = Vec::new();
    let mut files = Vec::new();
    let mut used = BTreeSet::new();
    let sorted: BTreeSet<_> = numbers.iter().copied().collect();
    for number in sorted {
        match summary(number).and_then(|found| accept(number, found)) {
            Ok(found) => {
                let bounds = [&found.meta.smallest, &found.meta.largest];
                if found.trees.is_empty() {
                    used.extend(bounds.into_iter().filter_map(|key| split_full_key(key)).map(|(tree, _)| tree));
                } else {
                    used.extend(&found.trees);
                }
                files.push(found.meta);
            }
            Err(error) => skipped.push((number, error)),
        }
    }
    let nameless: Vec<_> = used.into_iter().filter(|tree| !known.trees.contains_key(tree)).collect();
    let mut trees = known.trees;
    trees.extend(nameless.iter().map(|&tree| (tree, (format!("recovered-{}", tree.0).into_bytes(), Vec::new()))));
    let past = |last: Option<u64>| last.map_or(0, |last| last.saturating_add(1));
    let next_file = known.next_file.max(past(numbers.iter().map(|number| number.0).max()));
    let snapshot = VersionEdit {
        identity: Some(known.identity),
        version: Some(known.version),
        durable: Some(known.durable),
        next_file: Some(next_file),
        last_seqno: files.iter().map(|file| file.largest_seqno).max().or(Some(SeqNo(0))),
        next_tree: Some(past(trees.keys().next_back().map(|tree| tree.0)).max(1)),
        trees: trees.into_iter().map(|(id, (name, options))| TreeEdit::Created { id, name, options }).collect(),
        added: place(files),
        ..VersionEdit::default()
    };
    Repaired { snapshot, skipped, nameless }
}

fn accept(number: FileNumber, found: Summary) -> Result<Summary> {
    let name = format!("{number}.sst");
    if found.meta.number != number {
        let what = format!("the file says that it is file {}", found.meta.number);
        return Err(Error::corruption(name.as_ref(), 0, what));
    }
    found.meta.check_bounds().map_err(|what| Error::corruption(name.as_ref(), 0, what))?;
    Ok(found)
}

/// Finds a level for each file such that readers see the newest version of every key; see the invariants above.
#[must_use]
pub fn place(mut files: Vec<FileMeta>) -> Vec<(Level, Arc<FileMeta>)> {
    files.sort_by_key(|file| file.number);
    let overlaps = overlapping_pairs(&files);
    order_zeroed(&mut files, &overlaps);
    // Oldest first: a file that is wholly older than another comes before it.
    let mut order: Vec<_> = (0..files.len()).collect();
    order.sort_by_key(|&at| (files[at].largest_seqno, files[at].number));
    let mut levels = vec![0u8; files.len()];
    for at in order {
        levels[at] = level_of(&files, &overlaps, &levels, at);
    }
    levels.into_iter().zip(files).map(|(level, file)| (Level(level), Arc::new(file))).collect()
}

/// The deepest level above all wholly older files that `at` overlaps, or L0.
fn level_of(files: &[FileMeta], overlaps: &[Vec<usize>], levels: &[u8], at: usize) -> u8 {
    let older_than = |a: usize, b: usize| files[a].largest_seqno < files[b].smallest_seqno;
    let mut level = LEVEL_COUNT as u8 - 1;
    for &other in &overlaps[at] {
        if older_than(other, at) {
            // It is placed already. One in L0 pulls this file there, too; else this one lies above it.
            level = level.min(levels[other].saturating_sub(1));
        } else if !older_than(at, other) {
            return 0;
        }
    }
    level
}

/// For each file the other files that it overlaps, by a sweep over the keys.
fn overlapping_pairs(files: &[FileMeta]) -> Vec<Vec<usize>> {
    let mut overlaps = vec![Vec::new(); files.len()];
    let mut by_start: Vec<_> = (0..files.len()).collect();
    by_start.sort_by(|&a, &b| files[a].start().cmp(&files[b].start()));
    let mut open: Vec<usize> = Vec::new();
    for at in by_start {
        open.retain(|&other| files[other].end() > files[at].start());
        for &other in &open {
            overlaps[other].push(at);
            overlaps[at].push(other);
        }
        open.push(at);
    }
    overlaps
}

/// Makes L0's order put later outputs first among overlapping files with zeroed sequence numbers, which alone do not tell.
/// `files` are ordered by number.
fn order_zeroed(files: &mut [FileMeta], overlaps: &[Vec<usize>]) {
    for at in 0..files.len() {
        if files[at].smallest_seqno != SeqNo(0) {
            continue;
        }
        let earlier = overlaps[at].iter().filter(|&&other| other < at && files[other].smallest_seqno == SeqNo(0));
        if let Some(largest) = earlier.map(|&other| files[other].largest_seqno).max() {
            files[at].largest_seqno = files[at].largest_seqno.max(largest);
        }
    }
}

#[cfg(test)]
mod tests;
