//! Docs that must not fall behind the code: a page and a fuzz entry for every format, and the glossary.

use std::fmt::Write;

use super::Verdict;
use super::sources::{self, SourceFile};
use crate::failure::Result;
use crate::progress::Progress;
use crate::source;
use crate::workspace::{Workspace, files_below, read};

/// Every file in engine/src/format has its bytes described in docs/formats: a page of its own name, or one that names it.
pub(crate) fn format_pages(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let pages = files_below(&workspace.path("docs/formats"), "md")?;
    let mut texts = String::new();
    for page in &pages {
        let _ = writeln!(texts, "format/{}.rs", page.file_stem().unwrap_or_default().to_string_lossy());
        texts.push_str(&read(page)?);
    }
    let missing = formats(workspace)?.into_iter().filter(|name| !texts.contains(&format!("format/{name}.rs")));
    Ok(Verdict::of(
        missing.map(|n| format!("engine/src/format/{n}.rs: no page in docs/formats describes it")).collect(),
    ))
}

/// Every file in engine/src/format is reached by a fuzz entry in engine/src/fuzz.
pub(crate) fn format_fuzz_entries(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let mut code = String::new();
    for file in files_below(&workspace.path("engine/src/fuzz"), "rs")? {
        code.push_str(&source::code_only(&read(&file)?));
    }
    let missing = formats(workspace)?.into_iter().filter(|name| !names_format(&code, name));
    Ok(Verdict::of(
        missing.map(|n| format!("engine/src/format/{n}.rs: no entry in engine/src/fuzz reaches it")).collect(),
    ))
}

/// Whether code names `format::NAME`, alone or in a group.
fn names_format(code: &str, name: &str) -> bool {
    code.contains(&format!("format::{name}"))
        || code.split("format::{").skip(1).any(|group| {
            let group = group.split_once(';').map_or(group, |(group, _)| group);
            !source::find_word(group, name).is_empty()
        })
}

/// Names of the formats: the files directly in engine/src/format that are not for tests alone.
fn formats(workspace: &Workspace) -> Result<Vec<String>> {
    let own = |file: SourceFile| {
        let name = file.path.strip_prefix("engine/src/format/")?.strip_suffix(".rs")?;
        (!name.contains('/')).then(|| name.to_owned())
    };
    Ok(sources::engine(workspace)?.into_iter().filter_map(own).collect())
}

/// A line of the glossary's table.
#[derive(Debug, PartialEq, Eq)]
struct Term<'t> {
    word: &'t str,
    /// Words that must not be used for it.
    never: Vec<&'t str>,
}

/// The glossary is sorted, has each word once, and nobody uses a word that it rejects.
pub(crate) fn glossary(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let text = workspace.read("docs/glossary.md")?;
    let terms = terms(&text);
    let mut findings = order_findings(&terms);
    for file in files_below(&workspace.path("engine/src"), "rs")? {
        let text = read(&file)?.to_lowercase();
        let path = workspace.relative(&file);
        findings.extend(rejected_words(&text, &terms).into_iter().map(|f| format!("{path}:{f}")));
    }
    Ok(Verdict::of(findings))
}

fn terms(text: &str) -> Vec<Term<'_>> {
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1).filter(|line| !line.starts_with("| --"));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let word = cells.next()?;
        let never = cells.nth(1).unwrap_or("").split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
        Some(Term { word, never })
    })
    .collect()
}

fn order_findings(terms: &[Term<'_>]) -> Vec<String> {
    let pairs = terms.windows(2).filter(|pair| pair[0].word.to_lowercase() >= pair[1].word.to_lowercase());
    let mut findings: Vec<String> =
        pairs.map(|p| format!("docs/glossary.md: `{}` stands before `{}`", p[0].word, p[1].word)).collect();
    if terms.is_empty() {
        findings.push("docs/glossary.md: has no table of words".to_owned());
    }
    findings
}

fn rejected_words(text: &str, terms: &[Term<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    for term in terms {
        for word in &term.never {
            for at in source::find_word(text, &word.to_lowercase()) {
                found.push(format!("{}: say `{}`, not `{word}`", source::line_of(text, at), term.word));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOSSARY: &str = "# Glossary\n\n| word | meaning | never |\n|---|---|---|\n| sst | a file | sstable, table file |\n| tree | a key space | |\n";

    #[test]
    fn terms_are_read_from_the_table() {
        let terms = terms(GLOSSARY);
        assert_eq!(terms.len(), 2);
        assert_eq!(terms[0], Term { word: "sst", never: vec!["sstable", "table file"] });
        assert!(order_findings(&terms).is_empty());
    }

    #[test]
    fn disorder_and_rejected_words_are_found() {
        let swapped = "| word | m | n |\n| tree | a | |\n| sst | b | |\n";
        assert_eq!(order_findings(&terms(swapped)).len(), 1);
        assert_eq!(rejected_words("an sstable\nis a table file", &terms(GLOSSARY)).len(), 2);
    }

    #[test]
    fn fuzz_entries_name_their_format() {
        assert!(names_format("use crate::format::block::BlockReader;", "block"));
        assert!(names_format("use crate::{base, format::{block, footer}};", "footer"));
        assert!(!names_format("use crate::format::block;", "footer"));
    }
}
