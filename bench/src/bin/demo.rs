//! `cargo xtask demo`, once Postgres runs: the same work on heap and on the extension's tables, a table, and plots.
#![expect(clippy::print_stdout, reason = "a command speaks to the person who typed it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use ssd_bench::pg::tour::{Step, Tour};
use ssd_bench::report::{self, DEMO, Report};
use ssd_bench::{Result, command};
use ssd_pg_regress::account::Account;
use ssd_pg_regress::suite::AccessMethod;

/// Does the same work on heap and on the extension's tables.
#[derive(Parser)]
#[command(name = "demo", max_term_width = 100)]
struct Arguments {
    /// The directory of a private cluster that runs.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Hundreds of thousands of accounts.
    #[arg(long, default_value_t = 10, value_name = "N")]
    scale: u64,
    /// Use the tables of an earlier demo.
    #[arg(long)]
    keep: bool,
    /// Where table and plots go.
    #[arg(long, value_name = "DIR")]
    results: PathBuf,
}

fn main() -> ExitCode {
    command::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<bool> {
    let subject = AccessMethod::Extension;
    let results_dir = std::path::absolute(&arguments.results)?;
    let tour = Tour {
        subject,
        data: std::path::absolute(&arguments.data)?,
        scale: arguments.scale.max(1),
        keep: arguments.keep,
        scratch: Account::find()?.reachable(&results_dir.join("scratch"))?,
    };
    let bar = ProgressBar::new(tour.steps() as u64);
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {elapsed} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(120));
    let results = tour.run(&|step| match step {
        Step::Begin(what) => bar.set_message(what.to_owned()),
        Step::Done(line) => {
            line.iter().for_each(|line| bar.suspend(|| report::tell(line)));
            bar.inc(1);
        }
    })?;
    bar.finish_and_clear();
    let report = Report::new(&DEMO, &results, subject.name(), false, 1);
    let written = report::finish(&report, &results, &results_dir)?;
    written.iter().filter(|line| !line.starts_with("geomean")).for_each(|line| println!("{line}"));
    println!("{}", report.taken());
    Ok(results.failures.is_empty())
}
