//! Base backups under load: in the three ways in which they are taken, and restored.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssd_pg_regress::cluster::Cluster;
use ssd_pg_regress::program;

use super::Result;
use super::server::{connect, explain, text};
use crate::rng::Rng;

/// How a backup is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `pg_basebackup` from the primary.
    Primary,
    /// `pg_basebackup` from the standby.
    Standby,
    /// `pg_backup_start`, a copy of the files by a program that knows nothing, `pg_backup_stop`.
    ByHand,
}

/// All ways.
const WAYS: [Way; 3] = [Way::Primary, Way::Standby, Way::ByHand];

impl Way {
    /// Any of them.
    pub fn choose(rng: &mut Rng) -> Self {
        rng.pick(&WAYS)
    }

    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "base backup",
            Self::Standby => "base backup of the standby",
            Self::ByHand => "base backup by hand",
        }
    }

    /// Takes a backup of everything that the primary has acknowledged so far; `copy` can then be started, and is a server of its
    /// own.
    ///
    /// # Errors
    /// When the server or a program refuses.
    pub fn take(self, primary: &Cluster, standby: &Cluster, copy: &Cluster) -> Result<()> {
        match self {
            Self::Primary => text(copy.create_standby_of(primary))?,
            Self::Standby => {
                text(primary.wait_for(standby))?;
                text(copy.create_standby_of(standby))?;
            }
            Self::ByHand => by_hand(primary, copy.data())?,
        }
        let signal = copy.data().join("standby.signal");
        if self != Self::ByHand {
            fs::remove_file(&signal).map_err(|e| format!("could not remove \"{}\": {e}", signal.display()))?;
        }
        // The log that came along is the other server's.
        let _ = fs::remove_file(copy.log());
        Ok(())
    }
}

fn by_hand(primary: &Cluster, to: &Path) -> Result<()> {
    let mut client = connect(primary)?;
    client.batch_execute("SELECT pg_backup_start('by hand', true)").map_err(|e| explain(&e))?;
    copy(primary.data(), to)?;
    let row = client.query_one("SELECT labelfile FROM pg_backup_stop(false)", &[]).map_err(|e| explain(&e))?;
    let label = to.join("backup_label");
    fs::write(&label, row.get::<_, String>(0)).map_err(|e| format!("could not write \"{}\": {e}", label.display()))?;
    // All of the log since the start, which the server keeps.
    let log = to.join("pg_wal");
    fs::remove_dir_all(&log).map_err(|e| format!("could not remove \"{}\": {e}", log.display()))?;
    copy(&primary.data().join("pg_wal"), &log)?;
    for name in ["postmaster.pid", "postmaster.opts"] {
        let path = to.join(name);
        fs::remove_file(&path).map_err(|e| format!("could not remove \"{}\": {e}", path.display()))?;
    }
    // Readable for the server, as all that was copied with its owner.
    let mut owner = Command::new("chown");
    owner.arg("--reference").arg(to.join("PG_VERSION")).arg(&label);
    text(program::checked(&mut owner, "give the label to the server's account")).map(drop)
}

/// Copies a directory that changes meanwhile.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=never"]).arg(from).arg(to).env("LC_ALL", "C");
    let output = text(program::output(&mut command))?;
    // What has gone meanwhile is not missed.
    let said = String::from_utf8_lossy(&output.stderr);
    match said.lines().find(|line| !line.contains("No such file or directory")) {
        Some(line) => Err(format!("cp: {line}")),
        None => Ok(()),
    }
}
