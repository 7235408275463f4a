//! `cargo xtask demo`: the tour of the README, from a checkout to a server to play with.

use std::path::PathBuf;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::workspace::{BENCH_CRATE, Workspace};
use crate::{pg, run};

/// The binary in the `bench` crate that does the work and draws.
const BINARY: &str = "demo";

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Hundreds of thousands of accounts that pgbench makes, twice.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    scale: u64,
    /// Use the tables of an earlier demo of the same scale instead of making them anew.
    #[arg(long)]
    keep: bool,
    /// The directory of the private cluster [default: demo-data, or a place in /var/tmp where the servers may not come here].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the verb; `false` when some of the work failed.
///
/// # Errors
/// When something cannot be installed, built or started.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    if !pg::has_extension_package(workspace) {
        return Err(Failure::new("this checkout has no extension to show"));
    }
    println!("Installing what is missing and building the extension.");
    pg::install(workspace, false, None)?;
    let data = pg::data_dir(arguments.data.as_deref())?;
    println!("\nStarting a private Postgres in {}.", data.display());
    pg::start(&data, pg::DEFAULT_PORT)?;
    println!("\nThe same work on heap tables and on ssdlsm tables, in turns.");
    let ok = run::inherited(tour(workspace, arguments, &data))?;
    let option = pg::data_option(&data);
    println!("The server runs on. To try it: cargo xtask pg psql{option} -- -d demo_ssdlsm");
    println!("for example: SELECT * FROM pgbench_branches; SELECT * FROM ssdlsm_stat;");
    println!("and to stop it: cargo xtask pg stop{option}");
    println!("demo: {}", if ok { "ok" } else { "failed" });
    Ok(ok)
}

/// The program that does the work. Built as the extension is, so that the engine is not compiled again.
fn tour(workspace: &Workspace, arguments: &Arguments, data: &std::path::Path) -> std::process::Command {
    let mut command = workspace.cargo();
    command.args(["run", "--quiet", "--release", "--package", BENCH_CRATE, "--bin", BINARY, "--"]);
    command.arg("--data").arg(data).args(["--scale", &arguments.scale.to_string()]);
    command.arg("--results").arg(workspace.target_dir().join("demo"));
    if arguments.keep {
        command.arg("--keep");
    }
    command
}
