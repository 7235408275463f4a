//! The source of the installed Postgres: the files of its test suites, and the library that they load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::SourceList;
use crate::failure::{Failure, Result};
use crate::installation::{INSTALL_HINT, Installation};
use crate::program;

/// Modules of C functions that the core suite loads: one to build, two that Debian's packages bring.
const BUILT: &str = "regress";
const BROUGHT: [&str; 2] = ["autoinc", "refint"];

/// The unpacked source.
#[derive(Clone, Debug)]
pub struct SourceTree {
    root: PathBuf,
}

impl SourceTree {
    /// The source of the installed version below `work`; fetched, unpacked and built when it is not there.
    ///
    /// # Errors
    /// When it cannot be had, or regress.so not be built.
    pub fn prepare(installation: &Installation, work: &Path, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let Some(version) = &installation.package_version else {
            return Err(Failure::new("the installed Postgres is not of a Debian package, so apt has no source for it")
                .hint("unset PG_CONFIG, and install Debian's: cargo xtask pg install"));
        };
        let tree = Self { root: work.join(format!("postgresql-{version}")) };
        if !tree.root.join("src/test/regress/parallel_schedule").is_file() {
            say("fetching the source of Postgres");
            // An unpacking that broke off leaves a part; it must not be taken for the whole.
            let part = work.join("unpacking");
            remove_dir(&part)?;
            SourceList::for_version(work, version)?.fetch(version, &part)?;
            fs::rename(&part, &tree.root).map_err(|e| Failure::file(&tree.root, "create", &e))?;
        }
        if !tree.libraries().join("regress.so").is_file() {
            say("building regress.so");
            tree.build(installation)?;
        }
        Ok(tree)
    }

    /// A suite's directory in the source.
    pub fn suite(&self, name: &str) -> PathBuf {
        self.root.join("src/test").join(name)
    }

    /// A module's directory in the source.
    pub fn module(&self, name: &str) -> PathBuf {
        self.root.join("contrib").join(name)
    }

    /// Where regress.so and the libraries beside it are.
    pub fn libraries(&self) -> PathBuf {
        self.suite("regress")
    }

    /// Builds regress.so by the rules for modules outside the source, which need no configured source.
    fn build(&self, installation: &Installation) -> Result<()> {
        let dir = self.libraries();
        let makefile = dir.join("Makefile.module");
        let text = format!(
            "MODULES = {BUILT}\nPG_CONFIG = {}\nPGXS := $(shell $(PG_CONFIG) --pgxs)\ninclude $(PGXS)\n",
            installation.program("pg_config").display()
        );
        fs::write(&makefile, text).map_err(|e| Failure::file(&makefile, "write", &e))?;
        for name in BROUGHT {
            let (from, to) = (installation.library_dir.join(format!("{name}.so")), dir.join(format!("{name}.so")));
            fs::copy(&from, &to).map_err(|e| Failure::file(&from, "copy", &e).hint(INSTALL_HINT))?;
        }
        let mut command = Command::new("make");
        command.arg("-C").arg(&dir).args(["-s", "-f", "Makefile.module", "with_llvm=no", "regress.so"]);
        program::checked(&mut command, "build regress.so").map(drop).map_err(|e| e.hint(INSTALL_HINT))
    }
}

/// Removes a directory with all that is in it, if it is there.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(dir, "remove", &e)),
        _ => Ok(()),
    }
}
