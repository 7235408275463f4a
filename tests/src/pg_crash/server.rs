//! The server that is killed and revived: its processes, who is struck, and waiting until it is really gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use ssd_pg_regress::cluster::{Cluster, SUPERUSER};
use ssd_pg_regress::program;

use super::Result;
use crate::rng::Rng;

/// How long a server may take to go, to come back, or to answer.
pub const PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(20);

/// Who or what ends a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to a process whose description starts so.
    Kill(&'static str),
    /// SIGKILL to the postmaster.
    KillPostmaster,
    /// `pg_ctl stop` in this mode.
    Stop(&'static str),
}

/// All blows; each is as likely as the next. The guardian and compactors are the extension's.
const BLOWS: [Blow; 12] = [
    Blow::Kill("client backend"),
    Blow::Kill("client backend"),
    Blow::Kill("ssdlsm guardian"),
    Blow::Kill("ssdlsm guardian"),
    Blow::Kill("ssdlsm compactor"),
    Blow::Kill("checkpointer"),
    Blow::Kill("walwriter"),
    Blow::Kill("background writer"),
    Blow::KillPostmaster,
    Blow::KillPostmaster,
    Blow::Stop("immediate"),
    Blow::Stop("fast"),
];

impl Blow {
    /// One of those that can hit this server: what it does not run cannot be killed.
    ///
    /// # Errors
    /// When the server does not say what it runs.
    pub fn choose(cluster: &Cluster, rng: &mut Rng) -> Result<Self> {
        let kinds = text(cluster.sql("postgres", "SELECT backend_type FROM pg_stat_activity"))?;
        let possible: Vec<Self> = BLOWS
            .into_iter()
            .filter(|blow| match blow {
                Self::Kill(kind) => kinds.lines().any(|line| line.starts_with(kind)),
                Self::KillPostmaster | Self::Stop(_) => true,
            })
            .collect();
        Ok(rng.pick(&possible))
    }

    /// In words.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Kill(kind) => format!("kill -9 of a {kind}"),
            Self::KillPostmaster => "kill -9 of the postmaster".to_owned(),
            Self::Stop(mode) => format!("stop -m {mode}"),
        }
    }

    /// Whether the server is down after it and must be started.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Kill(_))
    }
}

/// The processes of a server, as they were at a moment.
#[derive(Clone, Debug)]
pub struct Processes {
    postmaster: u32,
    children: Vec<u32>,
}

impl Processes {
    /// Those of a running server.
    ///
    /// # Errors
    /// When it does not run.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let path = cluster.data().join("postmaster.pid");
        let file = fs::read_to_string(&path).map_err(|e| format!("could not read \"{}\": {e}", path.display()))?;
        let postmaster = file.lines().next().and_then(|line| line.trim().parse().ok());
        let postmaster = postmaster.ok_or_else(|| format!("\"{}\" names no process", path.display()))?;
        Ok(Self { postmaster, children: children_of(postmaster)? })
    }

    /// Waits until all are gone. (A zombie still holds its number, and with it the lock file; who reaps the children of a
    /// dead postmaster takes its time over it.)
    ///
    /// # Errors
    /// When some stay.
    pub fn wait_for_end(&self) -> Result<()> {
        self.wait_for_children()?;
        wait_for_end(&[self.postmaster])
    }

    /// Waits until the children are gone.
    ///
    /// # Errors
    /// When some stay.
    pub fn wait_for_children(&self) -> Result<()> {
        wait_for_end(&self.children)
    }
}

fn wait_for_end(pids: &[u32]) -> Result<()> {
    wait_until("the end of the server's processes", || {
        Ok(!pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()))
    })
}

/// The processes whose parent is `parent`.
fn children_of(parent: u32) -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").map_err(|e| format!("could not list /proc: {e}"))?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter(|pid| parent_of(*pid) == Some(parent)).collect())
}

/// Reads `PID (NAME) STATE PARENT …`, where the name may hold anything.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Strikes.
///
/// # Errors
/// When the server does not answer or does not stop.
pub fn strike(cluster: &Cluster, blow: Blow, processes: &Processes, rng: &mut Rng) -> Result<()> {
    let victims = match blow {
        Blow::Stop(mode) => return text(cluster.stop(mode)),
        Blow::KillPostmaster => vec![processes.postmaster.to_string()],
        Blow::Kill(kind) => {
            let question = format!(
                "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '{kind}%' AND pid <> pg_backend_pid()"
            );
            text(cluster.sql("postgres", &question))?.lines().map(str::to_owned).collect()
        }
    };
    if victims.is_empty() {
        return Err(format!("{}: there is none", blow.name()));
    }
    let victim = rng.pick(&victims.iter().collect::<Vec<_>>());
    text(program::checked(&mut program::kill("-KILL", &[victim]), &blow.name())).map(drop)
}

/// Starts the server again after a blow, or waits until it has restarted itself.
///
/// # Errors
/// When it does not come back.
pub fn revive(cluster: &Cluster, blow: Blow, before: &Processes, settings: &str) -> Result<()> {
    if blow.is_final() {
        before.wait_for_end()?;
        text(cluster.start(settings))?;
    }
    wait_until("an answer of the server", || Ok(connect(cluster).is_ok()))
}

/// A session on the server.
///
/// # Errors
/// When there is none to be had.
pub fn connect(cluster: &Cluster) -> Result<Client> {
    let mut config = Config::new();
    config.host_path(cluster.sockets()).port(cluster.port()).user(SUPERUSER).dbname("postgres");
    config.application_name("bank").connect_timeout(PATIENCE);
    config.connect(NoTls).map_err(|e| format!("could not connect: {}", explain(&e)))
}

/// What an error of the client says, with the server's own words where there are any.
#[must_use]
pub fn explain(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |db| {
            let detail = db.detail().map_or_else(String::new, |detail| format!(" ({detail})"));
            format!("{} {}: {}{detail}", db.severity(), db.code().code(), db.message())
        },
    )
}

/// Waits for a state of another process.
///
/// # Errors
/// When it does not come in time.
pub fn wait_until(what: &str, mut is_there: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_there()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {what}"));
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// Ends a server whose data nobody needs any more, in whatever state it is, and removes its directories.
pub fn discard(cluster: &Cluster, dirs: &[PathBuf]) {
    if cluster.is_running().unwrap_or(false) {
        // A server that does not even stop like this shows in what follows.
        let _ = cluster.stop("immediate");
    }
    for dir in dirs {
        let _ = fs::remove_dir_all(dir);
    }
}

/// The words of a failure.
pub(crate) fn text<T>(result: ssd_pg_regress::failure::Result<T>) -> Result<T> {
    result.map_err(|failure| failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_found() {
        let own = std::process::id();
        let parent = parent_of(own).unwrap_or_default();
        assert!(parent > 0);
        assert!(children_of(parent).unwrap_or_default().contains(&own));
    }
}
