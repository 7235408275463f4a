//! `cargo xtask bench pg`: tables of the extension beside heap tables, in one cluster.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use ssd_bench::pg::load::{self, Size};
use ssd_bench::pg::{self, Job};
use ssd_bench::report::{self, PG, Report};
use ssd_bench::{Result, command};
use ssd_pg_regress::account;
use ssd_pg_regress::suite::AccessMethod;

/// Measures tables of an access method beside heap tables, in one private cluster.
#[derive(Parser)]
#[command(name = "pg", max_term_width = 100)]
struct Arguments {
    /// Less data, shorter runs, one repetition: a look rather than a result.
    #[arg(long)]
    quick: bool,
    /// How often everything is repeated [default: 3, or 1 with --quick].
    #[arg(long, value_name = "N")]
    repetitions: Option<usize>,
    /// What is compared with heap.
    #[arg(long, value_enum, default_value_t = Name::Ssdlsm)]
    am: Name,
    /// Only loads whose name contains one of these, separated by commas.
    #[arg(long, value_name = "TEXTS", value_delimiter = ',')]
    only: Vec<String>,
    /// Show the loads.
    #[arg(long)]
    list: bool,
    /// Where the cluster goes; must be on the device to measure.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the results go [default: bench/results; the target directory for heap under another name].
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The extension's.
    Ssdlsm,
    /// Heap under another name, which shows the noise of the measurement.
    HeapAlias,
}

fn main() -> ExitCode {
    command::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<bool> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let repetitions = arguments.repetitions.unwrap_or(if arguments.quick { 1 } else { 3 }).max(1);
    let loads = load::loads(size, &arguments.only);
    if arguments.list {
        loads.iter().for_each(|load| println!("{}", load.name()));
        return Ok(true);
    }
    if loads.is_empty() {
        return Err("no load has such a name\nhint: --list shows them".into());
    }
    if let Some(warning) = report::busy_machine() {
        eprintln!("{warning}");
    }
    let target = std::path::absolute(report::target_dir())?;
    let (subject, results_dir) = match arguments.am {
        Name::Ssdlsm => (AccessMethod::Extension, report::results_dir()),
        // A control is no result of the project.
        Name::HeapAlias => (AccessMethod::HeapAlias, target.join("bench-results")),
    };
    let bar = ProgressBar::new((loads.len() * repetitions) as u64);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let tell = |line: &str| {
        bar.suspend(|| report::tell(line));
        bar.inc(1);
    };
    let dir = account::server_dir(arguments.dir.as_deref(), &target.join("bench-pg"))?;
    let results = pg::run(&Job { subject, size, loads, repetitions, dir }, &tell)?;
    bar.finish_and_clear();
    let report = Report::new(&PG, &results, subject.name(), arguments.quick, repetitions);
    let lines = report::finish(&report, &results, arguments.results.as_ref().unwrap_or(&results_dir))?;
    lines.iter().for_each(|line| println!("{line}"));
    Ok(results.failures.is_empty())
}
