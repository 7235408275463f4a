//! Debian's packages: which versions there are, installing them, and fetching the source of one.
//!
//! **The version trap.** Server, client, headers and the tests must be of one version: pg_regress of one minor version
//! compares with the files of another and fails, and installing the headers alone pulls in the newest. So every package
//! is asked for by version. Where nothing is installed yet, the newest version is taken whose source can be had.
//!
//! Sources are fetched through a private list in the work directory; /etc is never changed for that.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account;
use crate::failure::{Failure, Result};
use crate::installation::MAJOR;
use crate::program;

/// Where Debian's postgresql-common reads how to make the first cluster.
const CREATE_CLUSTER_DIR: &str = "/etc/postgresql-common/createcluster.d";

/// Packages that must be of one version.
fn versioned_packages() -> [String; 3] {
    ["postgresql", "postgresql-client", "postgresql-server-dev"].map(|name| format!("{name}-{MAJOR}"))
}

/// Packages of any version: for pgrx's bindgen, for building regress.so, for the TAP tests, for unpacking the source.
const OTHER_PACKAGES: [&str; 7] = ["clang", "libclang-dev", "gcc", "make", "pkg-config", "libipc-run-perl", "dpkg-dev"];

/// Checks that this is a system with apt.
///
/// # Errors
/// When it is not; names what to install by hand.
pub fn must_be_here() -> Result<()> {
    if program::is_installed("apt-get") && program::is_installed("dpkg-query") {
        return Ok(());
    }
    Err(Failure::new("this system has no apt: packages are installed for Debian and Ubuntu only").hint(format!(
        "install PostgreSQL {MAJOR} with its headers and pg_regress, libclang, a C compiler, make and Perl's IPC::Run \
         by other means, and name its pg_config in the environment as PG_CONFIG"
    )))
}

/// The version of an installed package.
fn installed_version(package: &str) -> Result<Option<String>> {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${db:Status-Status} ${Version}", package]);
    let output = program::output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_once(' ').filter(|(status, _)| *status == "installed").map(|(_, version)| version.to_owned()))
}

/// The versions of a package that can be installed, newest first.
fn available_versions(package: &str) -> Result<Vec<String>> {
    let table = program::checked(Command::new("apt-cache").args(["madison", package]), "ask apt for versions")?;
    let binary = table.lines().filter(|line| line.contains("Packages"));
    let mut versions: Vec<String> = Vec::new();
    for version in binary.filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned())) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    Ok(versions)
}

/// Installs what is missing; `wanted` names a version of Postgres. Returns what it installed, as `package=version`.
///
/// # Errors
/// When there is no such version, or apt fails.
pub fn install(work: &Path, wanted: Option<&str>, say: &mut dyn FnMut(&str)) -> Result<Vec<String>> {
    must_be_here()?;
    let mut installed = Vec::new();
    for package in versioned_packages() {
        installed.push((installed_version(&package)?, package));
    }
    let mut missing: Vec<String> = Vec::new();
    for package in OTHER_PACKAGES {
        if installed_version(package)?.is_none() {
            missing.push(package.to_owned());
        }
    }
    let present: BTreeSet<&String> = installed.iter().filter_map(|(version, _)| version.as_ref()).collect();
    let is_complete = present.len() == 1 && installed.iter().all(|(version, _)| version.is_some());
    let is_wanted = wanted.is_none_or(|wanted| present.iter().all(|version| version.as_str() == wanted));
    if is_complete && is_wanted && missing.is_empty() {
        return Ok(missing);
    }
    say("reading the lists of packages");
    program::checked(apt_get()?.args(["update", "-qq"]), "read the lists of packages")?;
    if !(is_complete && is_wanted) {
        let server = installed[0].0.as_deref();
        let version = choose_version(work, server, wanted, say)?;
        // libpq must not be older than the client, and its headers are of its own version.
        let mut packages: Vec<String> = installed.iter().map(|(_, package)| package.clone()).collect();
        packages.extend(["libpq5".to_owned(), "libpq-dev".to_owned()]);
        missing.extend(packages.into_iter().map(|package| format!("{package}={version}")));
    }
    say(&format!("installing {}", missing.join(" ")));
    let makes_no_cluster = NoFirstCluster::begin(installed[0].0.is_none())?;
    let mut command = apt_get()?;
    command.args(["install", "-y", "-qq", "--no-install-recommends", "--allow-downgrades"]).args(&missing);
    let done = program::checked(&mut command, "install packages");
    drop(makes_no_cluster);
    done.map(|_| missing)
}

/// The version of Postgres to install.
fn choose_version(
    work: &Path,
    server: Option<&str>,
    wanted: Option<&str>,
    say: &mut dyn FnMut(&str),
) -> Result<String> {
    let mut offered: Option<Vec<String>> = None;
    for package in versioned_packages() {
        let versions = available_versions(&package)?;
        offered = Some(match offered {
            None => versions,
            Some(before) => before.into_iter().filter(|version| versions.contains(version)).collect(),
        });
    }
    let offered = offered.unwrap_or_default();
    let list = offered.join(", ");
    match (wanted.or(server), offered.first()) {
        (_, None) => Err(Failure::new(format!("apt offers no postgresql-{MAJOR} with its headers"))
            .hint("Debian 12 has it; on other releases add the repository of the PostgreSQL project")),
        (Some(version), _) if offered.iter().any(|o| o == version) => Ok(version.to_owned()),
        (Some(version), _) if wanted.is_some() => {
            Err(Failure::new(format!("apt does not offer version {version}")).hint(format!("it offers {list}")))
        }
        (Some(version), Some(newest)) => Err(Failure::new(format!(
            "the installed server is of version {version}, and apt has no headers of that version"
        ))
        .hint(format!("upgrade it: cargo xtask pg install --version {newest} (restarts the clusters of the system)"))),
        (None, Some(newest)) => {
            for version in &offered {
                say(&format!("looking for the source of version {version}"));
                if SourceList::for_version(work, version).and_then(|list| list.fetch_description(version)).is_ok() {
                    return Ok(version.clone());
                }
            }
            say("no version's source can be had: the suites of Postgres will not run");
            Ok(newest.clone())
        }
    }
}

/// While it lives, installing a server makes no cluster.
struct NoFirstCluster(Option<PathBuf>);

impl NoFirstCluster {
    fn begin(needed: bool) -> Result<Self> {
        if !needed || !account::is_root()? {
            return Ok(Self(None));
        }
        let dir = Path::new(CREATE_CLUSTER_DIR);
        fs::create_dir_all(dir).map_err(|e| Failure::file(dir, "create", &e))?;
        let path = dir.join("ssdb.conf");
        fs::write(&path, "create_main_cluster = false\n").map_err(|e| Failure::file(&path, "write", &e))?;
        Ok(Self(Some(path)))
    }
}

impl Drop for NoFirstCluster {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// apt-get that asks nothing, with the rights to install.
fn apt_get() -> Result<Command> {
    let mut command = as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Ok(command)
}

/// A program with the rights of root: as it is, or by sudo.
///
/// # Errors
/// When the caller is not root and there is no sudo.
pub fn as_root(program: &str) -> Result<Command> {
    if account::is_root()? {
        return Ok(Command::new(program));
    }
    if !program::is_installed("sudo") {
        return Err(
            Failure::new("installing needs the rights of root, and sudo is not installed").hint("run this as root")
        );
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// A private list of places for sources, with apt's state for it.
pub struct SourceList {
    dir: PathBuf,
}

impl SourceList {
    /// The places that offer this version of the server, read as places for its source.
    ///
    /// # Errors
    /// When apt knows no such version, or cannot read the lists of the sources.
    pub fn for_version(work: &Path, version: &str) -> Result<Self> {
        must_be_here()?;
        let dir = work.join("apt");
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(part)).map_err(|e| Failure::file(&dir.join(part), "create", &e))?;
        }
        let mut command = Command::new("apt-cache");
        let policy = program::checked(command.args(["policy", &versioned_packages()[0]]), "ask apt for places")?;
        let places = source_places(&policy, version);
        if places.is_empty() {
            return Err(Failure::new(format!("apt knows no place that offers postgresql-{MAJOR} {version}"))
                .hint("apt-get update; or install another version: cargo xtask pg install --version VERSION"));
        }
        let list = Self { dir };
        let path = list.dir.join("sources.list");
        fs::write(&path, places).map_err(|e| Failure::file(&path, "write", &e))?;
        program::checked(list.apt_get().args(["update", "-qq"]), "read the lists of sources")?;
        Ok(list)
    }

    /// apt-get that knows this list alone.
    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        let path = |part: &str| self.dir.join(part).to_string_lossy().into_owned();
        for (option, value) in [
            ("Dir::Etc::sourcelist", path("sources.list")),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Dir::State::lists", path("lists")),
            ("Dir::Cache::archives", path("archives")),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            // The account that apt would change to cannot enter a private directory.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command.current_dir(&self.dir);
        command
    }

    /// Fetches the description of the source package: a small file that is there only if the rest is.
    fn fetch_description(&self, version: &str) -> Result<()> {
        let package = format!("postgresql-{MAJOR}={version}");
        let mut command = self.apt_get();
        command.args(["source", "-qq", "--download-only", "--dsc-only", &package]);
        program::checked(&mut command, &format!("fetch the description of {package}")).map(drop)
    }

    /// Fetches and unpacks the source of this version, with Debian's patches, into `target`.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn fetch(&self, version: &str, target: &Path) -> Result<()> {
        let package = format!("postgresql-{MAJOR}={version}");
        let mut command = self.apt_get();
        command.args(["source", "-qq", "--download-only", &package]);
        program::checked(&mut command, &format!("fetch the source of {package}")).map_err(|e| {
            e.hint("install a version whose source can be had: cargo xtask pg install --version VERSION")
        })?;
        let description = self.dir.join(format!("postgresql-{MAJOR}_{version}.dsc"));
        let mut command = Command::new("dpkg-source");
        command.args(["--no-check", "-x"]).arg(description).arg(target).current_dir(&self.dir);
        program::checked(&mut command, "unpack the source").map(drop)
    }
}

/// Lines of a list of sources from what `apt-cache policy` prints: the places of this version.
fn source_places(policy: &str, version: &str) -> String {
    let mut places = String::new();
    let mut is_version = false;
    for line in policy.lines().skip_while(|line| !line.contains("Version table:")).skip(1) {
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "***").collect();
        match words.as_slice() {
            [found, _priority] => is_version = *found == version,
            [_, uri, place, _arch, "Packages"] if is_version => {
                if let Some((suite, component)) = place.rsplit_once('/') {
                    let _ = writeln!(places, "deb-src {uri} {suite} {component}");
                }
            }
            _ => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_version_are_read() {
        let policy = "postgresql-15:\n  Installed: 15.18-0+deb12u1\n  Candidate: 15.20-0+deb12u1\n  Version table:\n     \
            15.20-0+deb12u1 500\n        500 http://a/debian-security bookworm-security/main amd64 Packages\n \
            *** 15.18-0+deb12u1 500\n        500 http://a/debian bookworm/main amd64 Packages\n        \
            100 /var/lib/dpkg/status\n";
        assert_eq!(source_places(policy, "15.18-0+deb12u1"), "deb-src http://a/debian bookworm main\n");
        let security = "deb-src http://a/debian-security bookworm-security main\n";
        assert_eq!(source_places(policy, "15.20-0+deb12u1"), security);
        assert_eq!(source_places(policy, "15.3"), "");
    }
}
