//! The plan of the benchmark of transactions.

use crate::plan::{DataSet, Size, keep_chosen};
use crate::spec::{Pick, Step, TxnStep};
use crate::store::Settings;

const MIB: u64 = 1 << 20;

/// Bytes of each value.
const VALUE_LEN: usize = 100;

/// The whole plan. `only` keeps the steps whose name contains one of the texts (all when empty), and the load.
#[must_use]
pub fn plan(size: Size, only: &[String]) -> Vec<DataSet> {
    let quick = size == Size::Quick;
    let settings = Settings { cache_bytes: 256 * MIB, memtable_bytes: 16 * MIB, direct: false };
    let bytes = if quick { 16 * MIB } else { 64 * MIB };
    let seconds = if quick { 0.6 } else { 2.0 };
    let mut set = DataSet::new(VALUE_LEN, "txn", bytes, settings);
    set.add("load", Step::Txn(TxnStep::Load), 1, 0.0);
    let mut add = |what: &str, step: TxnStep, threads: &[usize]| {
        threads.iter().for_each(|&threads| set.add(what, Step::Txn(step), threads, seconds));
    };
    add("mix-c", mix(0, false), &[1, 4]);
    add("mix-b", mix(5, false), &[1, 4, 16]);
    add("mix-a", mix(50, false), &[1, 2, 4, 8, 16]);
    add("bank", TxnStep::Bank { pick: Pick::Uniform, durable: false }, &[1, 2, 4, 8, 16]);
    add("bank-hot", TxnStep::Bank { pick: Pick::Zipf, durable: false }, &[4, 16]);
    add("bank-durable", TxnStep::Bank { pick: Pick::Uniform, durable: true }, &[1, 2, 4, 8, 16]);
    add("mix-a-durable", mix(50, true), &[1, 4, 16]);
    let mut sets = vec![set];
    sets.iter_mut().for_each(|set| keep_chosen(set, only));
    sets.retain(|set| set.steps.iter().any(|step| !step.silent));
    sets
}

/// The mix of YCSB that writes in so many of a hundred operations, on rows picked as YCSB does.
const fn mix(write_percent: u64, durable: bool) -> TxnStep {
    TxnStep::Mix { pick: Pick::Zipf, write_percent, durable }
}
