//! Which files of L0 to merge: a stack that can go down without leaving older files of its keys behind, pure.
//!
//! 1. What goes to the base takes every older file of L0 in its hull along (Pebble's rule for its sublevels). So older
//!    versions never lie above newer ones. Stacks with disjoint hulls go down at the same time.
//! 2. What is merged within L0 is a stretch of the age order: every file in its hull that stays is newer than all of it, or
//!    older than all of it, in sequence numbers. So the result has one place in that order.

use crate::base::ids::Level;
use crate::base::limits::LEVEL_COUNT;
use crate::lsm::compaction::choice::{Choice, Reason};
use crate::lsm::compaction::pick::{merge, named};
use crate::lsm::compaction::shape::{FileShape, Hull, Shape};
use crate::lsm::compaction::targets::{DEEP_FACTOR, Policy, WITHIN_FACTOR};

/// Tops of stacks that are looked at before the best one is taken.
const TOPS_MAX: usize = 64;
/// Files of L0 up to which stacks are filled up: the search for more takes their square.
const FILL_FILES_MAX: usize = 1024;
/// A merge within L0 takes at least this many sublevels: it must make reads cheaper by more than it writes.
const WITHIN_DEPTH_MIN: usize = 4;

/// Times its own bytes that a stack may rewrite in the last level without waiting for more of L0: what waits there is garbage
/// in the same measure. In other levels, whose garbage the steps bound, it may rewrite what it brings.
const LAST_REWRITE_MAX: u64 = 3;

/// Files of L0 by index, newest first, with what they cost.
struct Stack {
    files: Vec<usize>,
    depth: usize,
    bytes: u64,
}

fn hull_of<'s>(shape: &'s Shape, files: &[usize]) -> Option<Hull<'s>> {
    Hull::of_all(files.iter().map(|&at| &*shape.levels[0][at].meta))
}

fn stack_of(shape: &Shape, mut files: Vec<usize>) -> Stack {
    files.sort_unstable();
    let mut sublevels: Vec<_> = files.iter().map(|&at| shape.sublevels.of(at)).collect();
    sublevels.sort_unstable();
    sublevels.dedup();
    let bytes = files.iter().map(|&at| shape.levels[0][at].meta.size).sum();
    Stack { files, depth: sublevels.len(), bytes }
}

/// The file at `top` with all older files in the growing hull; `None` when one of them is busy.
fn stack_below(shape: &Shape, top: usize) -> Option<Vec<usize>> {
    let mut hull = Hull::of(&shape.levels[0][top].meta);
    let mut files = Vec::new();
    // A hull that an old file has widened may reach newer files that were passed: look again until it stays.
    loop {
        let before = files.len();
        files.clear();
        for (at, file) in shape.levels[0].iter().enumerate().skip(top) {
            let own = Hull::of(&file.meta);
            if hull.overlaps(&own) {
                if file.busy.is_some() {
                    return None;
                }
                hull = hull.with(own);
                files.push(at);
            }
        }
        if files.len() == before {
            return Some(files);
        }
    }
}

/// Adds newer files that lie within the stack's hull and leave nothing older of theirs behind.
fn fill(shape: &Shape, files: &mut Vec<usize>, bytes_max: u64) {
    let l0 = &shape.levels[0];
    let Some(hull) = hull_of(shape, files).filter(|_| l0.len() <= FILL_FILES_MAX) else { return };
    let mut chosen = vec![false; l0.len()];
    let mut bytes = 0;
    for &at in &*files {
        chosen[at] = true;
        bytes += l0[at].meta.size;
    }
    for at in (0..l0.len()).rev() {
        let file = &l0[at];
        let fits = !chosen[at] && file.busy.is_none() && bytes + file.meta.size <= bytes_max;
        let older_go_along = || (at + 1..l0.len()).all(|old| chosen[old] || !l0[old].meta.overlaps(&file.meta));
        if fits && hull.contains(&Hull::of(&file.meta)) && older_go_along() {
            chosen[at] = true;
            bytes += file.meta.size;
            files.push(at);
        }
    }
}

/// A deep stack into the base level; idle when none may go, or when waiting for more of L0 makes it cheaper.
pub(super) fn pick_down(shape: &Shape, policy: &Policy, base: usize) -> Choice {
    let l0 = &shape.levels[0];
    // Too many bytes go down from anywhere, too many sublevels where they are.
    let full = shape.bytes_staying(0) > policy.l0_bytes;
    let depth_min = if full { 1 } else { policy.l0_trigger };
    let deep = |at: &usize| l0[*at].busy.is_none() && shape.sublevels.of(*at) + 1 >= depth_min;
    let mut tops: Vec<usize> = (0..l0.len()).filter(deep).collect();
    tops.sort_by_key(|&at| std::cmp::Reverse(shape.sublevels.of(at)));
    let mut best: Option<(Stack, f64)> = None;
    let mut seen = vec![false; l0.len()];
    for top in tops.into_iter().filter(|&at| !std::mem::replace(&mut seen[at], true)).take(TOPS_MAX) {
        let Some(mut files) = stack_below(shape, top) else { continue };
        fill(shape, &mut files, policy.input_bytes_max);
        let stack = stack_of(shape, files);
        let overlap = hull_of(shape, &stack.files).and_then(|hull| shape.take_in(base, &hull));
        let Some(overlap) = overlap else { continue };
        let below: u64 = overlap.iter().map(|f| f.meta.size).sum();
        let is_cheap = below <= stack.bytes.saturating_mul(if base == LEVEL_COUNT - 1 { LAST_REWRITE_MAX } else { 1 });
        if !is_cheap && stack.depth < policy.l0_trigger * DEEP_FACTOR && !full {
            continue;
        }
        let cost = below as f64 / stack.bytes.max(1) as f64;
        let better = best.as_ref().is_none_or(|(other, other_cost)| {
            let too_large = |s: &Stack| s.bytes > policy.input_bytes_max;
            match (too_large(&stack), too_large(other)) {
                (false, true) => true,
                (true, false) => false,
                (true, true) => stack.bytes < other.bytes,
                (false, false) => stack.depth > other.depth || (stack.depth == other.depth && cost < *other_cost),
            }
        });
        if better {
            best = Some((stack, cost));
        }
    }
    let Some((stack, _)) = best else { return Choice::Idle };
    let files: Vec<&FileShape> = stack.files.iter().map(|&at| &l0[at]).collect();
    let deep = stack.depth >= policy.l0_trigger;
    let reason = if deep { Reason::L0Depth(stack.depth) } else { Reason::L0Bytes(shape.bytes_staying(0)) };
    merge(shape, 0, &files, base, reason)
}

/// The newest files of L0 into one run of L0, while what lies under them is on its way down; idle when that gains little.
pub(super) fn pick_within(shape: &Shape, policy: &Policy) -> Choice {
    let l0 = &shape.levels[0];
    let mut best: Option<Stack> = None;
    let deep = policy.l0_trigger * WITHIN_FACTOR;
    let tops = (0..l0.len()).filter(|&at| l0[at].busy.is_none() && shape.sublevels.of(at) + 1 >= deep);
    for top in tops.take(TOPS_MAX) {
        let stack = stack_of(shape, stretch(shape, top, policy.input_bytes_max));
        if stack.depth >= WITHIN_DEPTH_MIN && best.as_ref().is_none_or(|other| stack.depth > other.depth) {
            best = Some(stack);
        }
    }
    let Some(stack) = best else { return Choice::Idle };
    let files: Vec<&FileShape> = stack.files.iter().map(|&at| &l0[at]).collect();
    let inputs = named(0, &files);
    Choice::Merge { inputs, output: Level(0), reason: Reason::L0Blocked(stack.depth) }
}

/// The longest stretch of the age order that begins at `top` and may become one run; see invariant 2.
fn stretch(shape: &Shape, top: usize, bytes_max: u64) -> Vec<usize> {
    let l0 = &shape.levels[0];
    let (mut files, mut hull, mut bytes) = (Vec::new(), Hull::of(&l0[top].meta), 0);
    let mut longest = 0;
    for (at, file) in l0.iter().enumerate().skip(top) {
        let own = Hull::of(&file.meta);
        if !hull.overlaps(&own) {
            continue;
        }
        // A run that is larger than all above it would be written again and again for little.
        if file.busy.is_some() || bytes + file.meta.size > bytes_max || (files.len() > 1 && file.meta.size > bytes) {
            break;
        }
        bytes += file.meta.size;
        hull = hull.with(own);
        files.push(at);
        if is_stretch(shape, &files, &hull) {
            longest = files.len();
        }
    }
    files.truncate(longest);
    files
}

fn is_stretch(shape: &Shape, files: &[usize], hull: &Hull<'_>) -> bool {
    let l0 = &shape.levels[0];
    if shape.take_in(0, hull).is_none() {
        return false;
    }
    let oldest = files.iter().map(|&at| l0[at].meta.smallest_seqno).min();
    let newest = files.iter().map(|&at| l0[at].meta.largest_seqno).max();
    let Some((oldest, newest)) = oldest.zip(newest) else { return false };
    l0.iter().enumerate().all(|(at, other)| {
        let apart = other.meta.largest_seqno < oldest || other.meta.smallest_seqno > newest;
        apart || !hull.overlaps(&Hull::of(&other.meta)) || files.binary_search(&at).is_ok()
    })
}
