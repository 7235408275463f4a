//! Writes the table of fuzz entries that `src/main.rs` includes.

use std::path::Path;

mod entries;
mod table;

fn main() {
    table::write(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../src/fuzz"));
}
