//! Rows, table and files of the result.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::Outcome;

/// One line of the result; `None` where a contestant could not run.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) depth: usize,
    pub(crate) block: usize,
    pub(crate) ours_uring: Option<f64>,
    pub(crate) ours_pool: Option<f64>,
    pub(crate) fio: Option<f64>,
    pub(crate) unit: &'static str,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        Some(self.ours_uring? / self.fio?)
    }
}

/// Geometric mean of our io_uring rates over fio's; `None` when no row has both.
pub(crate) fn geomean(rows: &[Row]) -> Option<f64> {
    let logs: Vec<f64> = rows.iter().filter_map(Row::ratio).map(f64::ln).collect();
    let count = u32::try_from(logs.len()).ok().filter(|&count| count > 0)?;
    Some((logs.iter().sum::<f64>() / f64::from(count)).exp())
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}"))
}

/// The rows as a Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from("| workload | depth | block | io_uring | pool | fio | io_uring : fio |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for row in rows {
        let ratio = row.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let (ours, pool, fio) = (rate(row.ours_uring), rate(row.ours_pool), rate(row.fio));
        let (depth, block) = (row.depth, row.block >> 10);
        writeln!(out, "| {} | {depth} | {block} KiB | {ours} | {pool} | {fio} | {ratio} |", row.workload)
            .expect("writing to a string cannot fail");
    }
    out
}

/// Writes `io.json` and `io.md`.
pub(crate) fn write(rows: &[Row], dir: &Path, quick: bool) -> Outcome<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("io.json"), serde_json::to_string_pretty(rows)? + "\n")?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let mut text = String::from("# I/O queues against fio\n\n");
    text.push_str(
        "Operations per second, median of the rounds; direct I/O. fio runs its io_uring engine, for the synced\n",
    );
    text.push_str("writes its psync engine with --fdatasync=1 or --sync=dsync. The pool has 64 threads.\n\n");
    let length = if quick { "Quick run: not a measurement. " } else { "" };
    let mean = geomean(rows).map_or_else(|| "none".to_owned(), |mean| format!("{mean:.3}"));
    writeln!(text, "{length}Kernel {}, {cores} cores. Geometric mean io_uring : fio {mean}.\n", kernel.trim())?;
    text.push_str(&table(rows));
    Ok(std::fs::write(dir.join("io.md"), text)?)
}
