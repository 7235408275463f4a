//! Background work in order of urgency. Any thread of any attached process may run it, several at once.
//!
//! Flushes come first (writers wait for them), then pieces of a compaction that another thread has begun, then the log's
//! ring, then files nobody reads any more, then new compactions.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::Result;
use crate::lsm::Lsm;
use crate::lsm::stall::{StallDecision, StallPolicy, write_delay};

/// Writes are refused below this fraction of option `disk_reserve_bytes`; compaction stops below the whole of it, and writes are
/// refused there, too, once they wait for it.
const REFUSE_FRACTION: u64 = 4;
/// How often the free space is looked at.
const DISK_CHECK: Duration = Duration::from_millis(500);

impl Lsm {
    /// Does the most urgent piece of background work; whether there was any.
    ///
    /// # Errors
    /// I/O, corruption: the piece of work is undone and may be tried again. Closed.
    pub fn run_next_job(&self) -> Result<bool> {
        self.check_open()?;
        self.look_at_disk();
        if self.flush_oldest()? {
            self.update_stall()?;
            return Ok(true);
        }
        if self.help_merge() {
            return Ok(true);
        }
        if self.log.get().is_some_and(|log| log.should_write()) && self.log().write_out()? {
            return Ok(true);
        }
        if self.has_obsolete() && self.remove_obsolete()? > 0 {
            return Ok(true);
        }
        if self.compact_next()? {
            self.update_stall()?;
            return Ok(true);
        }
        self.row_host.get().map_or(Ok(false), |host| host.run_next_job())
    }

    /// Refuses or admits writes by the space that is left.
    pub(crate) fn look_at_disk(&self) {
        let control = self.control();
        let now = self.env.now().as_millis() as u64;
        let last = control.disk_checked_ms.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= DISK_CHECK.as_millis() as u64;
        if !due
            || control.disk_checked_ms.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        match self.env.free_space(&self.dir) {
            Ok(free) => {
                control.disk_free.store(free, Ordering::Relaxed);
                let reserve = self.options.disk_reserve_bytes;
                // Writers that wait for compactions which the disk cannot hold would wait for ever.
                let stopped = control.write_rate.load(Ordering::Relaxed) == STOPPED_RATE;
                let full = free < reserve / REFUSE_FRACTION || (free < reserve && stopped);
                if control.disk_full.swap(u32::from(full), Ordering::Relaxed) != u32::from(full) {
                    if full {
                        tracing::warn!(free, "the disk is nearly full: writes are refused until space returns");
                    } else {
                        tracing::info!(free, "space has returned: writes are accepted again");
                    }
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "could not tell the free space"),
        }
    }

    /// Sets the rate that writers are slowed to from how far compaction is behind.
    pub(crate) fn update_stall(&self) -> Result<()> {
        let input = self.stall_input()?;
        let rate = match write_delay(&input, &StallPolicy::default()) {
            StallDecision::None => 0,
            StallDecision::Slow { bytes_per_second } => bytes_per_second.max(1),
            StallDecision::Stop { .. } => STOPPED_RATE,
        };
        let before = self.control().write_rate.swap(rate, Ordering::Relaxed);
        if (before == 0) != (rate == 0) {
            tracing::debug!(rate, l0 = input.l0_sublevels, "write rate");
        }
        Ok(())
    }
}

/// A stop lets a trickle through, so that a writer always ends; the memtables' number is the hard bound.
const STOPPED_RATE: u64 = 64 << 10;
