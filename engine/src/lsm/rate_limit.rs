//! A token bucket in the region: bytes per second over all threads and processes.
//!
//! The bucket is one word: the time, in microseconds, up to which the rate is spent. Taking tokens moves it on; whoever moves
//! it past now (plus a burst) waits for the difference. No lock, no refill job, no drift.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shared_struct;

/// How far ahead of now the rate may be spent without waiting.
const BURST_US: u64 = 20_000;
/// Longest wait handed out at once, so that a change of the rate is felt soon.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// Who takes tokens. Flushes may overdraw the bucket further: writers wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Writers stall when flushes are late.
    Flush,
    /// Everything else.
    Compaction,
}

shared_struct! {
    /// The bucket. Zeroed: nothing spent.
    pub struct TokenBucket {
        spent_until_us: AtomicU64,
    }
}

impl TokenBucket {
    /// Takes `bytes` at `rate` bytes per second (not 0); how long to wait before going on.
    pub fn take(&self, bytes: u64, rate: u64, now: Duration) -> Duration {
        self.take_with_burst(bytes, rate, BURST_US, now)
    }

    /// As [`take`](Self::take), with the head start of a priority.
    pub fn take_at(&self, bytes: u64, rate: u64, priority: Priority, now: Duration) -> Duration {
        let burst = match priority {
            Priority::Flush => 25 * BURST_US,
            Priority::Compaction => BURST_US,
        };
        self.take_with_burst(bytes, rate, burst, now)
    }

    fn take_with_burst(&self, bytes: u64, rate: u64, burst_us: u64, now: Duration) -> Duration {
        let now_us = now.as_micros() as u64;
        let cost_us = (u128::from(bytes) * 1_000_000 / u128::from(rate.max(1))).min(1 << 40) as u64;
        let spend = |until: u64| Some(until.max(now_us).saturating_add(cost_us));
        let before = self.spent_until_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).unwrap_or(0);
        let after = before.max(now_us) + cost_us;
        Duration::from_micros(after.saturating_sub(now_us + burst_us)).min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time() {
        let bucket = TokenBucket { spent_until_us: AtomicU64::new(0) };
        let (mut now, mut bytes) = (Duration::from_secs(5), 0u64);
        let start = now;
        while now < start + Duration::from_secs(10) {
            now += bucket.take(4096, 1 << 20, now).max(Duration::from_micros(1));
            bytes += 4096;
        }
        let rate = bytes as f64 / 10.0;
        assert!((rate / f64::from(1u32 << 20) - 1.0).abs() < 0.01, "{rate} bytes per second");
    }

    #[test]
    fn idle_time_is_not_saved_up_and_flushes_go_first() {
        let bucket = TokenBucket { spent_until_us: AtomicU64::new(0) };
        let now = Duration::from_secs(100);
        assert_eq!(bucket.take(1000, 1 << 20, now), Duration::ZERO);
        let compaction = bucket.take_at(400_000, 1 << 20, Priority::Compaction, now);
        assert_eq!(compaction, WAIT_MAX);
        assert_eq!(bucket.take_at(1000, 1 << 20, Priority::Flush, now), Duration::ZERO);
    }
}
