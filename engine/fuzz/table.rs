//! Writes the table of fuzz entries as Rust source, for the build scripts of both fuzz drivers.

use std::path::Path;

use crate::entries;

/// Writes `entries.rs` into the build directory: a table `ENTRIES` of names and functions.
pub(crate) fn write(entries_dir: &Path) {
    println!("cargo::rerun-if-changed={}", entries_dir.display());
    let rows: String =
        entries::find(entries_dir).iter().map(|e| format!("    ({:?}, {}),\n", e.name, e.path)).collect();
    let table = format!(
        "type Entry = fn(&[u8]);\n\n/// Every decoder: what to type, and its entry.\nconst ENTRIES: &[(&str, Entry)] = &[\n{rows}];\n"
    );
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets it")).join("entries.rs");
    std::fs::write(&out, table).expect("the build directory can be written");
}
