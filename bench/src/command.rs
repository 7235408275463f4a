//! The command line of the side-by-side benchmarks: options, plan, runs, report.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::parent::{self, Job};
use crate::plan::{DataSet, Size};
use crate::report::{self, Report, Subject};
use crate::store::OURS;
use crate::{Result, child};

/// A benchmark.
pub struct Bench {
    /// Its name and method.
    pub subject: &'static Subject,
    /// Its purpose, for `--help`.
    pub about: &'static str,
    /// Names of its stores, ours first.
    pub stores: &'static [&'static str],
    /// Makes its plan; see [`crate::plan::plan`].
    pub plan: fn(Size, &[String]) -> Vec<DataSet>,
}

/// How a program ends: `Ok(false)` when something that it ran has failed and was told; an error is told here.
#[must_use]
pub fn exit(outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Less data, shorter runs, one repetition: a look rather than a result.
    #[arg(long)]
    quick: bool,
    /// Only workloads whose name contains one of these texts. The result goes to the build directory then.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    only: Vec<String>,
    /// Only these stores.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    stores: Vec<String>,
    /// How often everything is repeated [default: 3, or 1 with --quick].
    #[arg(long, value_name = "N")]
    repetitions: Option<usize>,
    /// The store that the others are compared with.
    #[arg(long, default_value = OURS, value_name = "NAME")]
    subject: String,
    /// Where the stores' data goes while it runs; must be on the device to measure. Emptied first.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the plan and end.
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Role {
    /// One run in its own process; the program starts these itself.
    #[command(hide = true)]
    Child { spec: String },
}

impl Bench {
    /// Does what the program's arguments say.
    #[must_use]
    pub fn main(&self) -> ExitCode {
        let matches = Arguments::command().name(self.subject.name).about(self.about).get_matches();
        exit(Arguments::from_arg_matches(&matches).map_err(Into::into).and_then(|a| self.run(&a)))
    }

    /// `false` when a run failed.
    fn run(&self, arguments: &Arguments) -> Result<bool> {
        if let Some(Role::Child { spec }) = &arguments.role {
            child::run(spec, |line| println!("{line}"))?;
            return Ok(true);
        }
        let size = if arguments.quick { Size::Quick } else { Size::Full };
        let sets = (self.plan)(size, &arguments.only);
        if arguments.list {
            for set in &sets {
                set.steps.iter().filter(|s| !s.silent).for_each(|s| println!("{} ({} rows)", s.workload, set.rows));
            }
            return Ok(true);
        }
        let stores = self.chosen(&arguments.stores)?;
        let repetitions = arguments.repetitions.unwrap_or(if arguments.quick { 1 } else { 3 }).max(1);
        let dir = arguments.dir.clone().unwrap_or_else(|| report::target_dir().join("bench-data"));
        if let Some(warning) = report::busy_machine() {
            eprintln!("{warning}");
        }
        let results = parent::run(&Job { sets, stores, repetitions, dir })?;
        let is_whole = arguments.only.is_empty() && arguments.stores.is_empty() && arguments.subject == OURS;
        let out = if is_whole { report::results_dir() } else { report::target_dir().join("bench-results") };
        let report = Report::new(self.subject, &results, &arguments.subject, arguments.quick, repetitions);
        let lines = report::finish(&report, &results, &out)?;
        lines.iter().for_each(|line| println!("{line}"));
        Ok(results.failures.is_empty())
    }

    fn chosen(&self, names: &[String]) -> Result<Vec<String>> {
        for name in names {
            if !self.stores.contains(&name.as_str()) {
                return Err(format!("no store \"{name}\" in this build; there are: {}", self.stores.join(", ")).into());
            }
        }
        let all = self.stores.iter().map(|s| (*s).to_owned());
        Ok(all.filter(|s| names.is_empty() || names.contains(s)).collect())
    }
}
