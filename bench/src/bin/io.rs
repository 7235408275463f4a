//! `cargo xtask bench io`: the engine's I/O beside plain system calls and fio.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::ProgressBar;
use ssd_bench::report::{self, IO, Report};
use ssd_bench::store::OURS;
use ssd_bench::{Result, command, io};

/// Measures the engine's I/O beside plain system calls and fio, on one file.
#[derive(Parser)]
#[command(name = "io", max_term_width = 100)]
struct Arguments {
    /// A small file, short runs, one repetition: a look rather than a result.
    #[arg(long)]
    quick: bool,
    /// Only loads whose name contains one of these texts. The result goes to the build directory then.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    only: Vec<String>,
    /// How often everything is repeated [default: 3, or 1 with --quick].
    #[arg(long, value_name = "N")]
    repetitions: Option<usize>,
    /// Where the file goes; must be on the device to measure.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    command::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<bool> {
    let repetitions = arguments.repetitions.unwrap_or(if arguments.quick { 1 } else { 3 }).max(1);
    let dir = arguments.dir.clone().unwrap_or_else(|| report::target_dir().join("bench-data"));
    if let Some(warning) = report::busy_machine() {
        eprintln!("{warning}");
    }
    let loads = io::loads(arguments.quick, &arguments.only);
    if loads.is_empty() {
        return Err("no load has a name that contains one of the texts of --only".into());
    }
    let bar = ProgressBar::new((loads.len() * repetitions) as u64);
    let tell = |line: &str| {
        bar.suspend(|| report::tell(line));
        bar.inc(1);
    };
    let results = io::run(&dir, &loads, repetitions, &tell)?;
    bar.finish_and_clear();
    let report = Report::new(&IO, &results, OURS, arguments.quick, repetitions);
    let is_whole = arguments.only.is_empty();
    let dir = if is_whole { report::results_dir() } else { report::target_dir().join("bench-results") };
    let lines = report::finish(&report, &results, &dir)?;
    lines.iter().for_each(|line| println!("{line}"));
    Ok(results.failures.is_empty())
}
