//! Finds the fuzz entries: every `pub fn fuzz_NAME(data: &[u8])` in a file of engine/src/fuzz.
//!
//! Compiled into xtask and into the build scripts of both fuzz drivers, so that a new entry needs no list to be edited.

use std::path::Path;

/// A fuzz entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What to type: the function's name without `fuzz_`.
    pub(crate) name: String,
    /// The function's path.
    pub(crate) path: String,
}

/// The entries in `dir`, sorted by name; none when there is no such directory.
pub(crate) fn find(dir: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path()) {
        let Some(module) = file.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".rs")) else {
            continue;
        };
        entries.extend(entries_in(module, &std::fs::read_to_string(&file).unwrap_or_default()));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// The entries in the text of one module.
fn entries_in(module: &str, text: &str) -> Vec<Entry> {
    let heads = text.lines().filter_map(|line| line.trim_start().strip_prefix("pub fn fuzz_"));
    let names = heads.filter_map(|head| head.split_once('(')).map(|(name, _)| name);
    names.map(|n| Entry { name: n.to_owned(), path: format!("ssd_engine::fuzz::{module}::fuzz_{n}") }).collect()
}
