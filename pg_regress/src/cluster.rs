//! A private cluster: its own directory, its own socket in it, reached through nothing else.
//!
//! The settings stand in `ssdb.conf` in the data directory, which is rewritten at each start and is the mark by which a
//! directory is known as ours: no other directory is ever started, stopped or changed. The server listens on a socket in
//! a directory that only its account (and root) can enter, so its superuser needs no password.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::account::Account;
use crate::failure::{Failure, Result};
use crate::installation::Installation;
use crate::program;

/// The file with our settings, and our mark.
const SETTINGS: &str = "ssdb.conf";
/// The superuser of a cluster.
pub const SUPERUSER: &str = "postgres";
/// The longest path of a socket that Linux takes, without its final zero.
const SOCKET_PATH_MAX: usize = 107;
/// How long a server may take to start, to stop, or to follow.
const PATIENCE: Duration = Duration::from_secs(300);

/// A cluster of ours, running or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    installation: Installation,
    account: Account,
    data: PathBuf,
    sockets: PathBuf,
    port: u16,
}

impl Cluster {
    /// The cluster in `data`, with its socket in `sockets`; it need not exist yet.
    ///
    /// # Errors
    /// When the path of the socket would be too long.
    pub fn at(installation: &Installation, account: &Account, data: &Path, sockets: &Path, port: u16) -> Result<Self> {
        let socket = sockets.join(format!(".s.PGSQL.{port}.lock"));
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Failure::new(format!("\"{}\" is too long a path for a socket", socket.display()))
                .hint("choose a directory with a shorter path"));
        }
        Ok(Self {
            installation: installation.clone(),
            account: account.clone(),
            data: data.to_owned(),
            sockets: sockets.to_owned(),
            port,
        })
    }

    /// Whether its directory was made by [`Cluster::create`].
    pub fn is_created(&self) -> bool {
        self.data.join(SETTINGS).is_file()
    }

    /// Makes the cluster.
    ///
    /// # Errors
    /// When there is something else in its directory, or initdb fails.
    pub fn create(&self) -> Result<()> {
        let is_empty = fs::read_dir(&self.data).map_or(true, |mut entries| entries.next().is_none());
        if !is_empty {
            return Err(Failure::new(format!("\"{}\" is not empty and is no cluster of ours", self.data.display()))
                .hint("choose another directory"));
        }
        self.account.make_dir(&self.data)?;
        let mut command = self.command("initdb");
        command.arg("-D").arg(&self.data).args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]);
        program::checked(&mut command, &format!("make a cluster in \"{}\"", self.data.display()))?;
        self.include_settings()
    }

    /// Lets the cluster read our settings last.
    fn include_settings(&self) -> Result<()> {
        let main = self.data.join("postgresql.conf");
        let text = fs::read_to_string(&main).map_err(|e| Failure::file(&main, "read", &e))?;
        let text = format!("include_if_exists = '{SETTINGS}'\n{text}");
        fs::write(&main, text).map_err(|e| Failure::file(&main, "write", &e))
    }

    /// Makes this cluster a standby of `primary`, which must be running.
    ///
    /// # Errors
    /// When pg_basebackup fails.
    pub fn create_standby_of(&self, primary: &Self) -> Result<()> {
        self.account.make_dir(&self.data)?;
        let mut command = primary.client("pg_basebackup");
        command.arg("-D").arg(&self.data).args(["-X", "stream", "-c", "fast", "--no-sync", "-R"]);
        program::checked(&mut command, "make a standby from a base backup").map(drop)
    }

    /// Starts the server with further `settings` (lines of postgresql.conf) and waits until it answers.
    ///
    /// # Errors
    /// When it does not start; shows the end of its log.
    pub fn start(&self, settings: &str) -> Result<()> {
        self.account.make_dir(&self.sockets)?;
        let mut text = "# Rewritten at each start by `cargo xtask`; own settings go into postgresql.conf.\n".to_owned();
        let sockets = self.sockets.display();
        let _ = writeln!(text, "listen_addresses = ''\nunix_socket_directories = '{sockets}'\nport = {}", self.port);
        text.push_str(settings);
        let path = self.data.join(SETTINGS);
        fs::write(&path, text).map_err(|e| Failure::file(&path, "write", &e))?;
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(&self.data).arg("-l").arg(self.log()).args(["-w", "-s", "-t", "300", "start"]);
        // The server inherits what it is given: with a pipe the caller would wait for its end.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let status = command.status().map_err(|e| Failure::new(format!("could not start pg_ctl: {e}")))?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(self.log()).unwrap_or_default();
        Err(Failure::new(format!(
            "the server in \"{}\" did not start\n{}",
            self.data.display(),
            program::last_lines(&said)
        )))
    }

    /// Stops the server in the given way (`smart`, `fast` or `immediate`).
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&self, mode: &str) -> Result<()> {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(&self.data).args(["-w", "-s", "-t", "300", "-m", mode, "stop"]);
        program::checked(&mut command, &format!("stop the server in \"{}\"", self.data.display())).map(drop)
    }

    /// Whether the server runs.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn is_running(&self) -> Result<bool> {
        Ok(program::output(self.command("pg_ctl").arg("-D").arg(&self.data).arg("status"))?.status.success())
    }

    /// Runs SQL as superuser and returns the values, one row a line.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = self.client("psql");
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        Ok(program::checked(&mut command, &format!("run `{sql}`"))?.trim_end().to_owned())
    }

    /// Waits until `standby` has replayed all that this server has written.
    ///
    /// # Errors
    /// When it does not within five minutes.
    pub fn wait_for(&self, standby: &Self) -> Result<()> {
        let written = self.sql("postgres", "SELECT pg_current_wal_flush_lsn()")?;
        let question = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
        let start = Instant::now();
        while standby.sql("postgres", &question)? != "t" {
            if start.elapsed() > PATIENCE {
                let seen = standby.sql("postgres", "SELECT pg_last_wal_replay_lsn()")?;
                return Err(Failure::new(format!("the standby stands at {seen} and does not reach {written}")));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// A client program that reaches this server.
    pub fn client(&self, name: &str) -> Command {
        let mut command = self.command(name);
        command.args(self.address());
        command
    }

    /// The options by which clients reach this server.
    pub fn address(&self) -> [String; 6] {
        let sockets = self.sockets.to_string_lossy().into_owned();
        ["-h".to_owned(), sockets, "-p".to_owned(), self.port.to_string(), "-U".to_owned(), SUPERUSER.to_owned()]
    }

    /// One of Postgres's programs under the account of the server.
    fn command(&self, name: &str) -> Command {
        self.account.command(&self.installation.program(name))
    }

    /// The file that the server logs to.
    pub fn log(&self) -> PathBuf {
        self.data.join("server.log")
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where its socket is.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The number in the name of its socket.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The port that our settings in `data` name, if they are there.
pub fn port_of(data: &Path) -> Option<u16> {
    let text = fs::read_to_string(data.join(SETTINGS)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("port = ")?.trim().parse().ok())
}
