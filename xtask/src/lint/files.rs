//! Names of files: no `mod.rs`, and no name that names no job.

use std::path::Path;

use super::Verdict;
use crate::failure::Result;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Stems that say nothing about what is in the file.
const NAMELESS: [&str; 8] = ["manager", "helper", "helpers", "util", "utils", "common", "misc", "stuff"];

/// Every file has a name that says its job.
pub(crate) fn names(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let files = workspace.rust_files()?;
    let paths = files.iter().map(|f| workspace.relative(f));
    Ok(Verdict::of(paths.filter_map(|path| objection(&path)).collect()))
}

fn objection(path: &str) -> Option<String> {
    let stem = Path::new(path).file_stem()?.to_str()?;
    if stem == "mod" {
        return Some(format!("{path}: a module is `foo.rs` beside `foo/`, never `mod.rs`"));
    }
    let nameless = stem.split('_').find(|part| NAMELESS.contains(part))?;
    Some(format!("{path}: `{nameless}` names no job"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_refused() {
        assert!(objection("engine/src/mod.rs").is_some());
        assert!(objection("engine/src/cache_manager.rs").is_some());
        assert!(objection("engine/src/util.rs").is_some());
        assert_eq!(objection("engine/src/cache/clock.rs"), None);
        assert_eq!(objection("engine/src/communal.rs"), None);
    }
}
