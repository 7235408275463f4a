//! Checks that other programs make: rustfmt, clippy, and cargo-deny and typos where they are installed.

use ssd_pg_regress::installation::{self, INSTALL_HINT};

use super::Verdict;
use crate::failure::Result;
use crate::progress::Progress;
use crate::run;
use crate::workspace::{BENCH_CRATE, EXTENSION_CRATE, Workspace, is_installed};

/// Every file is formatted.
pub(crate) fn rustfmt(workspace: &Workspace, progress: &Progress) -> Result<Verdict> {
    let mut command = workspace.cargo();
    command.args(["fmt", "--all", "--check"]);
    verdict(workspace, progress, "rustfmt", command)
}

/// No clippy warning, tests included. The bench crate joins without its peers, which are other people's code.
pub(crate) fn clippy(workspace: &Workspace, progress: &Progress) -> Result<Verdict> {
    let mut command = workspace.cargo();
    command.args([
        "clippy",
        "--workspace",
        "--exclude",
        BENCH_CRATE,
        "--exclude",
        EXTENSION_CRATE,
        "--all-targets",
        "--color",
        "never",
    ]);
    command.args(["--", "-D", "warnings"]);
    let all_but_benches = verdict(workspace, progress, "clippy", command)?;
    if !matches!(all_but_benches, Verdict::Fine(_)) {
        return Ok(all_but_benches);
    }
    let mut command = workspace.cargo();
    command.args(["clippy", "--package", BENCH_CRATE, "--lib", "--bins", "--color", "never", "--", "-D", "warnings"]);
    verdict(workspace, progress, "clippy-bench", command)
}

/// As [`clippy`], over the extension, where the headers of a Postgres are. Its lints stand in its own manifest.
pub(crate) fn clippy_extension(workspace: &Workspace, progress: &Progress) -> Result<Verdict> {
    if let Some(missing) = installation::missing_for_builds() {
        return Ok(Verdict::Skipped(format!("{missing} (`{INSTALL_HINT}`)")));
    }
    let mut command = workspace.cargo();
    command.args(["clippy", "--package", EXTENSION_CRATE, "--all-targets", "--color", "never", "--", "-D", "warnings"]);
    verdict(workspace, progress, "clippy-extension", command)
}

/// Licences, advisories and sources of the dependencies, by deny.toml.
pub(crate) fn deny(workspace: &Workspace, progress: &Progress) -> Result<Verdict> {
    if !is_installed("cargo-deny") {
        return Ok(Verdict::Skipped("cargo-deny is not installed (`cargo install cargo-deny`)".to_owned()));
    }
    let mut command = workspace.cargo();
    command.args(["deny", "--all-features", "check", "bans", "licenses", "sources"]);
    verdict(workspace, progress, "cargo-deny", command)
}

/// Spelling.
pub(crate) fn typos(workspace: &Workspace, progress: &Progress) -> Result<Verdict> {
    if !is_installed("typos") {
        return Ok(Verdict::Skipped("typos is not installed (`cargo install typos-cli`)".to_owned()));
    }
    verdict(workspace, progress, "typos", workspace.command("typos"))
}

fn verdict(workspace: &Workspace, progress: &Progress, name: &str, command: std::process::Command) -> Result<Verdict> {
    let ending = run::captured(workspace, progress, name, command)?;
    if ending.ok {
        return Ok(Verdict::Fine(Vec::new()));
    }
    let shown = ending.lines.iter().filter(|line| !line.trim_start().starts_with("Compiling"));
    Ok(Verdict::Broken(shown.cloned().collect()))
}
