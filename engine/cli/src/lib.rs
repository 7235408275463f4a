//! The command line of `ssd-engine`, as a function from arguments and a world to output and an exit code.
//!
//! A subcommand is a file with its `Arguments` and a `run`; this file lists them. Exit codes: 0 all is well, 1 something is
//! wrong with the files, 2 the command was not used as it can be (or could not work at all).

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::Arc;

use clap::{Parser, Subcommand};
use ssd_engine::env::Env;
use ssd_engine::{Error, Options};

mod cells;
mod inspect;
mod repair;
mod report;
mod show;
mod simulate;
mod stats;
mod verify;

/// All is well.
const FINE: u8 = 0;
/// Something is wrong with the files.
const PROBLEMS: u8 = 1;
/// The command was not used as it can be.
const USAGE: u8 = 2;

/// Looks into, checks and repairs the files of an engine.
#[derive(Parser)]
#[command(name = "ssd-engine", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a file says: an SST, a log segment, LOGBUF, a manifest or CURRENT.
    Inspect(inspect::Arguments),
    /// Check every byte of a directory, without changing anything.
    ///
    /// Exit code 0: nothing is wrong; 1: something is; 2: there is nothing to check.
    Verify(verify::Arguments),
    /// Rebuild the manifest from the SSTs. Deletes nothing: what cannot be used goes to the directory `lost`.
    Repair(repair::Arguments),
    /// Show the levels, files and trees of a directory, from its manifest.
    Stats(stats::Arguments),
    /// Tell what writes would cost: compaction without a disk, in seconds.
    Simulate(simulate::Arguments),
}

/// Where a subcommand works and speaks.
struct World<'w> {
    env: &'w Arc<dyn Env>,
    out: &'w mut dyn Write,
}

impl World<'_> {
    fn options(&self) -> Options {
        Options { env: Some(Arc::clone(self.env)), ..Options::default() }
    }
}

/// Why a subcommand ended early.
enum Failure {
    /// The engine's error.
    Engine(Error),
    /// Output could not be written.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Runs the command line `arguments` (the program's name first) and returns the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    env: &Arc<dyn Env>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(usage) => {
            let text = usage.render();
            // There is nobody left to tell when this fails.
            if usage.use_stderr() {
                drop(write!(err, "{text}"));
                return USAGE;
            }
            drop(write!(out, "{text}"));
            return FINE;
        }
    };
    let mut world = World { env, out };
    let outcome = match arguments.command {
        Command::Inspect(arguments) => inspect::run(&mut world, &arguments),
        Command::Verify(arguments) => verify::run(&mut world, &arguments),
        Command::Repair(arguments) => repair::run(&mut world, &arguments),
        Command::Stats(arguments) => stats::run(&mut world, &arguments),
        Command::Simulate(arguments) => simulate::run(&mut world, &arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure::Engine(error)) => {
            drop(writeln!(err, "error: {}", show::error(&error)));
            if matches!(error, Error::Corruption { .. }) { PROBLEMS } else { USAGE }
        }
        // A reader that has gone (`| head`) has seen what it wanted.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => FINE,
        Err(Failure::Output(error)) => {
            drop(writeln!(err, "error: could not write the output: {error}"));
            USAGE
        }
    }
}
