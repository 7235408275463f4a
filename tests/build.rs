//! Writes the table of fuzz entries that `src/bin/fuzz-smoke.rs` includes.

use std::path::Path;

#[path = "../engine/fuzz/entries.rs"]
mod entries;
#[path = "../engine/fuzz/table.rs"]
mod table;

fn main() {
    table::write(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../engine/src/fuzz"));
}
