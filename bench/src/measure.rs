//! Reading the kernel's books on this process, and latencies.
//!
//! On Linux from /proc, so that no unsafe code is needed; elsewhere these figures are zero, which the report shows as
//! "not measured".

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Result;
use crate::spec::Measured;

/// Counters of this process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    cpu_seconds: f64,
    read: u64,
    written: u64,
    cancelled: u64,
}

/// Ticks per second of the times in /proc/self/stat; fixed by the kernel's interface on every platform we run on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    /// The counters now.
    #[must_use]
    pub fn now() -> Self {
        let io = text("/proc/self/io");
        Self {
            cpu_seconds: cpu_seconds(&text("/proc/self/stat")),
            read: field(&io, "read_bytes:"),
            written: field(&io, "write_bytes:"),
            cancelled: field(&io, "cancelled_write_bytes:"),
        }
    }

    /// Writes what was used since `start` into `out`.
    pub fn since(&self, start: &Self, out: &mut Measured) {
        out.cpu_seconds = self.cpu_seconds - start.cpu_seconds;
        out.device_read = self.read - start.read;
        out.device_written = self.written - start.written;
        out.device_cancelled = self.cancelled.saturating_sub(start.cancelled);
    }
}

/// Waits until this process has written nothing for a while: background work that reports no end has ended then.
pub fn await_quiet() {
    const PAUSE: Duration = Duration::from_millis(20);
    const TIMES: u32 = 10;
    let (mut quiet, mut last) = (0, u64::MAX);
    while quiet < TIMES {
        let written = Usage::now().written;
        quiet = if written == last { quiet + 1 } else { 0 };
        last = written;
        std::thread::park_timeout(PAUSE);
    }
}

/// Most resident memory so far.
#[must_use]
pub fn rss_max_bytes() -> u64 {
    field(&text("/proc/self/status"), "VmHWM:") * 1024
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The number behind `name` at the start of a line; zero when there is none.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|v| v.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time in a /proc/…/stat line: the 14th and 15th field; the second is a name that may hold spaces.
fn cpu_seconds(stat: &str) -> f64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

/// Bytes that the files below `dir` take on disk.
///
/// # Errors
/// When a directory cannot be read.
pub fn space_bytes(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file may be deleted by the store between listing and asking.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { space_bytes(&entry.path())? } else { allocated(&metadata) };
    }
    Ok(sum)
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// Makes the page cache forget the files below `dir`, where the system can.
///
/// # Errors
/// When a file cannot be read.
pub fn evict(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
            continue;
        }
        let file = std::fs::File::open(&path)?;
        // Only clean pages can be dropped.
        file.sync_data()?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// Latencies of operations done one after the other: each takes from the end of the one before to its own end.
pub struct Latencies {
    histogram: Histogram<u64>,
    last: Instant,
}

/// Latencies from a nanosecond to a minute, to three digits.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

impl Latencies {
    /// No latencies yet; the first operation starts now.
    ///
    /// # Errors
    /// None in practice: the bounds are constants.
    pub fn start() -> Result<Self> {
        Ok(Self { histogram: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)?, last: Instant::now() })
    }

    /// Ends an operation, and starts the next; returns the moment between them.
    #[inline]
    pub fn lap(&mut self) -> Instant {
        self.lap_of(1)
    }

    /// As [`lap`](Self::lap), for so many operations that were done together: each has the latency of all.
    pub fn lap_of(&mut self, count: u64) -> Instant {
        let now = Instant::now();
        self.record_all(now - self.last, count);
        self.last = now;
        now
    }

    /// Adds an operation that was timed elsewhere.
    pub fn record(&mut self, time: Duration) {
        self.record_all(time, 1);
    }

    fn record_all(&mut self, time: Duration, count: u64) {
        self.histogram.saturating_record_n(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), count);
    }

    /// Adds another thread's latencies.
    ///
    /// # Errors
    /// None in practice: both have the same bounds.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.histogram.add(&other.histogram)?)
    }

    /// Count of operations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Writes count and percentiles into `out`.
    pub fn report(&self, out: &mut Measured) {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        out.ops = self.count();
        (out.p50_us, out.p95_us, out.p99_us, out.p999_us) = (at(0.5), at(0.95), at(0.99), at(0.999));
        out.max_us = self.histogram.max() as f64 / 1e3;
    }
}

/// A pace of `per_second` steps: sleeps when it is ahead.
pub struct Pace {
    start: Instant,
    step: Duration,
    taken: u32,
}

impl Pace {
    /// A pace that starts now.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self {
            start: Instant::now(),
            step: Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(u32::MAX),
            taken: 0,
        }
    }

    /// Takes a step, not before its time. Waits in pieces of a millisecond or more, so that waiting costs little.
    pub fn step(&mut self) {
        self.taken += 1;
        let due = self.step * self.taken;
        let elapsed = self.start.elapsed();
        if due > elapsed + Duration::from_millis(1) {
            std::thread::park_timeout(due - elapsed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_books() {
        let stat = "123 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20";
        assert!((cpu_seconds(stat) - 4.0).abs() < 1e-9);
        assert_eq!(field("a: 1\nread_bytes: 4096\n", "read_bytes:"), 4096);
        assert_eq!(field("", "x:"), 0);
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latencies = Latencies::start().unwrap();
        for nanos in [1_000, 2_000, 3_000_000] {
            latencies.histogram.saturating_record(nanos);
        }
        let mut out = Measured::default();
        latencies.report(&mut out);
        assert_eq!(out.ops, 3);
        assert!((out.p50_us - 2.0).abs() < 0.01 && (out.max_us - 3000.0).abs() < 3.0);
    }

    #[test]
    fn space_counts_files_below() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 10_000]).unwrap();
        assert!(space_bytes(dir.path()).unwrap() >= 10_000);
        evict(dir.path()).unwrap();
    }
}
