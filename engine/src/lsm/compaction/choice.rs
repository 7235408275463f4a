//! What the picker says: what to do next, and why.

use std::fmt;

use crate::base::ids::{FileNumber, Level};

/// Why a compaction was picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// A stack of L0 has this many sublevels.
    L0Depth(usize),
    /// L0 has this many bytes.
    L0Bytes(u64),
    /// A stack of L0 has this many sublevels, and the way to the base is busy.
    L0Blocked(usize),
    /// A level is this many times its target.
    LevelSize(Level, f64),
    /// A level is above the base: the data has shrunk, or options have changed.
    LeftOver(Level),
    /// This share of a file's entries are deletes.
    Deletes(f64),
    /// A file's range tombstones cover this many bytes below.
    RangeDeletes(u64),
    /// A newer range tombstone covers all of the files, for every reader.
    Covered,
    /// The caller asked for it.
    Manual,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L0Depth(depth) => write!(f, "L0 is {depth} deep"),
            Self::L0Bytes(bytes) => write!(f, "L0 has {bytes} bytes"),
            Self::L0Blocked(depth) => write!(f, "L0 is {depth} deep and its way down is busy"),
            Self::LevelSize(level, score) => write!(f, "{level} is {score:.2} times its target"),
            Self::LeftOver(level) => write!(f, "{level} is not needed any more"),
            Self::Deletes(share) => write!(f, "{:.0} % of a file are deletes", share * 100.0),
            Self::RangeDeletes(bytes) => write!(f, "range tombstones of a file cover {bytes} bytes below"),
            Self::Covered => f.write_str("covered by a newer range tombstone"),
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
        /// The inputs, with every file of the output level (unless that is L0) in the hull of them all.
        inputs: Vec<(Level, FileNumber)>,
        /// Where the outputs go.
        output: Level,
        /// Why.
        reason: Reason,
    },
    /// Take files out without reading them.
    Drop {
        /// The files.
        files: Vec<(Level, FileNumber)>,
        /// Why.
        reason: Reason,
    },
}

impl Choice {
    /// The files it works on.
    #[must_use]
    pub fn files(&self) -> Vec<(Level, FileNumber)> {
        match self {
            Self::Idle => Vec::new(),
            Self::Move { file, from, .. } => vec![(*from, *file)],
            Self::Merge { inputs, .. } => inputs.clone(),
            Self::Drop { files, .. } => files.clone(),
        }
    }

    /// The level it writes to, if it writes.
    #[must_use]
    pub const fn output(&self) -> Option<Level> {
        match self {
            Self::Idle | Self::Drop { .. } => None,
            Self::Move { to, .. } => Some(*to),
            Self::Merge { output, .. } => Some(*output),
        }
    }
}
