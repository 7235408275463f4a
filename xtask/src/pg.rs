//! `cargo xtask pg`: Postgres with the extension, and a private cluster to try it in.
//!
//! Clusters that this command did not make are never touched.

mod install;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand};
use ssd_pg_regress::account::{self, Account};
use ssd_pg_regress::cluster::{self, Cluster, SUPERUSER};
use ssd_pg_regress::installation::{EXTENSION, Installation};

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

pub(crate) use install::{has_extension_package, prepare, run as install};

/// Where the private cluster is when nothing else is said, and the servers may come here.
const DEFAULT_DATA: &str = "demo-data";
/// The number in the name of its socket when nothing else is said.
pub(crate) const DEFAULT_PORT: u16 = 5433;

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Install what is missing: Postgres from Debian's packages, and the extension built from this checkout.
    Install {
        /// Install Postgres alone, not the extension.
        #[arg(long)]
        heap_only: bool,
        /// The version of the packages [default: the installed one, or the newest whose source can be had].
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
    },
    /// Make a private cluster, if there is none, and start it.
    Start {
        #[command(flatten)]
        place: Place,
        /// The number in the name of its socket.
        #[arg(long, default_value_t = DEFAULT_PORT, value_name = "N")]
        port: u16,
    },
    /// Stop the private cluster.
    Stop {
        #[command(flatten)]
        place: Place,
        /// How: `smart`, `fast` or `immediate`.
        #[arg(long, default_value = "fast", value_parser = ["smart", "fast", "immediate"])]
        mode: String,
    },
    /// Open psql on the private cluster.
    Psql {
        #[command(flatten)]
        place: Place,
        /// More options of psql, after `--`.
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// Say what is installed and whether the private cluster runs.
    Status(Place),
}

/// Where the private cluster is.
#[derive(Args)]
struct Place {
    /// Its directory [default: demo-data, or a place in /var/tmp where the servers may not come here].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    fn path(&self) -> Result<PathBuf> {
        data_dir(self.data.as_deref())
    }

    /// The cluster here.
    fn existing(&self, installation: &Installation) -> Result<Cluster> {
        let data = self.path()?;
        let Some(port) = cluster::port_of(&data) else {
            return Err(Failure::new(format!(
                "there is no private cluster in \"{}\"\nhint: cargo xtask pg start makes one",
                data.display()
            )));
        };
        Ok(Cluster::at(installation, &Account::find()?, &data, &data, port)?)
    }
}

/// Runs the verb.
///
/// # Errors
/// When something is missing, or a program of Postgres fails.
pub(crate) fn run(workspace: &Workspace, arguments: Arguments) -> Result<bool> {
    match arguments.what {
        What::Install { heap_only, version } => install::run(workspace, heap_only, version.as_deref())?,
        What::Start { place, port } => start(&place.path()?, port)?,
        What::Stop { place, mode } => stop(&place, &mode)?,
        What::Psql { place, more } => return Err(psql(&place, &more)?),
        What::Status(place) => status(&place)?,
    }
    Ok(true)
}

/// Makes the cluster in `data`, if there is none, and starts it.
///
/// # Errors
/// When Postgres is not installed or does not start.
pub(crate) fn start(data: &Path, port: u16) -> Result<()> {
    let installation = Installation::find()?;
    // A cluster keeps the port it was made with.
    let port = cluster::port_of(data).unwrap_or(port);
    let cluster = Cluster::at(&installation, &Account::find()?, data, data, port)?;
    if !cluster.is_created() {
        cluster.create()?;
        println!("made a cluster in {}", data.display());
    }
    if cluster.is_running()? {
        println!("the server runs already");
    } else {
        let preload = if installation.has_extension() {
            format!("shared_preload_libraries = '{EXTENSION}'\n")
        } else {
            println!("{EXTENSION} is not installed (cargo xtask pg install): heap only");
            String::new()
        };
        cluster.start(&preload)?;
    }
    println!("PostgreSQL {} runs; to use it: cargo xtask pg psql{}", installation.version, data_option(data));
    println!("or any client: {}", address(&cluster));
    Ok(())
}

fn stop(place: &Place, mode: &str) -> Result<()> {
    let cluster = place.existing(&Installation::find()?)?;
    if cluster.is_running()? {
        cluster.stop(mode)?;
        println!("stopped");
    } else {
        println!("the server does not run");
    }
    Ok(())
}

/// Becomes psql; returns only when that fails.
fn psql(place: &Place, more: &[String]) -> Result<Failure> {
    let installation = Installation::find()?;
    let cluster = place.existing(&installation)?;
    if !cluster.is_running()? {
        return Err(Failure::new("the server does not run\nhint: cargo xtask pg start"));
    }
    let mut command = Command::new(installation.program("psql"));
    command.args(cluster.address());
    if !more.iter().any(|option| option == "-d" || option.starts_with("--dbname")) {
        command.args(["-d", "postgres"]);
    }
    let error = command.args(more).exec();
    Ok(Failure::new(format!("could not start psql: {error}")))
}

fn status(place: &Place) -> Result<()> {
    let installation = Installation::find()?;
    println!("PostgreSQL {} in {}", installation.version, installation.bin_dir.display());
    println!("{EXTENSION}: {}", if installation.has_extension() { "installed" } else { "not installed" });
    let data = place.path()?;
    if cluster::port_of(&data).is_none() {
        println!("private cluster: none in {}", data.display());
        return Ok(());
    }
    let cluster = place.existing(&installation)?;
    let state = if cluster.is_running()? { "runs" } else { "stopped" };
    println!("private cluster: {state}, {}", address(&cluster));
    Ok(())
}

fn address(cluster: &Cluster) -> String {
    format!("host={} port={} user={SUPERUSER} dbname=postgres", cluster.sockets().display(), cluster.port())
}

/// The directory of the private cluster: the one that was asked for, or the default.
///
/// # Errors
/// When there is no account for servers.
pub(crate) fn data_dir(asked: Option<&Path>) -> Result<PathBuf> {
    Ok(account::server_dir(asked, Path::new(DEFAULT_DATA))?)
}

/// The option that names the cluster, when it is not the default one.
pub(crate) fn data_option(data: &Path) -> String {
    let is_default = data_dir(None).is_ok_and(|default| default == data);
    if is_default { String::new() } else { format!(" --data {}", data.display()) }
}
