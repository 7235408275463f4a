//! How much writers are slowed when background work is behind: pure, from debt to a rate.
//!
//! Between two thresholds of each debt (sublevels of L0, bytes that compaction owes, memtables waiting for their flush) the
//! rate falls geometrically from fast to slow, so that a small debt costs little and writers never meet a wall.

/// What the decision looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallInput {
    /// Sorted runs of L0 that a read has to look at.
    pub l0_sublevels: usize,
    /// Bytes that compaction has to rewrite until every level is within its target.
    pub debt_bytes: u64,
    /// Memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Memtables there are.
    pub memtables: usize,
}

/// Where slowing starts and where it is greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallPolicy {
    /// Sublevels of L0.
    pub l0_slow: usize,
    /// Sublevels of L0 at which writes stop.
    pub l0_stop: usize,
    /// Debt in bytes.
    pub debt_slow: u64,
    /// Debt in bytes at which writes stop.
    pub debt_stop: u64,
}

impl Default for StallPolicy {
    /// L0: five compactions' worth to nine. Debt: as RocksDB's soft and hard limits on pending compaction bytes.
    fn default() -> Self {
        Self { l0_slow: 20, l0_stop: 36, debt_slow: 64 << 30, debt_stop: 256 << 30 }
    }
}

/// What becomes of writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallDecision {
    /// They go at their own speed.
    None,
    /// All together may write so much.
    Slow {
        /// Bytes of batches per second.
        bytes_per_second: u64,
    },
    /// They wait for background work.
    Stop {
        /// What is too much.
        reason: &'static str,
    },
}

/// The rate where slowing starts, in bytes per second; more than one SSD takes in the long run.
const FAST: f64 = 512e6;
/// The rate just before the stop.
const SLOW: f64 = 1e6;

/// Decides for `input`.
#[must_use]
pub fn write_delay(input: &StallInput, policy: &StallPolicy) -> StallDecision {
    let share = |value: u64, slow: u64, stop: u64| value.saturating_sub(slow) as f64 / (stop - slow).max(1) as f64;
    let l0 = share(input.l0_sublevels as u64, policy.l0_slow as u64, policy.l0_stop as u64);
    let debt = share(input.debt_bytes, policy.debt_slow, policy.debt_stop);
    let worst = l0.max(debt);
    if worst >= 1.0 {
        let reason = if l0 >= debt { "too many sorted runs in L0" } else { "compaction is too far behind" };
        return StallDecision::Stop { reason };
    }
    if worst <= 0.0 {
        return StallDecision::None;
    }
    StallDecision::Slow { bytes_per_second: (FAST * (SLOW / FAST).powf(worst)) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_smoothly_with_the_debt() {
        let policy = StallPolicy::default();
        let decide = |l0_sublevels, debt_bytes| {
            let input = StallInput { l0_sublevels, debt_bytes, immutable_memtables: 0, memtables: 4 };
            write_delay(&input, &policy)
        };
        assert_eq!(decide(20, 0), StallDecision::None);
        let rates: Vec<_> = (21..36)
            .map(|l0| match decide(l0, 0) {
                StallDecision::Slow { bytes_per_second } => bytes_per_second,
                other => panic!("{other:?} at {l0}"),
            })
            .collect();
        assert!(rates.windows(2).all(|w| w[1] < w[0] && w[1] > w[0] / 2), "{rates:?}");
        assert_eq!(decide(36, 0), StallDecision::Stop { reason: "too many sorted runs in L0" });
        assert_eq!(decide(0, 300 << 30), StallDecision::Stop { reason: "compaction is too far behind" });
        assert!(matches!(decide(25, 100 << 30), StallDecision::Slow { .. }));
    }
}
