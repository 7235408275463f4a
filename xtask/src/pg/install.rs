//! `cargo xtask pg install`: Debian's packages, then the extension built from this checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssd_pg_regress::installation::{EXTENSION, Installation};
use ssd_pg_regress::source_tree::SourceTree;
use ssd_pg_regress::{account, apt, program};

use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::run;
use crate::workspace::{Workspace, files_below};

/// Where the extension's crate is.
const EXTENSION_DIR: &str = "pg_extension";

/// Whether this checkout has the extension.
pub(crate) fn has_extension_package(workspace: &Workspace) -> bool {
    workspace.has_package(EXTENSION_DIR, EXTENSION)
}

/// Installs what is missing.
///
/// # Errors
/// When a package or the extension cannot be installed.
pub(crate) fn run(workspace: &Workspace, heap_only: bool, version: Option<&str>) -> Result<()> {
    let with_extension = !heap_only && has_extension_package(workspace);
    let mut progress = Progress::new(if with_extension { 3 } else { 1 });
    progress.start("packages");
    let installed = install_packages(&work_dir(workspace), version, &mut |text| progress.note(text))?;
    let installation = Installation::find()?;
    let verdict = if installed.is_empty() { "all there".to_owned() } else { installed.join(" ") };
    progress.done("packages", &verdict);
    if with_extension {
        install_extension(workspace, &mut progress, &installation)?;
    }
    drop(progress);
    println!("PostgreSQL {} is installed in {}", installation.version, installation.bin_dir.display());
    match (with_extension, heap_only) {
        (true, _) => println!("{EXTENSION} is installed; next: cargo xtask pg start"),
        (false, true) => println!("{EXTENSION} is left as it is (--heap-only)"),
        (false, false) => {
            println!("{EXTENSION} is not installed: this checkout has no package {EXTENSION} in {EXTENSION_DIR}/")
        }
    }
    Ok(())
}

/// Installs the packages that are missing, and fetches the source of the suites: what [`run`] and they need of the world.
///
/// # Errors
/// When they cannot be had.
pub(crate) fn prepare(workspace: &Workspace, say: &mut dyn FnMut(&str)) -> Result<()> {
    let work = work_dir(workspace);
    install_packages(&work, None, say)?;
    // Where the suites look for it.
    SourceTree::prepare(&Installation::find()?, &account::server_dir(None, &work)?, say)?;
    Ok(())
}

/// Where what is fetched for Postgres goes.
fn work_dir(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("pg_regress")
}

/// Installs the packages that are missing, and says which; a Postgres that PG_CONFIG names is the caller's own affair.
fn install_packages(work: &Path, version: Option<&str>, say: &mut dyn FnMut(&str)) -> Result<Vec<String>> {
    if std::env::var_os("PG_CONFIG").is_some() {
        return Ok(Vec::new());
    }
    Ok(apt::install(work, version, say)?)
}

/// Builds the extension and copies it to where Postgres looks for it.
fn install_extension(workspace: &Workspace, progress: &mut Progress, installation: &Installation) -> Result<()> {
    progress.start("build the extension");
    let mut command = workspace.cargo();
    command.args(["build", "--package", EXTENSION, "--lib", "--profile", "bench", "--color", "never"]);
    // The best code rustc makes; the profile shares the directory of `release`.
    // Set in .cargo/config.toml, too, for Debian's path: a value that changes makes bindgen run again.
    if std::env::var_os("PGRX_PG_CONFIG_PATH").is_none() {
        command.env("PGRX_PG_CONFIG_PATH", pgrx_config());
    }
    let ending = run::captured(workspace, progress, "build the extension", command)?;
    if !ending.ok {
        ending.show(progress);
        return Err(Failure::new(format!("{EXTENSION} was not built")));
    }
    progress.done("build the extension", "ok");

    progress.start("copy the extension");
    let library = workspace.target_dir().join(format!("release/lib{EXTENSION}.so"));
    install_file(&library, &installation.library_dir.join(format!("{EXTENSION}.so")), "755")?;
    let mut scripts = files_below(&workspace.path(EXTENSION_DIR), "control")?;
    let sql = files_below(&workspace.path(EXTENSION_DIR), "sql")?;
    scripts.extend(sql.into_iter().filter(|path| file_name(path).starts_with(&format!("{EXTENSION}--"))));
    if scripts.len() < 2 {
        return Err(Failure::new(format!(
            "{EXTENSION_DIR}/ has no {EXTENSION}.control with a script {EXTENSION}--VERSION.sql"
        )));
    }
    for script in &scripts {
        install_file(script, &installation.extension_dir().join(file_name(script)), "644")?;
    }
    progress.done("copy the extension", &format!("{} files", scripts.len() + 1));
    Ok(())
}

/// The pg_config as pgrx is told of it: the path that .cargo/config.toml has, where it exists.
fn pgrx_config() -> PathBuf {
    let shared = Path::new("/usr/bin/pg_config");
    if std::env::var_os("PG_CONFIG").is_none() && shared.is_file() {
        return shared.to_owned();
    }
    ssd_pg_regress::installation::pg_config()
}

/// Copies a file into Postgres's directories, unless it is there already. A library in use must not be written over:
/// `install` makes a new file, so servers that run keep the old one.
fn install_file(from: &Path, to: &Path, mode: &str) -> Result<()> {
    let bytes = fs::read(from).map_err(|e| Failure::file(from, "read", &e))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let mut command = if can_write(to) { Command::new("install") } else { apt::as_root("install")? };
    command.args(["-m", mode]).arg(from).arg(to);
    program::checked(&mut command, &format!("install \"{}\"", to.display()))?;
    Ok(())
}

/// Whether the caller may make this file.
fn can_write(path: &Path) -> bool {
    let is_own =
        |dir: &Path| program::output(Command::new("test").arg("-w").arg(dir)).is_ok_and(|o| o.status.success());
    account::is_root().unwrap_or(false) || path.parent().is_some_and(is_own)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
