//! The account that Postgres's servers run under: `postgres` when the caller is root (they refuse root), else the caller.

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::program;

/// The account that Debian's packages make.
const SERVER_ACCOUNT: &str = "postgres";

/// What programs find in their environment: nothing of the caller's settings for Postgres or for Rust. (With
/// RUST_BACKTRACE set an extension in Rust adds backtraces to its messages.)
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program under another account. By its path: the PATH that a caller sets for the program is for the program.
const RUNUSER: &str = "/sbin/runuser";

/// Whose rights servers have.
#[derive(Clone, Debug)]
pub struct Account {
    /// Set when it is another than the caller's.
    other: Option<&'static str>,
}

impl Account {
    /// The account for servers of this caller.
    ///
    /// # Errors
    /// When the caller is root and there is no such account.
    pub fn find() -> Result<Self> {
        if !is_root()? {
            return Ok(Self { other: None });
        }
        if !program::output(Command::new("id").arg(SERVER_ACCOUNT))?.status.success() {
            return Err(Failure::new(format!(
                "Postgres does not run as root, and there is no account `{SERVER_ACCOUNT}`"
            ))
            .hint("run this as an ordinary user, or install Postgres: cargo xtask pg install"));
        }
        Ok(Self { other: Some(SERVER_ACCOUNT) })
    }

    /// A program to be run under this account, with a clean environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match self.other {
            Some(name) => {
                let mut command = Command::new(RUNUSER);
                command.args(["-u", name, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("HOME", "/").current_dir("/");
        command
    }

    /// Makes a directory of this account that nobody else may enter, with its parents.
    ///
    /// # Errors
    /// When it cannot be made, or the account cannot enter it.
    pub fn make_dir(&self, dir: &Path) -> Result<()> {
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Failure::file(parent, "create", &e))?;
        }
        let mut command = Command::new("install");
        command.args(["-d", "-m", "700"]);
        if let Some(name) = self.other {
            command.args(["-o", name]);
        }
        program::checked(command.arg(dir), &format!("make \"{}\"", dir.display()))?;
        self.must_enter(dir)
    }

    /// Checks that programs of this account can work in `dir`.
    ///
    /// # Errors
    /// When they cannot.
    pub fn must_enter(&self, dir: &Path) -> Result<()> {
        if self.can_enter(dir)? {
            return Ok(());
        }
        let who = self.other.unwrap_or("the caller");
        Err(Failure::new(format!("the account of the servers ({who}) cannot enter \"{}\"", dir.display())).hint(
            "name a directory whose parents are open to it (such as one in /var/tmp), or run this as an ordinary user",
        ))
    }

    fn can_enter(&self, dir: &Path) -> Result<bool> {
        let mut command = self.command(Path::new("/usr/bin/test"));
        Ok(program::output(command.arg("-x").arg(dir))?.status.success())
    }

    /// `dir`, an absolute path that nobody has named, or a place for it in /var/tmp where a parent is closed to this account, as root's
    /// home is.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn reachable(&self, dir: &Path) -> Result<PathBuf> {
        let parent = dir.ancestors().skip(1).find(|dir| dir.exists());
        let is_open = parent.map_or(Ok(true), |parent| self.can_enter(parent))?;
        Ok(if is_open { dir.to_owned() } else { stand_in(dir) })
    }
}

/// The directory for servers that was asked for, as it is (a relative path is meant from where the caller is), or the default one where
/// their account [can work](Account::reachable).
///
/// # Errors
/// When there is no account for servers.
pub fn server_dir(asked: Option<&Path>, default: &Path) -> Result<PathBuf> {
    let absolute = |dir: &Path| std::path::absolute(dir).map_err(|e| Failure::file(dir, "find", &e));
    match asked {
        Some(dir) => absolute(dir),
        None => Account::find()?.reachable(&absolute(default)?),
    }
}

/// The place in /var/tmp that stands for `dir`.
fn stand_in(dir: &Path) -> PathBuf {
    let names = dir.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    Path::new("/var/tmp").join(names.fold("ssdb".to_owned(), |joined, name| format!("{joined}-{name}")))
}

/// Whether the caller is root.
///
/// # Errors
/// When that cannot be found out.
pub fn is_root() -> Result<bool> {
    Ok(program::checked(Command::new("id").arg("-u"), "tell who runs this")?.trim() == "0")
}

/// The directory for sockets and other short-lived things of this process: its path must be short.
pub fn short_dir(name: &str) -> PathBuf {
    PathBuf::from("/tmp").join(format!("ssdb-{name}-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_parent_is_stood_in_for() {
        assert_eq!(
            stand_in(Path::new("/closed/project/demo-data")),
            Path::new("/var/tmp/ssdb-closed-project-demo-data")
        );
        let account = Account { other: None };
        let open = std::env::temp_dir().join("not/there/yet");
        assert_eq!(account.reachable(&open).unwrap(), open);
    }
}
