//! Finds the golden files (`.hex` dumps of good bytes): what a decoder accepts is where a fuzzer gets furthest from.

use std::path::Path;

/// Every dump in `dir` and below: its path and its bytes, sorted by path.
pub(crate) fn find(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    collect(dir, &mut found);
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "hex") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            found.push((path.to_string_lossy().into_owned(), hex_bytes(&text)));
        }
    }
}

/// The bytes of a hex dump: pairs of digits; `offset:` before them and `#`, `;` or `|` comments after them are left out.
fn hex_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let line = line.split(['#', ';', '|']).next().unwrap_or("");
        let line = line.split_once(':').map_or(line, |(_, rest)| rest);
        let digits: Vec<char> = line.chars().filter(|c| !c.is_whitespace()).collect();
        if digits.iter().all(char::is_ascii_hexdigit) {
            let pairs = digits.chunks_exact(2).map(|pair| pair.iter().collect::<String>());
            bytes.extend(pairs.filter_map(|pair| u8::from_str_radix(&pair, 16).ok()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_become_bytes() {
        assert_eq!(hex_bytes("# header\n0000: 0a 0B ; two\n\nff10 # more\nnot hex\n"), [0x0a, 0x0b, 0xff, 0x10]);
    }
}
