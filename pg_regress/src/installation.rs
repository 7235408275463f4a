//! Where Postgres is installed, which version it is, and whether the extension is installed in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::program;

/// The major version that is proven.
pub const MAJOR: u32 = 15;

/// The extension, its library and its access method.
pub const EXTENSION: &str = "ssdlsm";

/// How to get what is missing.
pub const INSTALL_HINT: &str = "cargo xtask pg install";

/// An installed Postgres.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Its programs.
    pub bin_dir: PathBuf,
    /// Its loadable libraries.
    pub library_dir: PathBuf,
    /// Its data: control files of extensions are in `extension` below.
    pub share_dir: PathBuf,
    /// As in `15.18`.
    pub version: String,
    /// The version of the package, as in `15.18-0+deb12u1`; `None` for another build.
    pub package_version: Option<String>,
}

impl Installation {
    /// The Postgres that `PG_CONFIG` names, or Debian's.
    ///
    /// # Errors
    /// When there is none, or it is not of the proven version.
    pub fn find() -> Result<Self> {
        let pg_config = pg_config();
        let ask = |option: &str| -> Result<String> {
            let answer = program::checked(Command::new(&pg_config).arg(option), "ask pg_config");
            Ok(answer.map_err(|e| e.hint(INSTALL_HINT))?.trim().to_owned())
        };
        let (version, package_version) = parse_version(&ask("--version")?);
        if version.split('.').next() != Some(&MAJOR.to_string()) {
            return Err(Failure::new(format!(
                "{} is of PostgreSQL {version}; {MAJOR} is what is supported",
                pg_config.display()
            ))
            .hint(format!("install it ({INSTALL_HINT}), or name its pg_config in the environment as PG_CONFIG")));
        }
        let found = Self {
            bin_dir: ask("--bindir")?.into(),
            library_dir: ask("--pkglibdir")?.into(),
            share_dir: ask("--sharedir")?.into(),
            version,
            package_version,
        };
        if !found.program("postgres").is_file() {
            return Err(
                Failure::new(format!("there is no server in \"{}\"", found.bin_dir.display())).hint(INSTALL_HINT)
            );
        }
        Ok(found)
    }

    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// Where control files and scripts of extensions are.
    pub fn extension_dir(&self) -> PathBuf {
        self.share_dir.join("extension")
    }

    /// Whether the extension is installed here.
    pub fn has_extension(&self) -> bool {
        self.extension_dir().join(format!("{EXTENSION}.control")).is_file()
            && self.library_dir.join(format!("{EXTENSION}.so")).is_file()
    }

    /// Where the package for extension builders keeps the test drivers.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn test_drivers(&self) -> Result<PathBuf> {
        let dir = self.library_dir.join("pgxs/src/test");
        if dir.join("regress/pg_regress").is_file() {
            Ok(dir)
        } else {
            Err(Failure::new(format!("pg_regress is not installed in \"{}\"", dir.display())).hint(INSTALL_HINT))
        }
    }
}

/// The pg_config to ask.
pub fn pg_config() -> PathBuf {
    if let Some(named) = std::env::var_os("PG_CONFIG") {
        return named.into();
    }
    let of_debian = PathBuf::from(format!("/usr/lib/postgresql/{MAJOR}/bin/pg_config"));
    if of_debian.is_file() { of_debian } else { Path::new("pg_config").to_owned() }
}

/// What is missing to build something for the Postgres that [`pg_config`] tells of, in words; nothing when all is there.
pub fn missing_for_builds() -> Option<String> {
    let pg_config = pg_config();
    let Ok(include) = program::checked(Command::new(&pg_config).arg("--includedir-server"), "ask pg_config") else {
        return Some(format!("{} is not here", pg_config.display()));
    };
    let header = Path::new(include.trim()).join("postgres.h");
    (!header.is_file()).then(|| format!("PostgreSQL's headers are not here: no \"{}\"", header.display()))
}

/// `PostgreSQL 15.18 (Debian 15.18-0+deb12u1)`: the version, and that of the package.
fn parse_version(text: &str) -> (String, Option<String>) {
    let version = text.split_whitespace().nth(1).unwrap_or("").to_owned();
    let package = text.split_once('(').and_then(|(_, rest)| rest.trim_end_matches(')').split_whitespace().nth(1));
    (version, package.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian = parse_version("PostgreSQL 15.18 (Debian 15.18-0+deb12u1)");
        assert_eq!(debian, ("15.18".to_owned(), Some("15.18-0+deb12u1".to_owned())));
        assert_eq!(parse_version("PostgreSQL 15.3"), ("15.3".to_owned(), None));
        assert_eq!(parse_version(""), (String::new(), None));
    }
}
