//! Medians over repetitions, ratios between stores, and their geometric mean.

use std::collections::BTreeMap;

use super::{Hosted, Row, Summary};
use crate::parent::Run;
use crate::spec::Measured;

pub(super) fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !found.contains(name) {
            found.push(name.clone());
        }
    }
    found
}

pub(super) fn of<'r>(runs: &'r [Run], workload: &str, store: &str) -> Vec<&'r Run> {
    runs.iter().filter(|r| r.workload == workload && r.store == store).collect()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => 0.0,
        len if len % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

pub(super) fn summary(runs: &[&Run]) -> Summary {
    let of = |figure: &dyn Fn(&Measured) -> f64| median(runs.iter().map(|r| figure(&r.measured)).collect());
    let per_op = |figure: &dyn Fn(&Measured) -> f64| of(&|m| figure(m) / m.ops.max(1) as f64);
    let is_settled = runs.iter().all(|r| r.measured.settle_seconds > 0.0);
    let settled = |figure: &dyn Fn(&Measured) -> f64| is_settled.then(|| of(figure));
    Summary {
        ops_per_second: of(&Measured::ops_per_second),
        p50_us: of(&|m| m.p50_us),
        p95_us: of(&|m| m.p95_us),
        p99_us: of(&|m| m.p99_us),
        p999_us: of(&|m| m.p999_us),
        cpu_us_per_op: per_op(&|m| m.cpu_seconds * 1e6),
        conflicts_per_op: per_op(&|m| m.conflicts as f64),
        device_read_per_op: per_op(&|m| m.device_read as f64),
        device_written_per_op: per_op(&|m| m.device_written as f64),
        write_amplification: settled(&|m| m.device_written as f64 / m.user_bytes.max(1) as f64),
        space_amplification: settled(&|m| m.space_bytes as f64 / m.live_bytes.max(1) as f64),
        settle_seconds: of(&|m| m.settle_seconds),
        rss_max_bytes: of(&|m| m.rss_max_bytes as f64),
        hosted: runs.iter().any(|r| r.measured.wal_bytes.is_some()).then(|| Hosted {
            wal_per_op: per_op(&|m| m.wal_bytes.unwrap_or(0) as f64),
            space_bytes: of(&|m| m.space_bytes as f64),
        }),
    }
}

/// The comparison of two stores on a workload; `None` when one of them did not run.
pub(super) fn row(runs: &[Run], workload: &str, subject: &str, peer: &str) -> Option<Row> {
    let (ours, theirs) = (of(runs, workload, subject), of(runs, workload, peer));
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let (ours_summary, theirs_summary) = (summary(&ours), summary(&theirs));
    let ratio = ours_summary.ops_per_second / theirs_summary.ops_per_second.max(f64::MIN_POSITIVE);
    let pairs = ours.iter().filter_map(|our| {
        let their = theirs.iter().find(|t| t.repetition == our.repetition)?;
        Some(our.measured.ops_per_second() / their.measured.ops_per_second().max(f64::MIN_POSITIVE))
    });
    let ratios: Vec<f64> = pairs.collect();
    let largest = ratios.iter().copied().fold(f64::MIN, f64::max);
    let smallest = ratios.iter().copied().fold(f64::MAX, f64::min);
    Some(Row {
        workload: workload.to_owned(),
        peer: peer.to_owned(),
        ours: ours_summary.ops_per_second,
        theirs: theirs_summary.ops_per_second,
        ratio,
        spread: if ratios.is_empty() || ratio <= 0.0 { 0.0 } else { (largest - smallest) / ratio },
        ours_summary,
        theirs_summary,
    })
}

pub(super) fn geomeans(rows: &[Row]) -> BTreeMap<String, f64> {
    let mut logs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.ratio > 0.0) {
        logs.entry(row.peer.clone()).or_default().push(row.ratio.ln());
    }
    logs.into_iter().map(|(peer, logs)| (peer, (logs.iter().sum::<f64>() / logs.len() as f64).exp())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_count_is_between_two() {
        assert!((median(vec![3.0, 1.0, 2.0, 10.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }
}
