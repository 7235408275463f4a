//! One libFuzzer binary for all decoders; the environment variable `SSD_FUZZ` names the one to feed.
//!
//! One binary, not one for each decoder: they share nearly all their code, and it is instrumented and linked once.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

include!(concat!(env!("OUT_DIR"), "/entries.rs"));

/// The decoder that `SSD_FUZZ` names.
fn chosen() -> fn(&[u8]) {
    static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("SSD_FUZZ").unwrap_or_default();
        let names: Vec<_> = ENTRIES.iter().map(|(name, _)| *name).collect();
        let entry = ENTRIES.iter().find(|(known, _)| *known == name);
        entry.unwrap_or_else(|| panic!("SSD_FUZZ=\"{name}\" names no decoder; there are {}", names.join(", "))).1
    })
}

fuzz_target!(|data: &[u8]| chosen()(data));
