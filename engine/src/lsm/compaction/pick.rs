//! Which compaction to run next: a pure function of the files, their levels and what is under way.
//!
//! What is picked may run beside everything that is under way:
//!
//! 1. No input is busy.
//! 2. Outputs lie within the hull of *all* inputs, also where there are gaps between these; every file of the output level
//!    in that hull is an input, and no running compaction writes there. So a level stays disjoint, in whatever order
//!    compactions end.
//! 3. Data only goes to the next level in use, so newer versions never get below older ones; what this asks of L0 is in
//!    `pick_l0`.

use crate::base::ids::{FileNumber, Level, SeqNo};
use crate::base::limits::LEVEL_COUNT;
use crate::lsm::compaction::choice::{Choice, Reason};
use crate::lsm::compaction::shape::{FileShape, Hull, Shape};
use crate::lsm::compaction::targets::Policy;
use crate::lsm::compaction::{pick_deletes, pick_l0};

/// Neighbouring files of a level that go down together at most.
const RUN_FILES_MAX: usize = 4;

/// The most urgent compaction.
#[must_use]
pub fn pick(shape: &Shape, policy: &Policy) -> Choice {
    let covered = pick_deletes::pick_covered(shape);
    if covered != Choice::Idle {
        return covered;
    }
    let targets = shape.targets(policy);
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    let l0_score = shape.l0_score(policy);
    if l0_score >= 1.0 {
        candidates.push((l0_score, 0));
    }
    for level in targets.base..LEVEL_COUNT - 1 {
        let score = shape.bytes_staying(level) as f64 / targets.bytes[level].max(1) as f64;
        if score > 1.0 {
            candidates.push((score, level));
        }
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (score, level) in candidates {
        let choice = match level {
            0 => match pick_l0::pick_down(shape, policy, targets.base) {
                Choice::Idle => pick_l0::pick_within(shape, policy),
                down => down,
            },
            _ if targets.bytes[level] == 0 => pick_run(shape, policy, level, Reason::LeftOver(Level(level as u8))),
            _ => pick_run(shape, policy, level, Reason::LevelSize(Level(level as u8), score)),
        };
        if choice != Choice::Idle {
            return choice;
        }
    }
    match pick_deletes::pick_dense(shape) {
        Choice::Idle => pick_deletes::pick_covering(shape),
        dense => dense,
    }
}

/// The neighbouring files of `level` whose merge into the next level rewrites the least there for what it takes away here.
fn pick_run(shape: &Shape, policy: &Policy, level: usize, reason: Reason) -> Choice {
    let files = &shape.levels[level];
    let mut best: Option<(f64, &[FileShape])> = None;
    for from in 0..files.len() {
        let mut bytes = 0;
        for to in from + 1..=files.len().min(from + RUN_FILES_MAX) {
            let run = &files[from..to];
            let (first, last) = (&run[0], &run[run.len() - 1]);
            bytes += last.meta.size;
            let hull = Hull::of(&first.meta).with(Hull::of(&last.meta));
            let Some(overlap) = shape.take_in(level + 1, &hull).filter(|_| last.busy.is_none()) else { break };
            let below: u64 = overlap.iter().map(|f| f.meta.size).sum();
            if run.len() > 1 && bytes + below > policy.input_bytes_max {
                break;
            }
            let cost = below as f64 / bytes.max(1) as f64;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, run));
            }
        }
    }
    let Some((_, run)) = best else { return Choice::Idle };
    merge(shape, level, &run.iter().collect::<Vec<_>>(), level + 1, reason)
}

pub(super) fn named(level: usize, files: &[&FileShape]) -> Vec<(Level, FileNumber)> {
    files.iter().map(|f| (Level(level as u8), f.meta.number)).collect()
}

/// `files` of `level` with what lies in their hull in `output`; a move when that is nothing.
pub(super) fn merge(shape: &Shape, level: usize, files: &[&FileShape], output: usize, reason: Reason) -> Choice {
    let Some(hull) = Hull::of_all(files.iter().map(|f| &*f.meta)) else { return Choice::Idle };
    let Some(overlap) = shape.take_in(output, &hull) else { return Choice::Idle };
    if files.iter().any(|f| f.busy.is_some()) {
        return Choice::Idle;
    }
    if let [file] = files
        && overlap.is_empty()
        && !pick_deletes::has_useless_deletes(shape, file, output)
    {
        let (from, to) = (Level(level as u8), Level(output as u8));
        return Choice::Move { file: file.meta.number, from, to, reason };
    }
    let mut inputs = named(level, files);
    inputs.extend(named(output, &overlap.iter().collect::<Vec<_>>()));
    Choice::Merge { inputs, output: Level(output as u8), reason }
}

/// A step of merging everything to the last level: the shallowest level with files, whole, into the next one in use.
#[must_use]
pub fn pick_manual(shape: &Shape) -> Choice {
    if shape.levels.iter().flatten().any(|f| f.busy.is_some()) {
        return Choice::Idle;
    }
    let Some(top) = (0..LEVEL_COUNT).find(|&level| !shape.levels[level].is_empty()) else { return Choice::Idle };
    let output = (top + 1..LEVEL_COUNT).find(|&level| !shape.levels[level].is_empty()).unwrap_or(LEVEL_COUNT - 1);
    if top == output {
        return Choice::Idle;
    }
    let named = |level: usize| shape.levels[level].iter().map(move |f| (Level(level as u8), f.meta.number));
    Choice::Merge {
        inputs: named(top).chain(named(output)).collect(),
        output: Level(output as u8),
        reason: Reason::Manual,
    }
}

/// A file of the last level that was made before file `made_before` and may hold what readers of that time needed: when all
/// its sequence numbers are forgotten, it holds nothing else. `None`: there is none left; idle: it is busy.
#[must_use]
pub fn pick_rewrite(shape: &Shape, made_before: FileNumber) -> Option<Choice> {
    let last = LEVEL_COUNT - 1;
    let stale = |file: &&FileShape| file.meta.number < made_before && file.meta.largest_seqno > SeqNo(0);
    let file = shape.levels[last].iter().find(stale)?;
    Some(pick_deletes::rewrite(shape, last, file, Reason::Manual))
}

#[cfg(test)]
mod drawn;
#[cfg(test)]
mod tests;
