//! How values are written for people.

use std::error::Error as _;

use ssd_engine::Error;
use ssd_engine::base::key::split_full_key;

/// An error, its hint, and what caused it.
pub(crate) fn error(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    if !error.hint().is_empty() {
        text.push_str(&format!(". {}", error.hint()));
    }
    text
}

/// Bytes as ASCII, with escapes for the others.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A full key: its tree, and the user's key in quotes.
pub(crate) fn key(full: &[u8]) -> String {
    match split_full_key(full) {
        Some((tree, user)) => format!("{}/\"{}\"", tree.0, bytes(user)),
        None => format!("?/\"{}\"", bytes(full)),
    }
}

/// The start of a value, and how long it is when that is not all.
pub(crate) fn value(value: &[u8]) -> String {
    const SHOWN: usize = 32;
    match value.get(..SHOWN) {
        Some(start) if value.len() > SHOWN => format!("\"{}\"… {} bytes", bytes(start), value.len()),
        _ => format!("\"{}\"", bytes(value)),
    }
}

/// A count of bytes, with a rounded form when that is shorter to read.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 10 << 10 {
        return bytes.to_string();
    }
    let mut scaled = bytes as f64;
    let mut unit = "";
    for name in UNITS {
        if scaled < 1024.0 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, name);
    }
    format!("{bytes} ({scaled:.1} {unit})")
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_printable() {
        assert_eq!(key(b"\x01\x07k\x00"), "7/\"k\\x00\"");
        assert_eq!(key(b"\xff"), "?/\"\\xff\"");
        assert_eq!(value(&[b'x'; 32]), format!("\"{}\"", "x".repeat(32)));
        assert_eq!(value(&[b'x'; 33]), format!("\"{}\"… 33 bytes", "x".repeat(32)));
        assert_eq!(size(4096), "4096");
        assert_eq!(size(64 << 20), "67108864 (64.0 MiB)");
        assert_eq!(size(u64::MAX), "18446744073709551615 (16384.0 PiB)");
    }
}
