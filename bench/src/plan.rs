//! The plan: which data sets there are, and which steps run on them in which order.

use std::fmt::Write;

use crate::data::KEY_LEN;
use crate::spec::{Pick, Step, TxnStep, Ycsb};
use crate::store::{MEMTABLES, Settings};

const MIB: u64 = 1 << 20;

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A result.
    Full,
    /// A look.
    Quick,
}

/// One data set, and what is done with it in order.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// What its steps' names have in common, as `1KiB/4x`.
    pub name: String,
    /// Rows when filled.
    pub rows: u64,
    /// Bytes of each value.
    pub value_len: usize,
    /// Memory and I/O of the stores.
    pub settings: Settings,
    /// Limit of all memory of a child, page cache included.
    pub memory_max: Option<u64>,
    /// The steps, in order, on one directory for each store.
    pub steps: Vec<Planned>,
}

/// A step as planned.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The row's name in the report.
    pub workload: String,
    /// What to do.
    pub step: Step,
    /// Threads.
    pub threads: usize,
    /// Time, for steps without a count of their own.
    pub seconds: f64,
    /// Runs in a directory of its own that is empty at first.
    pub alone: bool,
    /// Everything is read through first.
    pub warm: bool,
    /// It is run although the filter left it out, because later steps need its rows; and not reported.
    pub silent: bool,
}

/// Threads of the steps that use as many as there are processors; more than four add nothing on the machines we know.
fn many_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4)
}

/// Readers of data that is not cached: enough to keep the device's queue busy.
const COLD_THREADS: usize = 8;

/// The whole plan. `only` keeps the steps whose name contains one of the texts (all when empty), and the fills they need.
#[must_use]
pub fn plan(size: Size, only: &[String]) -> Vec<DataSet> {
    let quick = size == Size::Quick;
    let mut sets = vec![cached(size, 100), cached(size, 1024), durable(size)];
    if quick {
        sets.remove(1);
    } else {
        sets.push(cold(size, 100));
    }
    sets.push(cold(size, 1024));
    for set in &mut sets {
        keep_chosen(set, only);
    }
    sets.retain(|set| set.steps.iter().any(|step| !step.silent));
    sets
}

/// Keeps the steps whose name contains one of the texts `only` (all when there are none), and the fill that they need.
pub(crate) fn keep_chosen(set: &mut DataSet, only: &[String]) {
    let wanted = |step: &Planned| only.is_empty() || only.iter().any(|text| step.workload.contains(text.as_str()));
    let is_fill = |step: Step| matches!(step, Step::FillRandom | Step::Txn(TxnStep::Load));
    let needs_rows = set.steps.iter().any(|step| wanted(step) && !step.alone && !is_fill(step.step));
    set.steps.retain_mut(|step| {
        let is_fill = is_fill(step.step);
        step.silent = is_fill && !wanted(step);
        wanted(step) || (is_fill && needs_rows)
    });
}

/// A data set that fits the block cache.
fn cached(size: Size, value_len: usize) -> DataSet {
    let quick = size == Size::Quick;
    let bytes = if quick { 56 * MIB } else { 128 * MIB };
    let settings = Settings {
        cache_bytes: if quick { 256 * MIB } else { 512 * MIB },
        memtable_bytes: if quick { 8 * MIB } else { 16 * MIB },
        direct: false,
    };
    let mut set = DataSet::new(value_len, "cached", bytes, settings);
    let seconds = if quick { 0.6 } else { 2.5 };
    let many = many_threads();
    set.alone("fill-seq", Step::FillSeq, 1, 0.0);
    set.add("fill-random", Step::FillRandom, 1, 0.0);
    set.add("read-uniform", Step::Read(Pick::Uniform), 1, seconds);
    set.add("read-uniform", Step::Read(Pick::Uniform), many, seconds);
    set.add("read-zipf", Step::Read(Pick::Zipf), 1, seconds);
    set.add("scan-50", Step::Scan(Pick::Uniform), 1, seconds);
    set.add("ycsb-c", Step::Ycsb(Ycsb::C), many, seconds);
    set.add("read-while-writing", Step::ReadWhileWriting(Pick::Uniform), many, seconds);
    set.add("ycsb-b", Step::Ycsb(Ycsb::B), many, seconds);
    set.add("ycsb-a", Step::Ycsb(Ycsb::A), many, seconds);
    set.add("ycsb-f", Step::Ycsb(Ycsb::F), many, seconds);
    set.add("overwrite", Step::Overwrite, many, 0.0);
    set.add("ycsb-d", Step::Ycsb(Ycsb::D), many, seconds);
    set.add("ycsb-e", Step::Ycsb(Ycsb::E), many, seconds);
    set
}

/// A data set of four times the block cache, with all memory capped and the page cache bypassed by the stores that can.
fn cold(size: Size, value_len: usize) -> DataSet {
    let quick = size == Size::Quick;
    let cache_bytes = if quick { 48 * MIB } else { 128 * MIB };
    let settings = Settings { cache_bytes, memtable_bytes: if quick { 8 * MIB } else { 16 * MIB }, direct: true };
    let mut set = DataSet::new(value_len, "4x", 4 * cache_bytes, settings);
    // What the cache and the memtables may take, and room for the program, indexes, filters and buffers of compactions.
    set.memory_max = Some(cache_bytes + MEMTABLES as u64 * settings.memtable_bytes + 96 * MIB);
    let seconds = if quick { 0.8 } else { 3.0 };
    set.add("fill-random", Step::FillRandom, 1, 0.0);
    set.add("read-uniform", Step::Read(Pick::Uniform), 1, seconds);
    set.add("read-uniform", Step::Read(Pick::Uniform), COLD_THREADS, seconds);
    set.add("read-zipf", Step::Read(Pick::Zipf), COLD_THREADS, seconds);
    set.add("scan-50", Step::Scan(Pick::Uniform), 1, seconds);
    set.add("read-while-writing", Step::ReadWhileWriting(Pick::Zipf), COLD_THREADS, seconds);
    set.add("overwrite", Step::Overwrite, many_threads(), 0.0);
    for step in &mut set.steps {
        step.warm = false;
    }
    set
}

/// Durable writes: each waits for the device.
fn durable(size: Size) -> DataSet {
    let settings = Settings { cache_bytes: 64 * MIB, memtable_bytes: 16 * MIB, direct: false };
    let mut set = DataSet::new(100, "", MIB, settings);
    let seconds = if size == Size::Quick { 0.8 } else { 2.5 };
    for threads in [1, 2, 4, 8, 16] {
        set.alone("durable", Step::Durable, threads, seconds);
    }
    set
}

impl DataSet {
    pub(crate) fn new(value_len: usize, kind: &str, bytes: u64, settings: Settings) -> Self {
        let mut name =
            if value_len.is_multiple_of(1024) { format!("{}KiB", value_len / 1024) } else { format!("{value_len}B") };
        if !kind.is_empty() {
            let _ = write!(name, "/{kind}");
        }
        let rows = bytes / (KEY_LEN + value_len) as u64;
        Self { name, rows, value_len, settings, memory_max: None, steps: Vec::new() }
    }

    pub(crate) fn add(&mut self, what: &str, step: Step, threads: usize, seconds: f64) {
        let workload = format!("{what}/{}/{threads}t", self.name);
        self.steps.push(Planned { workload, step, threads, seconds, alone: false, warm: true, silent: false });
    }

    fn alone(&mut self, what: &str, step: Step, threads: usize, seconds: f64) {
        self.add(what, step, threads, seconds);
        if let Some(last) = self.steps.last_mut() {
            last.alone = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        for size in [Size::Full, Size::Quick] {
            let names: Vec<_> = plan(size, &[]).into_iter().flat_map(|s| s.steps).map(|s| s.workload).collect();
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{names:?}");
        }
    }

    #[test]
    fn a_filter_keeps_the_fills_that_are_needed() {
        let sets = plan(Size::Quick, &["ycsb-a".to_owned()]);
        assert_eq!(sets.len(), 1);
        let steps: Vec<_> = sets[0].steps.iter().map(|s| (s.step, s.silent)).collect();
        assert_eq!(steps, [(Step::FillRandom, true), (Step::Ycsb(Ycsb::A), false)]);
        let sets = plan(Size::Quick, &["durable".to_owned()]);
        assert_eq!(sets.len(), 1);
        assert_eq!(sets[0].steps.len(), 5);
        assert!(plan(Size::Full, &["nothing".to_owned()]).is_empty());
    }
}
