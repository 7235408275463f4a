//! Which compaction to run next: a pure function of the files, their levels and what is busy.

use std::fmt;
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level, SeqNo};
use crate::base::limits::LEVEL_COUNT;
use crate::format::version_edit::FileMeta;

/// A file as the picker sees it.
#[derive(Clone, Debug)]
pub struct FileShape {
    /// The file.
    pub meta: Arc<FileMeta>,
    /// It is an input of a running compaction.
    pub busy: bool,
}

/// The levels as the picker sees them: L0 newest first, the others by key.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Files per level.
    pub levels: [Vec<FileShape>; LEVEL_COUNT],
    /// How many files a read of L0 may have to look at.
    pub l0_sublevels: usize,
}

/// The knobs.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Sublevels of L0 at which they are merged into the base level.
    pub l0_trigger: usize,
    /// Smallest target of the base level.
    pub base_bytes: u64,
    /// Factor between the targets of neighbouring levels.
    pub multiplier: u64,
    /// Most bytes that one compaction reads, when it has a choice.
    pub input_bytes_max: u64,
}

/// Why a compaction was picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// L0 has this many sublevels.
    L0Depth(usize),
    /// A level is this many times its target.
    LevelSize(Level, f64),
    /// This share of a file's entries are deletes.
    Deletes(f64),
    /// The caller asked for it.
    Manual,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L0Depth(depth) => write!(f, "L0 is {depth} deep"),
            Self::LevelSize(level, score) => write!(f, "{level} is {score:.2} times its target"),
            Self::Deletes(share) => write!(f, "{:.0} % of a file are deletes", share * 100.0),
            Self::Manual => f.write_str("asked for"),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Nothing.
    Idle,
    /// Give a file to another level as it is.
    Move {
        /// The file.
        file: FileNumber,
        /// Its level.
        from: Level,
        /// Its new level.
        to: Level,
        /// Why.
        reason: Reason,
    },
    /// Merge files into a level.
    Merge {
        /// The inputs, with every file of the output level that they overlap.
        inputs: Vec<(Level, FileNumber)>,
        /// Where the outputs go.
        output: Level,
        /// Why.
        reason: Reason,
    },
}

/// Targets of the levels, and the first level below L0 that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Where L0 is merged to.
    pub base: usize,
    /// Bytes per level; 0 above the base.
    pub bytes: [u64; LEVEL_COUNT],
}

impl Shape {
    /// Bytes of a level.
    #[must_use]
    pub fn bytes(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|f| f.meta.size).sum()
    }

    /// Level sizes from the bottom up: the last level with data is at its target, each one above is a factor smaller, and
    /// the base is the first that would not be smaller than `base_bytes`. So garbage is at most about a ninth.
    #[must_use]
    pub fn targets(&self, policy: &Policy) -> Targets {
        let last = (1..LEVEL_COUNT).rev().find(|&level| !self.levels[level].is_empty()).unwrap_or(LEVEL_COUNT - 1);
        let last = last.max(LEVEL_COUNT - 1);
        let mut bytes = [0; LEVEL_COUNT];
        let largest = (1..LEVEL_COUNT).map(|level| self.bytes(level)).max().unwrap_or(0);
        let mut target = largest.max(policy.base_bytes);
        let mut base = last;
        bytes[last] = target;
        while base > 1 && target > policy.base_bytes {
            target = (target / policy.multiplier).max(policy.base_bytes);
            base -= 1;
            bytes[base] = target;
        }
        // Never skip a level that still has data: L0 must not be merged below it.
        if let Some(first) = (1..base).find(|&level| !self.levels[level].is_empty()) {
            bytes[first..base].fill(policy.base_bytes);
            base = first;
        }
        Targets { base, bytes }
    }

    /// Bytes that compaction has to read to bring every level to its target, roughly.
    #[must_use]
    pub fn debt(&self, policy: &Policy) -> u64 {
        let targets = self.targets(policy);
        let mut debt =
            if self.l0_sublevels >= policy.l0_trigger { self.bytes(0) + self.bytes(targets.base) } else { 0 };
        for level in targets.base..LEVEL_COUNT - 1 {
            debt += self.bytes(level).saturating_sub(targets.bytes[level]) * (policy.multiplier + 1);
        }
        debt
    }

    /// Indices of the files of `level` that overlap any of `files`.
    fn overlapping<'f>(&self, level: usize, files: impl Iterator<Item = &'f FileShape> + Clone) -> Vec<&FileShape> {
        self.levels[level].iter().filter(|f| files.clone().any(|other| f.meta.overlaps(&other.meta))).collect()
    }
}

/// The most urgent compaction.
#[must_use]
pub fn pick(shape: &Shape, policy: &Policy) -> Choice {
    let targets = shape.targets(policy);
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    if shape.l0_sublevels >= policy.l0_trigger {
        candidates.push((shape.l0_sublevels as f64 / policy.l0_trigger as f64, 0));
    }
    for level in targets.base..LEVEL_COUNT - 1 {
        let score = shape.bytes(level) as f64 / targets.bytes[level].max(1) as f64;
        if score > 1.0 {
            candidates.push((score, level));
        }
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (score, level) in candidates {
        let choice = if level == 0 {
            pick_l0(shape, targets.base, Reason::L0Depth(shape.l0_sublevels))
        } else {
            pick_file(shape, level, Reason::LevelSize(Level(level as u8), score))
        };
        if choice != Choice::Idle {
            return choice;
        }
    }
    pick_deletes(shape)
}

/// All of L0 into the base level.
fn pick_l0(shape: &Shape, base: usize, reason: Reason) -> Choice {
    let files = &shape.levels[0];
    if files.is_empty() || files.iter().any(|f| f.busy) {
        return Choice::Idle;
    }
    merge(shape, 0, files.iter().collect(), base, reason)
}

/// The file of `level` whose merge into the next level rewrites the least there for what it takes away here.
fn pick_file(shape: &Shape, level: usize, reason: Reason) -> Choice {
    let cost = |file: &FileShape| {
        let overlap = shape.overlapping(level + 1, std::iter::once(file));
        if file.busy || overlap.iter().any(|f| f.busy) {
            return None;
        }
        let bytes: u64 = overlap.iter().map(|f| f.meta.size).sum();
        Some(bytes as f64 / file.meta.size.max(1) as f64)
    };
    let best = shape.levels[level].iter().filter_map(|f| Some((cost(f)?, f))).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(Choice::Idle, |(_, file)| merge(shape, level, vec![file], level + 1, reason))
}

/// A file that is mostly deletes, so that scans stop stepping over them.
fn pick_deletes(shape: &Shape) -> Choice {
    const SHARE: f64 = 0.5;
    const ENTRIES_MIN: u64 = 1000;
    for level in 1..LEVEL_COUNT - 1 {
        for file in shape.levels[level].iter().filter(|f| !f.busy && f.meta.entries >= ENTRIES_MIN) {
            let share = file.meta.deletes as f64 / file.meta.entries as f64;
            if share < SHARE {
                continue;
            }
            let choice = merge(shape, level, vec![file], level + 1, Reason::Deletes(share));
            if matches!(choice, Choice::Merge { .. }) {
                return choice;
            }
        }
    }
    Choice::Idle
}

/// `files` of `level` with what they overlap in `output`; a move when that is nothing.
fn merge(shape: &Shape, level: usize, files: Vec<&FileShape>, output: usize, reason: Reason) -> Choice {
    let overlap = shape.overlapping(output, files.iter().copied());
    if files.iter().chain(&overlap).any(|f| f.busy) {
        return Choice::Idle;
    }
    if let [file] = files[..]
        && overlap.is_empty()
    {
        let (from, to) = (Level(level as u8), Level(output as u8));
        return Choice::Move { file: file.meta.number, from, to, reason };
    }
    let named = |level: usize, files: &[&FileShape]| -> Vec<_> {
        files.iter().map(|f| (Level(level as u8), f.meta.number)).collect()
    };
    let mut inputs = named(level, &files);
    inputs.extend(named(output, &overlap));
    Choice::Merge { inputs, output: Level(output as u8), reason }
}

/// A step of merging everything to the last level: the shallowest level with files, whole, into the next one in use.
#[must_use]
pub fn pick_manual(shape: &Shape) -> Choice {
    if shape.levels.iter().flatten().any(|f| f.busy) {
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
    if file.busy {
        return Some(Choice::Idle);
    }
    let level = Level(last as u8);
    Some(Choice::Merge { inputs: vec![(level, file.meta.number)], output: level, reason: Reason::Manual })
}
