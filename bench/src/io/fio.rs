//! A load by fio, with direct I/O and as many jobs and reads in flight as ours, where fio is installed.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Load, Pattern};
use crate::Result;
use crate::spec::Measured;

/// Whether there is a fio to run.
#[must_use]
pub fn is_installed() -> bool {
    Command::new("fio").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Does the load.
///
/// # Errors
/// When fio fails, or its report cannot be read.
pub fn run(path: &Path, load: &Load) -> Result<Measured> {
    let rw = match load.pattern {
        Pattern::RandomRead | Pattern::TreeGet | Pattern::TreeMultiGet => "randread",
        Pattern::Read | Pattern::TreeScan => "read",
        Pattern::Write | Pattern::SyncedWrite => "write",
    };
    let mut command = Command::new("fio");
    command.args(["--name=io-bench", "--direct=1", "--time_based", "--output-format=json", "--norandommap"]);
    command.arg(format!("--filename={}", path.display())).arg(format!("--rw={rw}"));
    command.arg(format!("--bs={}", load.block)).arg(format!("--size={}", load.file_bytes));
    let (jobs, depth) = jobs_and_depth(load);
    command.arg(format!("--numjobs={jobs}")).arg("--group_reporting").arg(format!("--iodepth={depth}"));
    command.arg(format!("--runtime={}ms", (load.seconds * 1e3).round()));
    if load.pattern == Pattern::SyncedWrite {
        command.args(["--ioengine=psync", "--fdatasync=1"]);
    } else {
        command.arg("--ioengine=io_uring");
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("fio: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    parse(&String::from_utf8_lossy(&output.stdout), if rw == "write" { "write" } else { "read" }, jobs)
}

/// Threads with a read each are as many jobs; all other loads are one thread with a queue.
fn jobs_and_depth(load: &Load) -> (usize, usize) {
    match load.pattern {
        Pattern::TreeGet => (load.depth, 1),
        _ => (1, load.depth),
    }
}

/// The figures of the group of `jobs` jobs in fio's report.
fn parse(report: &str, side: &str, jobs: usize) -> Result<Measured> {
    // fio may print a note before the report.
    let json = report.find('{').map_or("", |at| &report[at..]);
    let report: Value = serde_json::from_str(json)?;
    let job = &report["jobs"][0];
    let figures = &job[side];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let percentile = |name: &str| number(&figures["clat_ns"]["percentile"][name]) / 1e3;
    let seconds = number(&figures["runtime"]) / 1e3;
    // Of a group, fio reports the mean share of its jobs.
    let share = (number(&job["usr_cpu"]) + number(&job["sys_cpu"])) * jobs as f64;
    Ok(Measured {
        ops: figures["total_ios"].as_u64().ok_or("fio's report has no total_ios")?,
        seconds,
        p50_us: percentile("50.000000"),
        p95_us: percentile("95.000000"),
        p99_us: percentile("99.000000"),
        p999_us: percentile("99.900000"),
        max_us: number(&figures["clat_ns"]["max"]) / 1e3,
        cpu_seconds: share / 100.0 * seconds,
        ..Measured::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fios_report() {
        let report = r#"note
{"jobs": [{"usr_cpu": 10.0, "sys_cpu": 15.0, "read": {"total_ios": 500, "runtime": 2000,
  "clat_ns": {"max": 9000, "percentile": {"50.000000": 1000, "99.000000": 5000}}}}]}"#;
        let measured = parse(report, "read", 1).unwrap();
        assert_eq!(measured.ops, 500);
        assert!((measured.ops_per_second() - 250.0).abs() < 1e-9 && (measured.p50_us - 1.0).abs() < 1e-9);
        assert!((measured.cpu_seconds - 0.5).abs() < 1e-9);
        assert!((parse(report, "read", 8).unwrap().cpu_seconds - 4.0).abs() < 1e-9);
        assert!(parse("{}", "read", 1).is_err() && parse("", "read", 1).is_err());
    }
}
