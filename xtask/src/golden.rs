//! `cargo xtask golden`: lets the golden tests rewrite their files.
//!
//! A golden test compares what the code makes with a file under a `testdata` directory. With `SSD_GOLDEN=write` in its
//! environment it writes the file instead. Such tests have `golden` in their name.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::run;
use crate::workspace::{BENCH_CRATE, EXTENSION_CRATE, Workspace};

/// Runs the verb.
///
/// # Errors
/// When files cannot be read, or cargo not be started.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let mut progress = Progress::new(1);
    progress.start("golden");
    let before = golden_files(workspace)?;
    let mut command = workspace.cargo();
    command.env("SSD_GOLDEN", "write");
    command.args([
        "test",
        "--workspace",
        "--exclude",
        BENCH_CRATE,
        "--exclude",
        EXTENSION_CRATE,
        "--lib",
        "--tests",
        "--no-fail-fast",
    ]);
    command.args(["--color", "never", "--", "golden"]);
    let ending = run::captured(workspace, &progress, "golden", command)?;
    if !ending.ok {
        ending.show(&progress);
    }
    progress.done("golden", if ending.ok { "ok" } else { "FAILED" });
    let after = golden_files(workspace)?;
    let changed: Vec<_> = after.iter().filter(|(path, bytes)| before.get(*path) != Some(bytes)).collect();
    drop(progress);
    for (path, _) in &changed {
        println!("{}", workspace.relative(path));
    }
    println!("golden: {} changed", changed.len());
    Ok(ending.ok)
}

/// Every file in a `testdata` directory, with its bytes.
fn golden_files(workspace: &Workspace) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![workspace.path("engine/src"), workspace.path("engine/cli"), workspace.path("tests")];
    while let Some(dir) = open.pop().filter(|dir| dir.is_dir()) {
        for entry in fs::read_dir(&dir).map_err(|e| Failure::file(&dir, "list", &e))? {
            let path = entry.map_err(|e| Failure::file(&dir, "list", &e))?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.components().any(|c| c.as_os_str() == "testdata") {
                let bytes = fs::read(&path).map_err(|e| Failure::file(&path, "read", &e))?;
                found.insert(path, bytes);
            }
        }
    }
    Ok(found)
}
