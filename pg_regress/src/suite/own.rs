//! Tests that are not run as they lie in the source: our own, and copies of Postgres's that name places.

use std::fs;
use std::path::{Path, PathBuf};

use super::report::Bar;
use super::{AccessMethod, Stage, Suite};
use crate::failure::{Failure, Result};
use crate::source_tree::remove_dir;

/// Where our own tests are.
const OWN: &str = env!("CARGO_MANIFEST_DIR");

/// Copies our own tests to where the servers' account can read them, which may not be so in a checkout.
pub(super) fn tests(work: &Path, name: &str, parts: &[&str]) -> Result<PathBuf> {
    copy_of(&Path::new(OWN).join(name), work.join(name), parts)
}

/// Copies the files in `parts` of `from` to `target`, which is emptied first.
pub(super) fn copy_of(from: &Path, target: PathBuf, parts: &[&str]) -> Result<PathBuf> {
    remove_dir(&target)?;
    for part in parts {
        copy_files(&from.join(part), &target.join(part))?;
    }
    Ok(target)
}

/// Copies the files in `from` to `to`, which is made.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(|e| Failure::file(to, "create", &e))?;
    for entry in fs::read_dir(from).map_err(|e| Failure::file(from, "list", &e))? {
        let path = entry.map_err(|e| Failure::file(from, "list", &e))?.path();
        if path.is_file() {
            let copy = to.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &copy).map_err(|e| Failure::file(&path, "copy", &e))?;
        }
    }
    Ok(())
}

/// Where rows stay at their place, an update gives another ctid than a heap's. A test that names it in its text gets ours, in
/// a copy of the suite; returns where the suite is then, and says which tests were changed.
pub(super) fn with_named_places(
    stage: &Stage<'_>,
    suite: Suite,
    source: PathBuf,
    dir: &Path,
    bar: &Bar,
) -> Result<PathBuf> {
    let order = stage.order;
    if order.access_method != AccessMethod::Extension || order.update_in_place == Some(false) {
        return Ok(source);
    }
    let named: Vec<_> = stage.expected.with_named_places(suite.name()).collect();
    if named.is_empty() {
        return Ok(source);
    }
    let scripts = if suite.is_isolation() { ("specs", "spec") } else { ("sql", "sql") };
    let target = dir.join("source");
    for part in ["", scripts.0, "expected"] {
        copy_files(&source.join(part), &target.join(part))?;
    }
    for difference in named {
        let script = target.join(scripts.0).join(format!("{}.{}", difference.test, scripts.1));
        let expected = target.join("expected").join(format!("{}.out", difference.test));
        for path in [script, expected] {
            let text = fs::read_to_string(&path).map_err(|e| Failure::file(&path, "read", &e))?;
            let text = difference.named_places.iter().fold(text, |text, [from, to]| text.replace(from, to));
            fs::write(&path, text).map_err(|e| Failure::file(&path, "write", &e))?;
        }
        for [from, to] in &difference.named_places {
            bar.line(&format!("    {}: names {to} where it names {from} of a heap", difference.test));
        }
    }
    Ok(target)
}
