//! `cargo xtask crash`: kills processes that use the engine, at random, and checks what they left behind.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use ssd_pg_regress::account;

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;
use crate::{run, sim};

/// The binaries in the `tests` crate.
const BINARY: &str = "crash";
const POSTGRES_BINARY: &str = "crash-pg";
const DISK_BINARY: &str = "full-disk-pg";

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
    /// Postgres under load: a backend, a worker of the extension, the checkpointer, the postmaster, or all of it at once.
    Pg(Postgres),
    /// Nobody: the disk under Postgres fills up, in a small file system of its own, and space returns. Needs root.
    Disk(Disk),
}

/// Options of `crash disk`.
#[derive(Args)]
struct Disk {
    /// Play this scene alone.
    #[arg(long, value_parser = ["creeping", "dropping", "sudden"])]
    scene: Option<String>,
    /// What tables are made with; heap is the control.
    #[arg(long, default_value = "ssdlsm", value_parser = ["heap", "ssdlsm"])]
    am: String,
    /// Where the file system is mounted [default: target/pg_full_disk].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Options of `crash pg`.
#[derive(Args)]
struct Postgres {
    /// Rounds of load, a kill, recovery and checks.
    #[arg(long, default_value_t = 200, value_name = "N")]
    rounds: u64,
    /// Chooses transactions and kills, not their moments [default: the clock's].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// What tables are made with; heap is the control.
    #[arg(long, default_value = "ssdlsm", value_parser = ["heap", "ssdlsm"])]
    am: String,
    /// Let a standby follow (and kill that, too), and take base backups under load.
    #[arg(long)]
    standby: bool,
    /// Where clusters go, and those that failed stay [default: target/pg_crash].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such binary, or it cannot be started.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    let (binary, options) = match &arguments.subject {
        Subject::Engine { rounds } => (BINARY, vec!["--rounds".to_owned(), rounds.to_string()]),
        Subject::Pg(postgres) => (POSTGRES_BINARY, postgres.options(workspace)?),
        Subject::Disk(disk) => {
            let dir = place(workspace, disk.dir.as_deref(), "pg_full_disk")?;
            let mut options = vec!["--am".to_owned(), disk.am.clone(), "--dir".to_owned(), dir];
            options.extend(disk.scene.iter().flat_map(|scene| ["--scene".to_owned(), scene.clone()]));
            (DISK_BINARY, options)
        }
    };
    if !workspace.has_binary("tests", binary) {
        return Err(Failure::new(format!("tests/src/bin/{binary}.rs does not exist")));
    }
    let mut command = sim::binary(workspace, binary);
    command.args(options);
    run::inherited(command)
}

/// The directory that was asked for, or the one for servers that is called `name` under the target directory.
pub(crate) fn place(workspace: &Workspace, asked: Option<&Path>, name: &str) -> Result<String> {
    let dir = account::server_dir(asked, &workspace.target_dir().join(name))?;
    Ok(dir.to_string_lossy().into_owned())
}

impl Postgres {
    fn options(&self, workspace: &Workspace) -> Result<Vec<String>> {
        let dir = place(workspace, self.dir.as_deref(), "pg_crash")?;
        // Any number will do; the program prints it.
        let seed = self.seed.unwrap_or_else(|| {
            SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs() ^ u64::from(time.subsec_nanos()) << 20)
        });
        let pairs = [("--rounds", self.rounds.to_string()), ("--seed", seed.to_string()), ("--am", self.am.clone())];
        let mut options: Vec<String> = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        options.extend(["--dir".to_owned(), dir]);
        if self.standby {
            options.push("--standby".to_owned());
        }
        Ok(options)
    }
}
