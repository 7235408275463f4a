//! `cargo xtask sim`: runs the simulator of the `tests` crate, which prints its own progress and last line.

use std::process::Command;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::run;
use crate::workspace::Workspace;

/// The simulator's binary in the `tests` crate.
pub(crate) const BINARY: &str = "sim";

/// The one that simulates transactions.
const TRANSACTIONS_BINARY: &str = "txn-sim";

/// Seeds of a plain run and of a long one.
const SEEDS: u64 = 1_000;
const SEEDS_LONG: u64 = 100_000;

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Count of seeds to run [default: 1000, 100000 with --long, 1 with --seed].
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// First seed; alone, the only one.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Operations of each history [default: the simulator's own].
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Run 100,000 seeds.
    #[arg(long)]
    long: bool,
    /// Print this many of the last operations on the disk with a failure.
    #[arg(long, value_name = "N")]
    trace: Option<u64>,
    /// Simulate transactions over trees of rows.
    #[arg(long)]
    transactions: bool,
}

/// Runs the verb.
///
/// # Errors
/// When there is no simulator, or it cannot be started.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    if !workspace.has_binary("tests", BINARY) {
        return Err(Failure::new(missing()));
    }
    let default = match (arguments.long, arguments.seed) {
        (true, _) => SEEDS_LONG,
        (false, Some(_)) => 1,
        (false, None) => SEEDS,
    };
    let binary_name = if arguments.transactions { TRANSACTIONS_BINARY } else { BINARY };
    let mut command = command(workspace, binary_name, arguments.seeds.unwrap_or(default));
    for (name, value) in [("--seed", arguments.seed), ("--steps", arguments.steps), ("--trace", arguments.trace)] {
        if let Some(value) = value {
            command.args([name, &value.to_string()]);
        }
    }
    run::inherited(command)
}

/// Why there is nothing to run.
pub(crate) fn missing() -> String {
    format!("tests/src/bin/{BINARY}.rs does not exist")
}

/// The simulator `name` over `seeds` seeds.
pub(crate) fn command(workspace: &Workspace, name: &str, seeds: u64) -> Command {
    let mut command = binary(workspace, name);
    command.args(["--seeds", &seeds.to_string()]);
    command
}

/// A binary of the `tests` crate, built fast and with every assertion on; its arguments are to be added.
pub(crate) fn binary(workspace: &Workspace, name: &str) -> Command {
    let mut command = workspace.cargo();
    command.args(["run", "--quiet", "--profile", "sim", "--package", "ssd-tests", "--bin", name, "--"]);
    command
}
