//! `cargo xtask lint`: rustfmt, clippy, and the rules of docs/STYLE.md that no compiler knows.
//!
//! Each rule is a function from texts to findings with unit tests beside it; this file lists and runs them.

mod docs;
mod files;
mod manifests;
mod sources;
mod tools;

use crate::count::Count;
use crate::failure::Result;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// What a check found.
pub(crate) enum Verdict {
    /// All is well; with what was worth a warning.
    Fine(Vec<String>),
    /// The rule is broken in these places.
    Broken(Vec<String>),
    /// The check did not run; says why.
    Skipped(String),
}

impl Verdict {
    /// Fine when there are no findings.
    fn of(findings: Vec<String>) -> Self {
        if findings.is_empty() { Self::Fine(Vec::new()) } else { Self::Broken(findings) }
    }
}

/// One check and its name.
struct Check {
    name: &'static str,
    run: fn(&Workspace, &Progress) -> Result<Verdict>,
}

const CHECKS: [Check; 17] = [
    Check { name: "rustfmt", run: tools::rustfmt },
    Check { name: "layers", run: sources::layers },
    Check { name: "module headers", run: sources::headers },
    Check { name: "file sizes", run: sources::sizes },
    Check { name: "file names", run: files::names },
    Check { name: "unsafe code", run: sources::unsafe_places },
    Check { name: "the world", run: sources::world },
    Check { name: "unfinished work", run: sources::unfinished },
    Check { name: "dependency reasons", run: manifests::reasons },
    Check { name: "one place for versions", run: manifests::versions },
    Check { name: "format pages", run: docs::format_pages },
    Check { name: "format fuzz entries", run: docs::format_fuzz_entries },
    Check { name: "glossary", run: docs::glossary },
    Check { name: "clippy", run: tools::clippy },
    Check { name: "clippy of the extension", run: tools::clippy_extension },
    Check { name: "cargo-deny", run: tools::deny },
    Check { name: "typos", run: tools::typos },
];

/// Runs the verb; `false` when a check failed.
///
/// # Errors
/// When a check could not run at all.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let mut progress = Progress::new(CHECKS.len());
    let count = check_all(workspace, &mut progress)?;
    drop(progress);
    if count.failed == 0 {
        println!("lint: ok");
    } else {
        println!("lint: {} failed", count.failed);
    }
    Ok(count.failed == 0)
}

/// Steps that [`check_all`] takes on a progress bar.
pub(crate) const STEPS: usize = CHECKS.len();

/// Runs all checks and reports each.
///
/// # Errors
/// When a check could not run at all.
pub(crate) fn check_all(workspace: &Workspace, progress: &mut Progress) -> Result<Count> {
    let mut count = Count::default();
    for check in &CHECKS {
        let name = format!("lint: {}", check.name);
        progress.start(&name);
        match (check.run)(workspace, progress)? {
            Verdict::Fine(warnings) => {
                count.add(Count::one(true));
                progress.done(&name, "ok");
                warnings.iter().for_each(|w| progress.line(&format!("    warning: {w}")));
            }
            Verdict::Broken(findings) => {
                count.add(Count::one(false));
                progress.done(&name, "FAILED");
                findings.iter().for_each(|f| progress.line(&format!("    {f}")));
            }
            Verdict::Skipped(why) => {
                count.add(Count::SKIPPED);
                progress.done(&name, &format!("skipped: {why}"));
            }
        }
    }
    Ok(count)
}
