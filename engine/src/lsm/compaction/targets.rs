//! How large each level should be, and how far the levels are from it: pure.

use crate::base::limits::LEVEL_COUNT;
use crate::lsm::compaction::shape::Shape;
use crate::options::Options;

/// Sublevels of L0 at which they are merged into the base level when that is cheap.
const L0_TRIGGER: usize = 4;
/// At this many times the trigger L0 is merged whatever it rewrites: a scan should not have to merge more runs.
pub(super) const DEEP_FACTOR: usize = 2;
/// At this many times the trigger, when the way down is busy, L0 is merged within itself.
pub(super) const WITHIN_FACTOR: usize = 3;
/// The factor above the last level is at least this share of option `level_multiplier`, however even steps would be: a
/// smaller one would cost space (1 / factor of the data).
const LAST_FACTOR_SHARE: f64 = 0.6;
/// There is a level above the last one when that has this many times the base's bytes. With less the upper one, as large as L0
/// when it is merged, would save a tenth of the writes at most, and hold as much garbage as there is data.
const STEP_MIN: f64 = 4.0;

/// The knobs.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Sublevels of L0 at which they are merged into the base level when that is cheap; at [`DEEP_FACTOR`] times as many they
    /// always are.
    pub l0_trigger: usize,
    /// Bytes of L0 beyond which it is merged into the base level, however few sublevels they are.
    pub l0_bytes: u64,
    /// Smallest target of the base level.
    pub base_bytes: u64,
    /// Largest factor between the targets of neighbouring levels.
    pub multiplier: u64,
    /// Most bytes that one compaction reads, when it has a choice.
    pub input_bytes_max: u64,
}

impl Policy {
    /// The knobs that `options` ask for.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        // As much as L0 holds when it is deep enough to be merged at any price: then each byte of it rewrites about one.
        let from_memtables = options.memtable_bytes as u64 * (L0_TRIGGER * DEEP_FACTOR) as u64;
        Self {
            l0_trigger: L0_TRIGGER,
            l0_bytes: from_memtables,
            base_bytes: if options.base_level_bytes == 0 { from_memtables } else { options.base_level_bytes },
            multiplier: options.level_multiplier.into(),
            input_bytes_max: 25 * options.target_file_bytes,
        }
    }
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
    /// Level sizes from the bottom up: the last level is at its target, and steps that are about even, each at most the
    /// multiplier, lead up to a base of `base_bytes`. Even steps rewrite less than steps of 10 with a small one on top: what
    /// a level costs grows with its step. Garbage below L0 is at most about a sixth of the data with a multiplier of 10, mostly
    /// less; a quarter where the last level is only four times the base.
    #[must_use]
    pub fn targets(&self, policy: &Policy) -> Targets {
        let last = LEVEL_COUNT - 1;
        let mut bytes = [0; LEVEL_COUNT];
        let largest = (1..LEVEL_COUNT).map(|level| self.bytes(level)).max().unwrap_or(0);
        let mut target = largest.max(policy.base_bytes);
        let base_bytes = policy.base_bytes.max(1) as f64;
        let multiplier = policy.multiplier as f64;
        let size = target as f64 / base_bytes;
        let steps = (size.ln() / multiplier.ln()).ceil().clamp(0.0, (last - 1) as f64) as usize;
        let steps = if size < STEP_MIN { 0 } else { steps };
        let mut base = last;
        bytes[last] = target;
        for left in (1..=steps).rev() {
            let even = (target as f64 / base_bytes).powf(1.0 / left as f64).max(1.0);
            let factor = if base == last { even.max(LAST_FACTOR_SHARE * multiplier) } else { even };
            target = ((target as f64 / factor) as u64).max(policy.base_bytes);
            base -= 1;
            bytes[base] = target;
        }
        // Never skip a level that has data, or will have: L0 must not be merged below it. Its target is 0, so it empties.
        let in_use = |level: usize| {
            !self.levels[level].is_empty() || self.running.iter().any(|other| other.output.index() == level)
        };
        if let Some(first) = (1..base).find(|&level| in_use(level)) {
            base = first;
        }
        Targets { base, bytes }
    }

    /// How urgent L0 is; 1 where it may be merged, [`DEEP_FACTOR`] where it must be.
    #[must_use]
    pub fn l0_score(&self, policy: &Policy) -> f64 {
        let depth = self.sublevels.count() as f64 / policy.l0_trigger as f64;
        let bytes = self.bytes_staying(0) as f64 / policy.l0_bytes as f64;
        if bytes > 1.0 { depth.max(bytes * DEEP_FACTOR as f64) } else { depth }
    }

    /// Bytes that compaction has to read to bring every level to its target, roughly.
    #[must_use]
    pub fn debt(&self, policy: &Policy) -> u64 {
        let targets = self.targets(policy);
        let deep = self.l0_score(policy) >= DEEP_FACTOR as f64;
        let mut debt = if deep { self.bytes(0) + self.bytes(targets.base) } else { 0 };
        for level in targets.base..LEVEL_COUNT - 1 {
            debt += self.bytes(level).saturating_sub(targets.bytes[level]) * (policy.multiplier + 1);
        }
        debt
    }
}
