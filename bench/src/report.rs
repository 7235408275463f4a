//! The result of a benchmark: its rows, as JSON and as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::parent::Results;
use crate::plot;

mod machine;
mod statistics;

pub use machine::busy_machine;
use machine::machine;
use statistics::{geomeans, of, row, summary, unique};

/// One store's medians on one workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Operations per second.
    pub ops_per_second: f64,
    /// Latency, microseconds.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p95_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
    /// See `p50_us`.
    pub p999_us: f64,
    /// Processor time per operation, background work included, microseconds.
    pub cpu_us_per_op: f64,
    /// Runs of transactions that met another one and were repeated, per transaction that went through.
    #[serde(default)]
    pub conflicts_per_op: f64,
    /// Bytes read from the device per operation.
    pub device_read_per_op: f64,
    /// Bytes written to the device per operation.
    pub device_written_per_op: f64,
    /// Bytes written to the device (log included) ÷ bytes of keys and values written; `None` when nothing was settled.
    pub write_amplification: Option<f64>,
    /// Bytes on disk ÷ bytes of live rows, in a settled state.
    pub space_amplification: Option<f64>,
    /// Time that settling took.
    pub settle_seconds: f64,
    /// Most resident memory of the process.
    pub rss_max_bytes: f64,
    /// Bytes of the log and on disk, where the log belongs to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted: Option<Hosted>,
}

/// What a store that lives in a host takes of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Hosted {
    /// Bytes of the host's log per operation.
    pub wal_per_op: f64,
    /// Bytes on disk after the run.
    pub space_bytes: f64,
}

/// One line of the result: a workload, and one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The workload: what, values, data set, threads.
    pub workload: String,
    /// Who is compared with.
    pub peer: String,
    /// Our operations per second, the median.
    pub ours: f64,
    /// Theirs.
    pub theirs: f64,
    /// Ours ÷ theirs: above 1 we are faster.
    pub ratio: f64,
    /// Largest less smallest ratio over the repetitions, as a share of `ratio`.
    pub spread: f64,
    /// All our medians.
    pub ours_summary: Summary,
    /// All theirs.
    pub theirs_summary: Summary,
}

/// The whole result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Names the benchmark and its files.
    pub name: String,
    #[serde(skip)]
    method: String,
    /// `quick` or `full`.
    pub mode: String,
    /// The store that the others are compared with.
    pub subject: String,
    /// Repetitions of everything.
    pub repetitions: usize,
    /// Processors, memory, kernel.
    pub machine: String,
    /// Why memory was not capped for data larger than the cache; `None` when it was.
    pub uncapped: Option<String>,
    /// Geometric mean of the ratios, by peer.
    pub geomean: BTreeMap<String, f64>,
    /// Workloads by peers.
    pub rows: Vec<Row>,
    /// Workloads in the order they ran.
    pub workloads: Vec<String>,
    /// Stores, the subject first.
    pub stores: Vec<String>,
    /// Medians by workload and store.
    pub summaries: BTreeMap<String, BTreeMap<String, Summary>>,
}

/// What is reported on.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Names the files.
    pub name: &'static str,
    /// How it was measured; `{memory}` stands for what was done about the memory of data larger than the cache.
    method: &'static str,
}

/// The side-by-side benchmark of stores.
pub const ENGINE: Subject = Subject { name: "engine", method: include_str!("report/engine.md") };
/// The side-by-side benchmark of transactions.
pub const TXN: Subject = Subject { name: "txn", method: include_str!("report/txn.md") };
/// The benchmark of I/O.
pub const IO: Subject = Subject { name: "io", method: include_str!("report/io.md") };

/// The benchmark of Postgres's tables.
pub const PG: Subject = Subject { name: "pg", method: include_str!("report/pg.md") };

/// What the demo shows.
pub const DEMO: Subject = Subject { name: "demo", method: include_str!("report/demo.md") };

/// A ratio below this share of the recorded one is worth a word.
const SLOWER: f64 = 0.85;

impl Report {
    /// Sums up the results.
    #[must_use]
    pub fn new(what: &Subject, results: &Results, subject: &str, quick: bool, repetitions: usize) -> Self {
        let workloads = unique(results.runs.iter().map(|r| &r.workload));
        let mut stores = unique(results.runs.iter().map(|r| &r.store));
        stores.sort_by_key(|s| s != subject);
        let mut summaries: BTreeMap<String, BTreeMap<String, Summary>> = BTreeMap::new();
        let mut rows = Vec::new();
        for workload in &workloads {
            for store in &stores {
                let runs = of(&results.runs, workload, store);
                if !runs.is_empty() {
                    summaries.entry(workload.clone()).or_default().insert(store.clone(), summary(&runs));
                }
            }
            for peer in stores.iter().filter(|s| *s != subject) {
                rows.extend(row(&results.runs, workload, subject, peer));
            }
        }
        Self {
            name: what.name.to_owned(),
            method: what.method.to_owned(),
            mode: if quick { "quick" } else { "full" }.to_owned(),
            subject: subject.to_owned(),
            repetitions,
            machine: machine(),
            uncapped: results.uncapped.clone(),
            geomean: geomeans(&rows),
            rows,
            workloads,
            stores,
            summaries,
        }
    }

    /// Rows whose ratio fell clearly below the one recorded in the file at `path`, in words.
    #[must_use]
    pub fn slower_than(&self, path: &Path) -> Vec<String> {
        let recorded = std::fs::read_to_string(path).ok().and_then(|text| serde_json::from_str::<Self>(&text).ok());
        let Some(recorded) = recorded.filter(|r| r.mode == self.mode && r.subject == self.subject) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for row in &self.rows {
            let before = recorded.rows.iter().find(|r| r.workload == row.workload && r.peer == row.peer);
            if let Some(before) = before.filter(|before| row.ratio < before.ratio * SLOWER) {
                let (from, to) = (before.ratio, row.ratio);
                lines.push(format!("{} vs {}: {from:.2} then, {to:.2} now", row.workload, row.peer));
            }
        }
        lines
    }

    /// Throughput and ratios as a Markdown table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::from("| workload |");
        let peers: Vec<_> = self.stores.iter().filter(|s| **s != self.subject).collect();
        let mut rule = String::from("|---|");
        for store in &self.stores {
            let _ = write!(out, " {store} ops/s |");
            rule.push_str("---:|");
        }
        for peer in &peers {
            let _ = write!(out, " ÷ {peer} | spread |");
            rule.push_str("---:|---:|");
        }
        let _ = write!(out, "\n{rule}\n");
        for workload in &self.workloads {
            let _ = write!(out, "| {workload} |");
            for store in &self.stores {
                let _ = write!(out, " {} |", self.cell(workload, store, |s| grouped(s.ops_per_second)));
            }
            for peer in &peers {
                let row = self.rows.iter().find(|r| r.workload == *workload && r.peer == **peer);
                let cells = row.map(|r| format!(" {:.2} | {:.0} % |", r.ratio, r.spread * 100.0));
                out.push_str(&cells.unwrap_or_else(|| " | |".to_owned()));
            }
            out.push('\n');
        }
        out
    }

    fn cell(&self, workload: &str, store: &str, show: impl Fn(&Summary) -> String) -> String {
        self.summaries.get(workload).and_then(|stores| stores.get(store)).map(show).unwrap_or_default()
    }

    /// One figure of every store, by workload, as a Markdown table. Workloads where `show` gives nothing are left out.
    fn figures(&self, show: impl Fn(&Summary) -> String) -> String {
        let mut out =
            format!("| workload | {} |\n|---|{}\n", self.stores.join(" | "), "---:|".repeat(self.stores.len()));
        for workload in &self.workloads {
            let cells: Vec<_> = self.stores.iter().map(|store| self.cell(workload, store, &show)).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                let _ = writeln!(out, "| {workload} | {} |", cells.join(" | "));
            }
        }
        out
    }

    /// The whole report as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("# {} beside {}\n\n", self.subject, self.peers().join(" and "));
        let _ = writeln!(out, "{} run, {} repetition(s), on {}.\n", self.mode, self.repetitions, self.machine);
        for (peer, ratio) in &self.geomean {
            let _ = writeln!(out, "Geometric mean of the throughput ratios against {peer}: **{ratio:.2}**.");
        }
        let memory = match &self.uncapped {
            None => "a memory cgroup caps all memory of the process, page cache included".to_owned(),
            Some(why) => format!("memory was **not** capped ({why}), so stores that use the page cache had all of it"),
        };
        out.push_str("\n## Throughput\n\nA ratio above 1 means that the first store is faster.\n\n");
        out.push_str(&self.table());
        let _ = write!(out, "\n![ratios]({}-ratios.svg)\n\n## Latency\n\n", self.name);
        out.push_str("Microseconds: p50 / p95 / p99 / p99.9.\n\n");
        out.push_str(&self.figures(|s| {
            format!("{} / {} / {} / {}", short(s.p50_us), short(s.p95_us), short(s.p99_us), short(s.p999_us))
        }));
        let _ = writeln!(out, "\n![latency]({}-latency.svg)\n", self.name);
        out.push_str(&self.conflicts());
        out.push_str(&self.amplification());
        out.push_str(&self.taken());
        out.push_str(&self.method.replace("{memory}", &memory));
        out
    }

    /// How often transactions were repeated; empty when none was.
    fn conflicts(&self) -> String {
        if self.summaries.values().flat_map(BTreeMap::values).all(|s| s.conflicts_per_op == 0.0) {
            return String::new();
        }
        let table = self.figures(|s| format!("{:.4}", s.conflicts_per_op));
        format!("## Conflicts\n\nRuns that were repeated, per transaction that went through.\n\n{table}\n")
    }

    /// Write and space amplification, of the workloads that settled; empty when none did.
    fn amplification(&self) -> String {
        if self.summaries.values().flat_map(BTreeMap::values).all(|s| s.write_amplification.is_none()) {
            return String::new();
        }
        let mut out =
            String::from("## Write and space amplification\n\nDevice bytes ÷ user bytes, log included, up to a ");
        out.push_str("settled state; bytes on disk ÷ live bytes; time to settle.\n\n");
        out.push_str(&self.figures(|s| match (s.write_amplification, s.space_amplification) {
            (Some(write), Some(space)) => format!("{write:.2} / {space:.2} / {:.1} s", s.settle_seconds),
            _ => String::new(),
        }));
        out.push('\n');
        out
    }

    /// What the stores take of the machine, or of their host.
    #[must_use]
    pub fn taken(&self) -> String {
        if self.summaries.values().flat_map(BTreeMap::values).any(|s| s.hosted.is_some()) {
            let mut out =
                String::from("## Log, device and size\n\nBytes logged and bytes written to the device per operation; ");
            out.push_str("size in MiB after the load.\n\n");
            out.push_str(&self.figures(|s| {
                s.hosted.as_ref().map_or_else(String::new, |hosted| {
                    let (wal, written) = (grouped(hosted.wal_per_op), grouped(s.device_written_per_op));
                    format!("{wal} / {written} / {:.1}", hosted.space_bytes / 1_048_576.0)
                })
            }));
            let plots = ["throughput", "size", "wal"].map(|what| format!("![{what}]({}-{what}.svg)\n", self.name));
            let _ = write!(out, "\n{}", plots.concat());
            return out;
        }
        let mut out =
            String::from("## Processor and device\n\nProcessor µs, bytes read and bytes written per operation; ");
        out.push_str("peak memory in MiB.\n\n");
        out.push_str(&self.figures(|s| {
            let (cpu, read, written) =
                (short(s.cpu_us_per_op), grouped(s.device_read_per_op), grouped(s.device_written_per_op));
            format!("{cpu} / {read} / {written} / {:.0}", s.rss_max_bytes / 1_048_576.0)
        }));
        out
    }

    fn peers(&self) -> Vec<String> {
        self.stores.iter().filter(|s| **s != self.subject).cloned().collect()
    }
}

/// Shows a line of progress on the error stream.
pub fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes the JSON, the Markdown and the plots into `dir`; returns the lines to print, the last ones of which are the
/// geometric means.
///
/// # Errors
/// When a file cannot be written.
pub fn finish(report: &Report, results: &Results, dir: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(dir)?;
    let json = dir.join(format!("{}.json", report.name));
    let slower = report.slower_than(&json);
    std::fs::write(json, serde_json::to_string_pretty(report)? + "\n")?;
    std::fs::write(dir.join(format!("{}.md", report.name)), report.markdown())?;
    plot::write(report, dir)?;
    let mut lines = vec![report.table(), format!("written: {}", dir.display())];
    lines.extend(slower.iter().map(|line| format!("slower than recorded: {line}")));
    lines.extend(results.failures.iter().map(|line| format!("failed: {line}")));
    lines.extend(report.geomean.iter().map(|(peer, ratio)| format!("geomean vs {peer}: {ratio:.2}")));
    if report.geomean.is_empty() {
        lines.push(format!("no geomean: {} ran beside no other", report.subject));
    }
    Ok(lines)
}

/// The root of the project.
fn root() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().unwrap_or(bench).to_owned()
}

/// Where builds go.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where results are kept.
#[must_use]
pub fn results_dir() -> PathBuf {
    root().join("bench/results")
}

/// A number with thin groups of three digits.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A number with three digits that matter.
fn short(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parent::Run;
    use crate::spec::Measured;

    fn run(workload: &str, store: &str, repetition: usize, ops: u64) -> Run {
        let measured = Measured {
            ops,
            seconds: 1.0,
            settle_seconds: 1.0,
            user_bytes: 10,
            device_written: 25,
            ..Measured::default()
        };
        Run { workload: workload.to_owned(), store: store.to_owned(), repetition, measured }
    }

    fn results() -> Results {
        let runs = vec![
            run("a", "x", 0, 200),
            run("a", "y", 0, 100),
            run("a", "x", 1, 300),
            run("a", "y", 1, 100),
            run("b", "x", 0, 100),
            run("b", "y", 0, 200),
            run("b", "x", 1, 100),
            run("b", "y", 1, 200),
        ];
        Results { runs, ..Results::default() }
    }

    #[test]
    fn ratios_and_means() {
        let report = Report::new(&ENGINE, &results(), "x", true, 2);
        assert_eq!(report.rows.len(), 2);
        assert!((report.rows[0].ratio - 2.5).abs() < 1e-9 && (report.rows[0].spread - 0.4).abs() < 1e-9);
        assert!((report.rows[1].ratio - 0.5).abs() < 1e-9);
        assert!((report.geomean["y"] - 1.25_f64.sqrt()).abs() < 1e-9);
        assert_eq!(report.rows[0].ours_summary.write_amplification, Some(2.5));
        assert!(report.markdown().contains("| a | 250 | 100 | 2.50 | 40 % |"));
        assert!(Report::new(&ENGINE, &results(), "z", true, 2).geomean.is_empty());
    }

    #[test]
    fn a_hosted_store_shows_its_log_and_size() {
        let mut results = results();
        for run in &mut results.runs {
            run.measured.wal_bytes = Some(1000);
            run.measured.space_bytes = 3 << 20;
        }
        let text = Report::new(&PG, &results, "x", true, 2).markdown();
        assert!(text.contains("| b | 10 / 0 / 3.0 | 5 / 0 / 3.0 |"), "{text}");
        assert!(!text.contains("## Processor and device"));
    }

    #[test]
    fn what_got_slower_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut before = Report::new(&ENGINE, &results(), "x", true, 2);
        before.rows[0].ratio = 3.0;
        finish(&before, &results(), dir.path()).unwrap();
        let now = Report::new(&ENGINE, &results(), "x", true, 2);
        assert_eq!(now.slower_than(&dir.path().join("engine.json")), ["a vs y: 3.00 then, 2.50 now"]);
        assert!(now.slower_than(&dir.path().join("missing")).is_empty());
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(1_234_567.0), "1 234 567");
        assert_eq!(grouped(12.0), "12");
        assert_eq!(short(0.5), "0.50");
        assert_eq!(short(1234.5), "1234");
    }
}
