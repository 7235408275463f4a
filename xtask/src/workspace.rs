//! Where things are: the root of the project, its crates and its source files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};

/// The crate whose peers are other engines; it is built only by name, see Cargo.toml.
pub(crate) const BENCH_CRATE: &str = "ssd-bench";
/// The extension, which needs the headers of a Postgres; it is built by name, too.
pub(crate) const EXTENSION_CRATE: &str = "ssdlsm";

/// Directories with Rust sources, from the root.
const SOURCE_DIRS: [&str; 6] = ["engine", "tests", "bench", "pg_extension", "pg_regress", "xtask"];

/// The checkout that the command works on.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace that this program was started from (by cargo), or built in.
    ///
    /// # Errors
    /// When that directory is gone.
    pub(crate) fn find() -> Result<Self> {
        let manifest_dir =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest_dir.parent().map(Path::to_owned).unwrap_or(manifest_dir);
        if root.join("Cargo.toml").is_file() {
            Ok(Self { root })
        } else {
            Err(Failure::new(format!("\"{}\" has no Cargo.toml: run this as `cargo xtask`", root.display())))
        }
    }

    /// The path of something named from the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path as people say it: from the root, with forward slashes.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }

    /// The text of a file named from the root.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(&self, relative: &str) -> Result<String> {
        read(&self.path(relative))
    }

    /// `cargo` (the one that started this program), to be run in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        // Set by `cargo run` for this program; a build script that reads it must see its own.
        command.env_remove("CARGO_MANIFEST_DIR");
        command
    }

    /// Another program, to be run in the root.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Where builds and logs go.
    pub(crate) fn target_dir(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.path("target"), |dir| self.root.join(dir))
    }

    /// Whether the workspace has the package `name` in `dir`.
    pub(crate) fn has_package(&self, dir: &str, name: &str) -> bool {
        let manifest = self.read(&format!("{dir}/Cargo.toml")).unwrap_or_default();
        let table: toml::Table = manifest.parse().unwrap_or_default();
        table.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str()) == Some(name)
    }

    /// Whether the crate in `dir` has the binary `name`.
    pub(crate) fn has_binary(&self, dir: &str, name: &str) -> bool {
        self.path(&format!("{dir}/src/bin/{name}.rs")).is_file()
    }

    /// All Rust files of the project, sorted.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(crate) fn rust_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for dir in SOURCE_DIRS {
            files.extend(files_below(&self.path(dir), "rs")?);
        }
        Ok(files)
    }
}

/// The text of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Failure::file(path, "read", &e))
}

/// Files with this extension in `dir` and below, sorted; none when there is no such directory. Build output is left out.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn files_below(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&dir).map_err(|e| Failure::file(&dir, "list", &e))? {
            let path = entry.map_err(|e| Failure::file(&dir, "list", &e))?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a program by this name is on the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
