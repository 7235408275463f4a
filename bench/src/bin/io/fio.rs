//! The same patterns, run by fio.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Outcome, Pattern, Plan, Point};

/// Operations per second of fio at `point`; `None` when fio is not installed.
pub(crate) fn measure(point: Point, plan: &Plan, data: &Path) -> Outcome<Option<f64>> {
    let mut fio = Command::new("fio");
    let engine = if cfg!(target_os = "linux") { "io_uring" } else { "posixaio" };
    fio.args(["--name=bench", "--direct=1", "--output-format=json", "--randrepeat=0", "--norandommap"]);
    fio.arg(format!("--bs={}", point.block)).arg(format!("--iodepth={}", point.depth));
    let synced = data.with_file_name("fio");
    if point.pattern.syncs() {
        let len = plan.synced_writes * point.block as u64;
        fio.arg(format!("--filename={}", synced.display())).arg(format!("--size={len}"));
        // A separate pass that writes the file first, unmeasured, makes it a written one.
        fio.args(["--rw=write", "--ioengine=psync", "--fallocate=native"]);
        fio.arg(format!("--overwrite={}", u8::from(!point.fresh)));
        fio.arg(if point.pattern == Pattern::WriteSync { "--sync=dsync" } else { "--fdatasync=1" });
    } else {
        let seconds = plan.time.as_secs_f64().ceil();
        fio.arg(format!("--filename={}", data.display())).arg(format!("--size={}", plan.file_len));
        fio.arg(format!("--ioengine={engine}")).arg("--time_based").arg(format!("--runtime={seconds}"));
        fio.arg(match point.pattern {
            Pattern::SequentialRead => "--rw=read",
            Pattern::SequentialWrite => "--rw=write",
            _ => "--rw=randread",
        });
    }
    let output = match fio.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    if !output.status.success() {
        return Err(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    if synced.exists() {
        std::fs::remove_file(&synced)?;
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let side = if matches!(point.pattern, Pattern::RandomRead | Pattern::SequentialRead) { "read" } else { "write" };
    let rate = report["jobs"][0][side]["iops"].as_f64();
    Ok(Some(rate.ok_or("fio's report has no rate")?))
}
