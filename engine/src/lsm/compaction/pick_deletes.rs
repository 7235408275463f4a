//! Which files to take out, or to merge, because of what is deleted: pure.
//!
//! **Covered files** go by an edit alone, without being read. A file may go when range tombstones that every reader sees,
//! each newer than everything in the file, together cover all its keys. This brings nothing back to life: what the file hid
//! below itself lies within its bounds and is older, so the same tombstones hide it; and they stay, for
//!
//! 1. a tombstone leaves only in a merge to a level below which its range has no files. The covered file is older, so it
//!    lies below the tombstone: below that level, or in it and then an input of the merge, hence busy and not dropped;
//! 2. where the file of a covering tombstone is itself covered, a newer tombstone covers there, and the newest is in a file
//!    that stays.
//!
//! **Dense files** are merged down, so that scans stop stepping over deletes and covered data is given back. Each step goes
//! one level down, or rewrites a file of the last level whose deletes every reader sees, after which it has none: it ends.

use crate::base::limits::LEVEL_COUNT;
use crate::lsm::compaction::choice::{Choice, Reason};
use crate::lsm::compaction::pick::{merge, named};
use crate::lsm::compaction::shape::{Deleted, FileShape, Hull, Shape};

/// Share of deletes among the entries of a file that make it dense.
const DENSE_SHARE: f64 = 0.5;
/// Share of deletes from which on a file that meets nothing on its way is rewritten without them instead of moved.
const ELIDE_SHARE: f64 = 0.1;
/// Files with fewer entries are not worth it.
const ENTRIES_MIN: u64 = 1000;
/// Range tombstones are merged down when they cover this many times the bytes of their file.
const COVER_FACTOR: u64 = 1;

/// Files that range tombstones cover entirely.
pub(super) fn pick_covered(shape: &Shape) -> Choice {
    if shape.deleted.is_empty() {
        return Choice::Idle;
    }
    let mut files = Vec::new();
    for level in 0..LEVEL_COUNT {
        let covered: Vec<_> =
            shape.levels[level].iter().filter(|f| f.busy.is_none() && is_covered(&shape.deleted, f)).collect();
        files.extend(named(level, &covered));
    }
    if files.is_empty() { Choice::Idle } else { Choice::Drop { files, reason: Reason::Covered } }
}

/// Whether newer tombstones of `deleted`, which are sorted by start, cover all keys of `file`.
fn is_covered(deleted: &[Deleted], file: &FileShape) -> bool {
    let (mut reach, end) = (file.meta.start(), file.meta.end());
    for tombstone in deleted.iter().filter(|d| d.range.seqno > file.meta.largest_seqno) {
        if (&tombstone.range.start[..], false) > reach {
            return false;
        }
        reach = reach.max((&tombstone.range.end[..], false));
        if reach >= end {
            return true;
        }
    }
    false
}

fn delete_share(file: &FileShape) -> f64 {
    file.meta.deletes as f64 / file.meta.entries.max(1) as f64
}

/// Whether a file that goes to `output` as it is would take deletes along that nothing below needs.
pub(super) fn has_useless_deletes(shape: &Shape, file: &FileShape, output: usize) -> bool {
    let deletes = file.meta.range_deletes > 0 || delete_share(file) >= ELIDE_SHARE;
    let hull = Hull::of(&file.meta);
    let seen_by_all = file.meta.largest_seqno <= shape.seen_by_all;
    deletes && seen_by_all && (output + 1..LEVEL_COUNT).all(|level| shape.overlapping(level, &hull).is_empty())
}

/// A file that is mostly deletes.
pub(super) fn pick_dense(shape: &Shape) -> Choice {
    let last = LEVEL_COUNT - 1;
    for level in 1..LEVEL_COUNT {
        for file in shape.levels[level].iter().filter(|f| f.busy.is_none()) {
            let share = delete_share(file);
            let dense = share >= DENSE_SHARE && file.meta.entries >= ENTRIES_MIN;
            let choice = match level == last {
                false if dense => merge(shape, level, &[file], level + 1, Reason::Deletes(share)),
                true if has_useless_deletes(shape, file, last) => rewrite(shape, level, file, Reason::Deletes(share)),
                _ => Choice::Idle,
            };
            if choice != Choice::Idle {
                return choice;
            }
        }
    }
    Choice::Idle
}

/// Merges a file of a level with nothing, to be rid of what nobody needs.
pub(super) fn rewrite(shape: &Shape, level: usize, file: &FileShape, reason: Reason) -> Choice {
    let output = crate::base::ids::Level(level as u8);
    match shape.take_in(level, &Hull::of(&file.meta)) {
        Some(_) => Choice::Merge { inputs: named(level, &[file]), output, reason },
        None => Choice::Idle,
    }
}

/// The file whose range tombstones cover the most data below.
pub(super) fn pick_covering(shape: &Shape) -> Choice {
    let mut best: Option<(u64, usize, &FileShape)> = None;
    for level in 1..LEVEL_COUNT - 1 {
        let own = |d: &&Deleted| d.level.index() == level;
        for file in shape.levels[level].iter().filter(|f| f.busy.is_none() && f.meta.range_deletes > 0) {
            let holds = shape.deleted.iter().filter(own).filter(|d| d.file == file.meta.number);
            let bytes: u64 = holds.map(|d| covered_bytes(shape, level, d)).sum();
            if bytes >= COVER_FACTOR * file.meta.size && best.is_none_or(|(most, ..)| bytes > most) {
                best = Some((bytes, level, file));
            }
        }
    }
    let Some((bytes, level, file)) = best else { return Choice::Idle };
    merge(shape, level, &[file], level + 1, Reason::RangeDeletes(bytes))
}

/// About how many bytes below `level` a tombstone covers: the whole of files within it, half of those at its ends.
fn covered_bytes(shape: &Shape, level: usize, deleted: &Deleted) -> u64 {
    let hull = Hull { start: (&deleted.range.start, false), end: (&deleted.range.end, false) };
    let bytes = |file: &FileShape| match hull.contains(&Hull::of(&file.meta)) {
        true => file.meta.size,
        false => file.meta.size / 2,
    };
    (level + 1..LEVEL_COUNT).flat_map(|below| shape.overlapping(below, &hull)).map(bytes).sum()
}
