//! `cargo xtask fuzz`: feeds the decoders, with libFuzzer where a C++ compiler is at hand, else by blind mutation.
//!
//! libFuzzer is driven directly: its coverage counters need nothing but `-C` flags, so the stable compiler will do.
//! `SSD_FUZZ=TARGET cargo fuzz run decoder` (from engine/) works too where cargo-fuzz is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::count::Count;
use crate::entries::{self, Entry};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::workspace::{Workspace, is_installed};
use crate::{run, seeds, sim};

/// Where the fuzz entries are.
pub(crate) const ENTRIES_DIR: &str = "engine/src/fuzz";

/// Seconds for each target when neither a time nor a count is given.
const SECONDS: u64 = 60;

/// Memory that a decoder may come to use, in MiB, whatever it is fed.
const MEMORY_MIB_MAX: u64 = 2048;

/// Seconds that one input may take.
const INPUT_SECONDS_MAX: u64 = 10;

/// Longest input: a few of the largest blocks.
const INPUT_LEN_MAX: u64 = 256 << 10;

/// What cargo-fuzz passes too: counters for each edge, the table of their places, and the operands of comparisons.
const COVERAGE_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Decoder to fuzz; all of them when left out.
    target: Option<String>,
    /// Seconds for each target [default: 60, or no limit with --runs].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Inputs for each target.
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// How inputs are made.
    #[arg(long, value_enum)]
    driver: Option<Driver>,
    /// List the targets and end.
    #[arg(long)]
    list: bool,
}

/// How inputs are made.
#[derive(Clone, Copy, ValueEnum)]
enum Driver {
    /// Coverage-guided, by libFuzzer; needs a C++ compiler. The default where there is one.
    Libfuzzer,
    /// Seeded mutations of the golden files; needs nothing.
    Smoke,
}

/// Runs the verb; `false` when a target failed.
///
/// # Errors
/// When there is no such target, or a build fails.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    let all = entries::find(&workspace.path(ENTRIES_DIR));
    if arguments.list {
        all.iter().for_each(|e| println!("{}", e.name));
        return Ok(true);
    }
    let chosen: Vec<Entry> =
        all.iter().filter(|e| arguments.target.as_ref().is_none_or(|t| *t == e.name)).cloned().collect();
    if chosen.is_empty() {
        let known: Vec<_> = all.iter().map(|e| e.name.as_str()).collect();
        return Err(Failure::new(match &arguments.target {
            Some(target) => format!("no target `{target}`; there are: {}", known.join(", ")),
            None => missing(),
        }));
    }
    let runs = arguments.runs.unwrap_or(0);
    let seconds = arguments.seconds.unwrap_or(if runs == 0 { SECONDS } else { 0 });
    let compiler = ["c++", "g++", "clang++"].into_iter().find(|c| is_installed(c));
    match (arguments.driver, compiler) {
        (Some(Driver::Smoke), _) | (None, None) => {
            eprintln!("fuzzing by seeded mutation; with a C++ compiler it would be guided by coverage");
            let names: Vec<_> = chosen.iter().map(|e| e.name.as_str()).collect();
            run::inherited(smoke_command(workspace, &names, seconds, runs))
        }
        _ => libfuzzer(workspace, &chosen, seconds, runs),
    }
}

/// Why there is nothing to run.
pub(crate) fn missing() -> String {
    format!("{} has no fuzz entries", ENTRIES_DIR)
}

/// The dependency-free driver over the targets (all when empty), under a limit of memory where the shell has one.
pub(crate) fn smoke_command(workspace: &Workspace, targets: &[&str], seconds: u64, runs: u64) -> Command {
    let inner = sim::binary(workspace, "fuzz-smoke");
    let mut command = workspace.command("sh");
    command.env_remove("CARGO_MANIFEST_DIR");
    // Address space, not resident memory: the limit also covers the build, which needs more.
    let limit_kib = (MEMORY_MIB_MAX + 6144) * 1024;
    command.arg("-c").arg(format!("ulimit -v {limit_kib} 2>/dev/null; exec \"$0\" \"$@\""));
    command.arg(inner.get_program()).args(inner.get_args());
    command.args(["--seconds", &seconds.to_string(), "--runs", &runs.to_string()]).args(targets);
    command
}

fn libfuzzer(workspace: &Workspace, targets: &[Entry], seconds: u64, runs: u64) -> Result<bool> {
    let mut progress = Progress::new(targets.len() + 1);
    progress.start("build");
    let build = run::captured(workspace, &progress, "fuzz build", build_command(workspace)?)?;
    if !build.ok {
        build.show(&progress);
        return Err(Failure::new("the fuzz targets do not build"));
    }
    progress.done("build", "ok");
    let mut count = Count::default();
    for target in targets {
        progress.start(&target.name);
        let command = fuzz_command(workspace, target, seconds, runs)?;
        let ending = run::captured(workspace, &progress, &format!("fuzz {}", target.name), command)?;
        count.add(Count::one(ending.ok));
        if ending.ok {
            let done = ending.lines.iter().rev().find(|l| l.starts_with("Done")).map_or("", String::as_str);
            progress.done(&target.name, &format!("ok: {done}"));
        } else {
            progress.done(&target.name, "FAILED");
            ending.show(&progress);
        }
    }
    drop(progress);
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(count.failed == 0)
}

fn fuzz_dir(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("fuzz")
}

fn build_command(workspace: &Workspace) -> Result<Command> {
    let mut command = workspace.cargo();
    // With an explicit target the flags stay away from build scripts.
    command.args(["build", "--release", "--manifest-path", "engine/fuzz/Cargo.toml", "--target", &host(workspace)?]);
    command.env("RUSTFLAGS", COVERAGE_FLAGS).env("CARGO_TARGET_DIR", fuzz_dir(workspace));
    Ok(command)
}

/// The target triple that the compiler builds for.
fn host(workspace: &Workspace) -> Result<String> {
    let output = workspace.command("rustc").arg("-vV").output();
    let output = output.map_err(|e| Failure::new(format!("could not start rustc: {e}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("`rustc -vV` names no host"))
}

fn fuzz_command(workspace: &Workspace, target: &Entry, seconds: u64, runs: u64) -> Result<Command> {
    let binary = fuzz_dir(workspace).join(host(workspace)?).join("release/decoder");
    let corpus = made(fuzz_dir(workspace).join("corpus").join(&target.name))?;
    let seed_dir = made(fuzz_dir(workspace).join("seeds").join(&target.name))?;
    let artifacts = made(fuzz_dir(workspace).join("artifacts").join(&target.name))?;
    write_seeds(workspace, &seed_dir)?;
    let mut command = workspace.command(&binary.to_string_lossy());
    command.env("SSD_FUZZ", &target.name);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-runs={}", if runs == 0 { -1 } else { i64::try_from(runs).unwrap_or(i64::MAX) }));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-max_len={INPUT_LEN_MAX}")).arg("-print_final_stats=1");
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(corpus).arg(seed_dir);
    Ok(command)
}

fn made(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&dir).map_err(|e| Failure::file(&dir, "create", &e))?;
    Ok(dir)
}

/// The golden files as bytes, for libFuzzer to start from.
fn write_seeds(workspace: &Workspace, dir: &Path) -> Result<()> {
    for (path, bytes) in seeds::find(&workspace.path("engine/src")) {
        let seed = dir.join(workspace.relative(Path::new(&path)).replace('/', "-"));
        fs::write(&seed, bytes).map_err(|e| Failure::file(&seed, "write", &e))?;
    }
    Ok(())
}
