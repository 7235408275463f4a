//! The one door: `cargo xtask VERB`. Everything that shows the project right or fast is a verb here.
//!
//! The last line that a verb prints has a fixed form, so that scripts can rely on it; the exit code is not zero when
//! anything failed. What takes long shows its progress.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

mod bench;
mod count;
mod crash;
mod demo;
#[path = "../../engine/fuzz/entries.rs"]
mod entries;
mod failure;
mod fuzz;
mod golden;
mod layers;
mod lint;
mod pg;
mod progress;
mod regress;
mod run;
#[path = "../../engine/fuzz/seeds.rs"]
mod seeds;
mod sim;
mod soak;
mod source;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Result;
use crate::workspace::Workspace;

/// Tests, checks and measures the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show what there is to see: install what is missing, start a private Postgres in ./demo-data, do the same work on heap
    /// and on ssdlsm tables, and leave the server running to try.
    ///
    /// Last line: `demo: ok`, or `demo: failed`.
    Demo(demo::Arguments),
    /// Run everything that fits half an hour on two cores: lint, unit tests, doc tests, models, simulation, fuzz smoke,
    /// and the suites of Postgres where the extension is.
    ///
    /// Last line: `N passed, N failed, N skipped`.
    Test(test::Arguments),
    /// Check formatting, clippy, layers, docs and the rules of docs/STYLE.md.
    ///
    /// Last line: `lint: ok`, or `lint: N failed`.
    Lint,
    /// Run the engine in simulation: seeded operations, crashes, torn writes and failing disks.
    ///
    /// Last line: `N passed, N failed` (seeds). A failure prints its seed; `--seed` runs that one alone.
    Sim(sim::Arguments),
    /// Kill processes that use the engine and check what they left behind.
    ///
    /// Last line: `N passed, N failed` (rounds).
    Crash(crash::Arguments),
    /// Run very many statements in one session, and watch memory and open files of all who take part.
    ///
    /// Last line: `soak: ok`, or `soak: N grew`.
    Soak(soak::Arguments),
    /// Fuzz the decoders of everything that is read from disk.
    ///
    /// Last line: `N passed, N failed` (targets).
    Fuzz(fuzz::Arguments),
    /// Install Postgres with the extension, and run a private cluster.
    Pg(pg::Arguments),
    /// Run Postgres's own suites on heap, or on tables of the extension.
    ///
    /// Last line: `N passed, N failed` (tests). A difference that is no error is listed with its reason.
    Regress(regress::Arguments),
    /// Measure side by side with other engines, or against the bare device.
    ///
    /// Writes bench/results/NAME.json, .md and plots. Last lines: `geomean vs PEER: R` for each peer.
    Bench(bench::Arguments),
    /// Rewrite the golden files from what the code does now; review the difference before committing it.
    ///
    /// Last line: `golden: N changed`.
    Golden,
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the verb; `false` when it ran and something failed.
fn dispatch(verb: Verb) -> Result<bool> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Demo(arguments) => demo::run(&workspace, &arguments),
        Verb::Test(arguments) => test::run(&workspace, &arguments),
        Verb::Lint => lint::run(&workspace),
        Verb::Sim(arguments) => sim::run(&workspace, &arguments),
        Verb::Crash(arguments) => crash::run(&workspace, &arguments),
        Verb::Soak(arguments) => soak::run(&workspace, &arguments),
        Verb::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Verb::Pg(arguments) => pg::run(&workspace, arguments),
        Verb::Regress(arguments) => regress::run(&workspace, &arguments),
        Verb::Bench(arguments) => bench::run(&workspace, &arguments),
        Verb::Golden => golden::run(&workspace),
    }
}
