//! `cargo xtask soak`: very many statements in one session, whose memory and open files are watched.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::workspace::Workspace;
use crate::{crash, run, sim};

/// The binary in the `tests` crate.
const BINARY: &str = "soak-pg";

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

/// Who runs the statements.
#[derive(Subcommand)]
enum Subject {
    /// A session of Postgres; the workers of the extension are watched, too.
    Pg(Postgres),
}

/// Options of `soak pg`.
#[derive(Args)]
struct Postgres {
    /// Statements.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    statements: u64,
    /// What tables are made with; heap is the control.
    #[arg(long, default_value = "ssdlsm", value_parser = ["heap", "ssdlsm"])]
    am: String,
    /// Where the cluster goes [default: target/pg_soak].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// When the binary cannot be started.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    let Subject::Pg(postgres) = &arguments.subject;
    let dir = crash::place(workspace, postgres.dir.as_deref(), "pg_soak")?;
    let mut command = sim::binary(workspace, BINARY);
    command.args(["--statements", &postgres.statements.to_string(), "--am", &postgres.am, "--dir", &dir]);
    run::inherited(command)
}
