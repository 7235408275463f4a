//! `cargo xtask crash`: kills processes that use the engine, at random, and checks what they left behind.

use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;
use crate::{run, sim};

/// The binary in the `tests` crate.
const BINARY: &str = "crash";

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

/// What is killed.
#[derive(Subcommand)]
enum Subject {
    /// Processes that share one engine.
    Engine {
        /// Rounds of writing, killing, reopening and checking.
        #[arg(long, default_value_t = 200, value_name = "N")]
        rounds: u64,
    },
}

/// Runs the verb.
///
/// # Errors
/// When there is no such binary, or it cannot be started.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    let Subject::Engine { rounds } = arguments.subject;
    if !workspace.has_binary("tests", BINARY) {
        return Err(Failure::new(format!("tests/src/bin/{BINARY}.rs does not exist")));
    }
    let mut command = sim::binary(workspace, BINARY);
    command.args(["--rounds", &rounds.to_string()]);
    run::inherited(command)
}
