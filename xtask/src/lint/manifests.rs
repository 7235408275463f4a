//! Rules for Cargo.toml files: a reason beside every dependency, and one place for versions.

use super::Verdict;
use crate::failure::Result;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Manifests that name versions: the workspace's, and that of the fuzz crate, which stands outside.
const WITH_VERSIONS: [&str; 2] = ["Cargo.toml", "engine/fuzz/Cargo.toml"];
/// Manifests that must take their versions from the workspace.
const MEMBERS: [&str; 6] = [
    "engine/Cargo.toml",
    "engine/cli/Cargo.toml",
    "tests/Cargo.toml",
    "bench/Cargo.toml",
    "pg_regress/Cargo.toml",
    "xtask/Cargo.toml",
];

/// Every dependency has its reason in a comment above it (or above the group of lines it stands in).
pub(crate) fn reasons(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let mut findings = Vec::new();
    for path in WITH_VERSIONS {
        let text = workspace.read(path)?;
        let missing = without_reason(&text);
        findings.extend(missing.into_iter().map(|name| format!("{path}: `{name}` has no reason above it")));
    }
    Ok(Verdict::of(findings))
}

/// Members say `workspace = true`, so that a version is raised in one place.
pub(crate) fn versions(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let mut findings = Vec::new();
    for path in MEMBERS {
        let text = workspace.read(path)?;
        let own = with_own_version(&text);
        findings.extend(
            own.into_iter().map(|name| format!("{path}: `{name}` does not take its version from the workspace")),
        );
    }
    Ok(Verdict::of(findings))
}

/// The dependency lines of a manifest: the name, the value, and whether a comment stands above.
fn dependencies(text: &str) -> Vec<(&str, &str, bool)> {
    let mut found = Vec::new();
    let (mut in_section, mut has_reason) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_section = line.trim_end_matches(']').ends_with("dependencies");
            has_reason = false;
        } else if line.is_empty() {
            has_reason = false;
        } else if let Some(comment) = line.strip_prefix('#') {
            // A heading (`# -- engine ----`) groups lines; it is nobody's reason.
            has_reason |= !comment.trim_start().starts_with("--");
        } else if let (true, Some((name, value))) = (in_section, line.split_once('=')) {
            found.push((name.trim(), value.trim(), has_reason));
        }
    }
    found
}

fn without_reason(text: &str) -> Vec<&str> {
    let foreign = |value: &str| !value.contains("path =");
    dependencies(text)
        .into_iter()
        .filter(|(_, value, reason)| foreign(value) && !reason)
        .map(|(name, ..)| name)
        .collect()
}

fn with_own_version(text: &str) -> Vec<&str> {
    let shared = |name: &str, value: &str| name.ends_with(".workspace") || value.contains("workspace = true");
    dependencies(text).into_iter().filter(|(name, value, _)| !shared(name, value)).map(|(name, ..)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[workspace.dependencies]\nown = { path = \"x\" }\n# -- engine ------\nbare = \"1\"\n\n\
        # Because.\ngood = \"1\"\ngood_too = \"1\"\n\nalso_bare = \"2\"\n[package]\nname = \"x\"\n";

    #[test]
    fn a_dependency_without_reason_is_found() {
        assert_eq!(without_reason(MANIFEST), ["bare", "also_bare"]);
    }

    #[test]
    fn a_member_with_its_own_version_is_found() {
        let member = "[dependencies]\na.workspace = true\nb = { workspace = true, optional = true }\nc = \"1\"\n\
            [target.'cfg(unix)'.dependencies]\nd = \"2\"\n[features]\ne = []\n";
        assert_eq!(with_own_version(member), ["c", "d"]);
    }
}
