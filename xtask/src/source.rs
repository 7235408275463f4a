//! Reading Rust source just well enough for the checks: code without comments and strings, and without its tests.
//!
//! Both functions keep every line break and the length of the text, so a position in the result is a position in the file.

/// `text` with the contents of comments, strings and character literals blanked out.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip_non_code(bytes, at);
        if end == at {
            at += 1;
        } else {
            blank(&mut out, at, end);
            at = end;
        }
    }
    // Only whole literals and comments were blanked, so what is left is UTF-8.
    String::from_utf8_lossy(&out).into_owned()
}

/// Every comment in `text`, with the 1-based line that it starts on.
pub(crate) fn comments(text: &str) -> Vec<(usize, &str)> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = skip_non_code(bytes, at).max(at + 1);
        if bytes[at..].starts_with(b"//") || bytes[at..].starts_with(b"/*") {
            found.push((line_of(text, at), &text[at..end]));
        }
        at = end;
    }
    found
}

/// The end of the comment or literal that starts at `at`; `at` itself when none does.
fn skip_non_code(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        b'/' if bytes.get(at + 1) == Some(&b'/') => find(bytes, at, b"\n").unwrap_or(bytes.len()),
        b'/' if bytes.get(at + 1) == Some(&b'*') => skip_block_comment(bytes, at),
        b'"' => skip_string(bytes, at),
        b'r' if !is_word_before(bytes, at) => skip_raw_string(bytes, at),
        b'b' | b'c' if !is_word_before(bytes, at) && bytes.get(at + 1) == Some(&b'r') => {
            let end = skip_raw_string(bytes, at + 1);
            if end == at + 1 { at } else { end }
        }
        b'\'' => skip_char(bytes, at),
        _ => at,
    }
}

fn is_word_before(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|w| w == what).map(|at| from + at)
}

fn skip_block_comment(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn skip_string(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A raw string whose `r` is at `at`.
fn skip_raw_string(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    let quote = at + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return at;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    find(bytes, quote + 1, &close).map_or(bytes.len(), |end| end + close.len())
}

/// A character literal, told from a lifetime by its closing quote.
fn skip_char(bytes: &[u8], quote: usize) -> usize {
    if bytes.get(quote + 1) == Some(&b'\\') {
        return find(bytes, quote + 3, b"'").map_or(bytes.len(), |end| end + 1);
    }
    // One character of up to four bytes.
    (2..=5).find(|&n| bytes.get(quote + n) == Some(&b'\'')).map_or(quote, |n| {
        let inside = &bytes[quote + 1..quote + n];
        if std::str::from_utf8(inside).is_ok_and(|s| s.chars().count() == 1) { quote + n + 1 } else { quote }
    })
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    for byte in &mut out[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// `code` (as from [`code_only`]) with every item under `#[cfg(test)]` blanked out too.
pub(crate) fn without_tests(code: &str) -> String {
    let bytes = code.as_bytes();
    let mut out = bytes.to_vec();
    let mut from = 0;
    while let Some(start) = find(bytes, from, b"#[cfg(") {
        let attribute_end = skip_balanced(bytes, start + 1);
        from = attribute_end;
        if is_test_only(&code[start + 6..attribute_end.saturating_sub(2).max(start + 6)]) {
            let end = skip_item(bytes, attribute_end);
            blank(&mut out, start, end);
            from = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether a `cfg` predicate holds in test builds only: `test`, or an `all` that has it.
fn is_test_only(predicate: &str) -> bool {
    let predicate = predicate.trim();
    predicate == "test"
        || predicate
            .strip_prefix("all(")
            .and_then(|rest| rest.strip_suffix(')'))
            .is_some_and(|list| list.split(',').any(|part| part.trim() == "test"))
}

/// The end of the bracketed group that opens at `at`.
fn skip_balanced(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    for (i, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// The end of the item that starts at `at`: after its body, or its semicolon.
fn skip_item(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while at < bytes.len() {
        match bytes[at] {
            b';' => return at + 1,
            b'{' => return skip_balanced(bytes, at),
            b'(' | b'[' => at = skip_balanced(bytes, at),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The 1-based line of a position in the text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&b| b == b'\n').count()
}

/// Positions at which `word` stands as a whole word in `code`.
pub(crate) fn find_word(code: &str, word: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .filter(|&(at, _)| {
            !code[..at].chars().next_back().is_some_and(is_word)
                && !code[at + word.len()..].chars().next().is_some_and(is_word)
        })
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let text = "let a = \"crate::x\"; // crate::y\n/* crate::z\n /* deep */ */ let b = 'c'; let c: &'static str = r#\"q\"q\"#;";
        let code = code_only(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), text.lines().count());
        assert!(!code.contains("crate"));
        assert!(code.contains("let b =") && code.contains("&'static str"));
        assert!(!code.contains('q'));
    }

    #[test]
    fn escapes_do_not_end_literals_early() {
        let code = code_only(r#"f("a\"b", '\'', b'\\', br"\", 'é') + unsafe_here"#);
        assert!(code.contains("unsafe_here"));
        assert!(!code.contains('a') || !code.contains("\"b"));
        assert_eq!(code.matches(',').count(), 4);
    }

    #[test]
    fn comments_are_told_from_strings() {
        let text = "let a = \"// no\"; // yes\n/* and\nthis */ let url = \"http://x\";";
        assert_eq!(comments(text), [(1, "// yes"), (2, "/* and\nthis */")]);
    }

    #[test]
    fn test_items_are_blanked() {
        let code = "use a;\n#[cfg(test)]\nuse b;\n#[cfg(all(test, unix))]\nmod tests { fn f(x: [u8; 3]) { c } }\nfn d() {}\n#[cfg(not(test))]\nfn e() {}\n";
        let rest = without_tests(code);
        assert!(rest.contains("use a") && rest.contains("fn d") && rest.contains("fn e"));
        assert!(!rest.contains("use b") && !rest.contains("fn f"));
        assert_eq!(rest.len(), code.len());
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(find_word("unsafe_code unsafe { not_unsafe }", "unsafe"), [12]);
        assert_eq!(line_of("a\nb\nc", 4), 3);
    }
}
