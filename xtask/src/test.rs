//! `cargo xtask test`: everything that fits half an hour on two cores, counted.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::count::{self, Count};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::workspace::{BENCH_CRATE, EXTENSION_CRATE, Workspace, is_installed};
use crate::{entries, fuzz, lint, pg, run, sim};

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Seeds to simulate.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    seeds: u64,
    /// Seconds to fuzz each decoder.
    #[arg(long, default_value_t = 3, value_name = "N")]
    fuzz_seconds: u64,
    /// Whether to install Postgres and the extension, and to run Postgres's suites and ours on it.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Postgres::Auto)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    postgres: Postgres,
}

/// Whether the suites of Postgres run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Postgres {
    /// Where Debian's packages and their source are there, or can be had.
    Auto,
    /// They must.
    Always,
    /// No.
    Never,
}

/// A group of tests: how it went and what it counted.
enum Outcome {
    /// It ran.
    Ran { count: Count, ok: bool },
    /// It did not run; says why.
    Skipped(String),
}

/// Runs a group.
type Group<'g> = &'g dyn Fn(&Progress) -> Result<Outcome>;

/// Suites of Postgres, and ours, but for those of Perl that take long.
const SUITES: [&str; 8] =
    ["core", "isolation", "own", "own-isolation", "extension", "decoding", "decoding-isolation", "own-replication"];

/// Steps after lint: unit tests, doc tests, models, simulation, fuzz smoke, Postgres's own suites.
const GROUPS: usize = 6;

/// Runs the verb; `false` when anything failed.
///
/// # Errors
/// When a part could not be started.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    let mut progress = Progress::new(1 + lint::STEPS + GROUPS);
    // First, since lint looks at the extension where Postgres is.
    let has_postgres = postgres_packages(workspace, &mut progress, arguments.postgres)?;
    let mut total = lint::check_all(workspace, &mut progress)?;
    let groups: [(&str, Group<'_>); GROUPS] = [
        ("unit tests", &|p| unit_tests(workspace, p)),
        ("doc tests", &|p| doc_tests(workspace, p)),
        ("models", &|p| models(workspace, p)),
        ("simulation", &|p| simulation(workspace, p, arguments.seeds)),
        ("fuzz smoke", &|p| fuzz_smoke(workspace, p, arguments.fuzz_seconds)),
        ("postgres", &|p| postgres(workspace, p, has_postgres)),
    ];
    for (name, group) in groups {
        progress.start(name);
        match group(&progress)? {
            Outcome::Ran { mut count, ok } => {
                // A build that failed, or a crash after the last test, is a failure that nobody counted.
                count.failed = count.failed.max(u64::from(!ok));
                progress.done(name, &if count.failed == 0 { count.to_string() } else { format!("FAILED: {count}") });
                total.add(count);
            }
            Outcome::Skipped(why) => {
                progress.done(name, &format!("skipped: {why}"));
                total.add(Count::SKIPPED);
            }
        }
    }
    drop(progress);
    println!("{total}");
    Ok(total.failed == 0)
}

fn unit_tests(workspace: &Workspace, progress: &Progress) -> Result<Outcome> {
    let mut command = workspace.cargo();
    let has_nextest = is_installed("cargo-nextest");
    if has_nextest {
        command.args(["nextest", "run", "--no-tests", "pass"]);
    } else {
        command.args(["test", "--lib", "--bins", "--tests"]);
    }
    command.args([
        "--workspace",
        "--exclude",
        BENCH_CRATE,
        "--exclude",
        EXTENSION_CRATE,
        "--no-fail-fast",
        "--color",
        "never",
    ]);
    let ending = run::captured(workspace, progress, "unit tests", command)?;
    let count = if has_nextest { count::nextest(&ending.lines) } else { count::cargo_test(&ending.lines) };
    Ok(ran(&ending, progress, count))
}

fn doc_tests(workspace: &Workspace, progress: &Progress) -> Result<Outcome> {
    let mut command = workspace.cargo();
    command.args([
        "test",
        "--doc",
        "--workspace",
        "--exclude",
        BENCH_CRATE,
        "--exclude",
        EXTENSION_CRATE,
        "--no-fail-fast",
        "--color",
        "never",
    ]);
    let ending = run::captured(workspace, progress, "doc tests", command)?;
    let count = count::cargo_test(&ending.lines);
    Ok(ran(&ending, progress, count))
}

/// The lock-free parts under shuttle's schedules: tests in modules called `models`, built with the feature.
fn models(workspace: &Workspace, progress: &Progress) -> Result<Outcome> {
    if !has_feature(&workspace.read("engine/Cargo.toml")?, "shuttle") {
        return Ok(Outcome::Skipped("ssd-engine has no feature `shuttle`".to_owned()));
    }
    let mut command = workspace.cargo();
    command.args(["test", "--package", "ssd-engine", "--features", "shuttle", "--lib", "--no-fail-fast"]);
    command.args(["--color", "never", "--", "models::"]);
    let ending = run::captured(workspace, progress, "models", command)?;
    let count = count::cargo_test(&ending.lines);
    if ending.ok && count.is_some_and(|c| c.passed == 0) {
        return Ok(Outcome::Skipped(
            "ssd-engine has the feature `shuttle` and no test in a module `models`".to_owned(),
        ));
    }
    Ok(ran(&ending, progress, count))
}

fn simulation(workspace: &Workspace, progress: &Progress, seeds: u64) -> Result<Outcome> {
    if !workspace.has_binary("tests", sim::BINARY) {
        return Ok(Outcome::Skipped(sim::missing()));
    }
    let ending = run::captured(workspace, progress, "simulation", sim::command(workspace, sim::BINARY, seeds))?;
    let count = count::last_line(&ending.lines);
    Ok(ran(&ending, progress, count))
}

fn fuzz_smoke(workspace: &Workspace, progress: &Progress, seconds: u64) -> Result<Outcome> {
    if entries::find(&workspace.path(fuzz::ENTRIES_DIR)).is_empty() {
        return Ok(Outcome::Skipped(fuzz::missing()));
    }
    let command = fuzz::smoke_command(workspace, &[], seconds, 0);
    let ending = run::captured(workspace, progress, "fuzz smoke", command)?;
    let count = count::last_line(&ending.lines);
    Ok(ran(&ending, progress, count))
}

/// Installs Postgres and fetches the source of its suites, if they are to run; whether they can.
fn postgres_packages(workspace: &Workspace, progress: &mut Progress, when: Postgres) -> Result<bool> {
    const NAME: &str = "postgres packages";
    progress.start(NAME);
    let prepared = match when {
        Postgres::Never => Err("skipped: --postgres=never".to_owned()),
        _ if !pg::has_extension_package(workspace) => Err("skipped: this checkout has no extension".to_owned()),
        _ => match pg::prepare(workspace, &mut |text| progress.note(text)) {
            // What the world does not give is no failure of what is tested.
            Err(why) if when == Postgres::Auto => Err(format!("skipped: {}", why.to_string().replace('\n', "; "))),
            prepared => Ok(prepared?),
        },
    };
    progress.done(NAME, prepared.as_ref().err().map_or("all there", |why| why));
    Ok(prepared.is_ok())
}

/// Postgres's suites, and ours, on tables of the extension, which is installed first.
fn postgres(workspace: &Workspace, progress: &Progress, has_postgres: bool) -> Result<Outcome> {
    if !has_postgres {
        return Ok(Outcome::Skipped("its packages are not there, see above".to_owned()));
    }
    // This program again, so that each step has its own log.
    let again = std::env::current_exe().map_err(|e| Failure::new(format!("could not find this program: {e}")))?;
    let own = |arguments: &[&str]| {
        let mut command = Command::new(&again);
        command.env("CARGO_MANIFEST_DIR", workspace.path("xtask")).args(arguments);
        command
    };
    let installed = run::captured(workspace, progress, "postgres install", own(&["pg", "install"]))?;
    if !installed.ok {
        return Ok(ran(&installed, progress, None));
    }
    let mut total = Count::default();
    let mut all_ok = true;
    for suite in SUITES {
        let ending = run::captured(workspace, progress, &format!("postgres {suite}"), own(&["regress", suite]))?;
        let count = count::last_line(&ending.lines);
        if let Outcome::Ran { count, ok } = ran(&ending, progress, count) {
            total.add(count);
            all_ok &= ok;
        }
    }
    Ok(Outcome::Ran { count: total, ok: all_ok })
}

fn ran(ending: &run::Ending, progress: &Progress, count: Option<Count>) -> Outcome {
    let count = count.unwrap_or_default();
    let ok = ending.ok && count.failed == 0;
    if !ok {
        ending.show(progress);
    }
    Outcome::Ran { count, ok }
}

/// Whether a manifest declares a feature.
fn has_feature(manifest: &str, feature: &str) -> bool {
    let table: toml::Table = manifest.parse().unwrap_or_default();
    table.get("features").and_then(|f| f.get(feature)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_the_manifest() {
        assert!(has_feature("[features]\nshuttle = []\n", "shuttle"));
        assert!(!has_feature("[dependencies]\nshuttle = \"1\"\n", "shuttle"));
    }
}
