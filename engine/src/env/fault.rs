//! Faults on demand: which operation of a simulated world fails, and how.
//!
//! Every operation of the world is counted and asks here before it is done. Scheduled faults name an operation by its
//! distance from now (1 is the next one; 0 is taken as 1) and wait for the first operation, there or later, that they can
//! befall: a short write befalls writes, a lost sync syncs, a full disk whatever takes space, the rest anything.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::random::Random;

/// Operations that the trace remembers unless told otherwise.
const TRACE_LEN: usize = 32;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It does nothing and reports an I/O error.
    Eio,
    /// It does nothing and reports a full disk.
    NoSpace,
    /// Half of the bytes are written, then it reports an I/O error.
    ShortWrite,
    /// A sync reports an I/O error and everything unsynced in the file is lost: it never becomes stable, whatever later
    /// syncs report, though reads may still show it.
    SyncLost,
    /// The process dies in it: it may or may not have taken effect, and every operation from then on fails, until the
    /// world's `crash` is called.
    Crash,
}

/// An operation that is counted and can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Open a file, or create it.
    Open,
    /// Create a file.
    Create,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Sync a file.
    Sync,
    /// Rename a file.
    Rename,
    /// Link a file.
    Link,
    /// Remove a file.
    Remove,
    /// List a directory.
    List,
    /// Create a directory.
    CreateDir,
    /// Sync a directory.
    SyncDir,
    /// Set a file's length.
    SetLen,
    /// Reserve space.
    Allocate,
    /// Map a file.
    Map,
}

impl Op {
    /// The words for an error message: "could not …".
    pub(super) const fn attempt(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::List => "list",
            Self::CreateDir => "create directory",
            Self::SyncDir => "sync directory",
            Self::SetLen => "set the length of",
            Self::Allocate => "allocate",
            Self::Map => "map",
        }
    }
}

impl FaultKind {
    /// Whether `op` can fail this way.
    const fn befalls(self, op: Op) -> bool {
        match self {
            Self::Eio | Self::Crash => true,
            Self::ShortWrite => matches!(op, Op::Write),
            Self::SyncLost => matches!(op, Op::Sync),
            Self::NoSpace => matches!(
                op,
                Op::Create | Op::Write | Op::Rename | Op::Link | Op::CreateDir | Op::SetLen | Op::Allocate | Op::Map
            ),
        }
    }
}

/// A scheduled fault.
#[derive(Clone, Copy)]
struct Rule {
    /// Number of the first operation that it may befall.
    from: u64,
    kind: FaultKind,
    /// Stays after it struck.
    sticky: bool,
}

struct State {
    count: u64,
    rules: Vec<Rule>,
    per_million: u32,
    latency: RangeInclusive<Duration>,
    random: Random,
    crashed: bool,
    trace: VecDeque<(u64, Op, PathBuf, Option<FaultKind>)>,
    trace_len: usize,
    fingerprint: u64,
}

/// The faults of one simulated world.
pub struct Faults {
    state: Mutex<State>,
}

/// What becomes of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done as asked.
    Done,
    /// It fails this way.
    Fails(FaultKind),
    /// The process dies in it, after it was done.
    DiesAfter,
    /// The process is dead.
    Dead,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                count: 0,
                rules: Vec::new(),
                per_million: 0,
                latency: Duration::ZERO..=Duration::ZERO,
                random: Random::new(seed),
                crashed: false,
                trace: VecDeque::new(),
                trace_len: TRACE_LEN,
                fingerprint: 0,
            }),
        }
    }

    /// Makes one operation fail: the `nth_from_now`th, or the first after it that can fail this way.
    pub fn fail_at(&self, nth_from_now: u64, kind: FaultKind) {
        self.schedule(nth_from_now, kind, false);
    }

    /// Makes every operation that can fail this way fail, from the `nth_from_now`th on.
    pub fn fail_from(&self, nth_from_now: u64, kind: FaultKind) {
        self.schedule(nth_from_now, kind, true);
    }

    fn schedule(&self, nth_from_now: u64, kind: FaultKind, sticky: bool) {
        let mut state = self.state.lock();
        let from = state.count.saturating_add(nth_from_now.max(1));
        state.rules.push(Rule { from, kind, sticky });
    }

    /// Makes each operation fail with an I/O error with this probability, until called again; 0 ends it.
    pub fn fail_randomly(&self, per_million: u32) {
        self.state.lock().per_million = per_million;
    }

    /// Forgets all scheduled faults and the random ones. A process that died stays dead.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.rules.clear();
        state.per_million = 0;
    }

    /// Makes each operation take a seeded random time in this range, by the world's clock.
    pub fn set_latency(&self, latency: RangeInclusive<Duration>) {
        self.state.lock().latency = latency;
    }

    /// A hash of all operations counted so far, in order: two runs that differ do not have the same.
    pub fn fingerprint(&self) -> u64 {
        self.state.lock().fingerprint
    }

    /// Operations counted so far.
    pub fn op_count(&self) -> u64 {
        self.state.lock().count
    }

    /// Whether a [`FaultKind::Crash`] struck and `crash` has not been called since.
    pub fn is_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Sets how many operations the trace remembers.
    pub fn set_trace_len(&self, len: usize) {
        let mut state = self.state.lock();
        state.trace_len = len;
        let excess = state.trace.len().saturating_sub(len);
        state.trace.drain(..excess);
    }

    /// The last operations, oldest first, as lines "number operation path" with the fault that struck, for messages.
    pub fn trace(&self) -> Vec<String> {
        let state = self.state.lock();
        let line = |(number, op, path, fault): &(u64, Op, PathBuf, Option<FaultKind>)| {
            let mut line = format!("{number} {} {}", op.attempt(), path.display());
            if let Some(fault) = fault {
                write!(line, " !{fault:?}").expect("writing to a string cannot fail");
            }
            line
        };
        state.trace.iter().map(line).collect()
    }

    /// Counts an operation and decides its fate and how long it takes.
    pub(super) fn judge(&self, op: Op, path: &Path) -> (Fate, Duration) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.crashed {
            return (Fate::Dead, Duration::ZERO);
        }
        state.count += 1;
        let fault = state.next_fault(op);
        let time = state.draw_latency();
        state.fingerprint = xxh3_64_with_seed(path.as_os_str().as_encoded_bytes(), state.fingerprint ^ op as u64);
        state.remember(op, path, fault);
        let fate = match fault {
            None => Fate::Done,
            Some(FaultKind::Crash) => {
                state.crashed = true;
                if state.random.percent(50) { Fate::DiesAfter } else { Fate::Fails(FaultKind::Crash) }
            }
            Some(kind) => Fate::Fails(kind),
        };
        (fate, time)
    }

    /// The process is alive again; faults scheduled for its former life are void.
    pub(super) fn revive(&self) {
        let mut state = self.state.lock();
        state.crashed = false;
        state.rules.clear();
    }
}

impl State {
    fn next_fault(&mut self, op: Op) -> Option<FaultKind> {
        let count = self.count;
        let strikes = |rule: &Rule| rule.from <= count && rule.kind.befalls(op);
        if let Some(at) = self.rules.iter().position(strikes) {
            let rule = self.rules[at];
            if !rule.sticky {
                self.rules.remove(at);
            }
            return Some(rule.kind);
        }
        let unlucky = self.per_million > 0 && self.random.below(1_000_000) < u64::from(self.per_million);
        unlucky.then_some(FaultKind::Eio)
    }

    fn draw_latency(&mut self) -> Duration {
        let (least, most) = (*self.latency.start(), *self.latency.end());
        match most.saturating_sub(least).as_nanos() {
            0 => least,
            span => least + Duration::from_nanos(self.random.below(u64::try_from(span).unwrap_or(u64::MAX))),
        }
    }

    fn remember(&mut self, op: Op, path: &Path, fault: Option<FaultKind>) {
        if self.trace_len == 0 {
            return;
        }
        if self.trace.len() == self.trace_len {
            self.trace.pop_front();
        }
        self.trace.push_back((self.count, op, path.to_owned(), fault));
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.trace()).finish()
    }
}

/// What the caller is told of a fault.
pub(super) fn error_of(kind: FaultKind) -> io::Error {
    match kind {
        FaultKind::NoSpace => io::Error::from_raw_os_error(libc::ENOSPC),
        FaultKind::Eio | FaultKind::ShortWrite | FaultKind::SyncLost => io::Error::from_raw_os_error(libc::EIO),
        FaultKind::Crash => io::Error::other("the simulated process has died"),
    }
}
