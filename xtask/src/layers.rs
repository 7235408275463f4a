//! The layers of the engine: reads engine/layers.toml and refuses every edge between modules that it does not allow.
//!
//! An edge is a path `crate::a::b` (in a `use` or in the code) or a `super::` path that leaves the module, outside tests.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::failure::{Failure, Result};
use crate::source;

/// What engine/layers.toml says.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    layer: BTreeMap<String, i64>,
    free: Vec<String>,
    only: BTreeMap<String, Vec<String>>,
    also: BTreeMap<String, Vec<String>>,
    macros: BTreeMap<String, String>,
}

/// One module naming another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// Path below the crate, as `mem::aligned`.
    pub(crate) to: String,
    /// 1-based line.
    pub(crate) line: usize,
}

impl Layers {
    /// Parses the file's text.
    ///
    /// # Errors
    /// When it is no TOML, or a value has the wrong type.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let table: Table = text.parse().map_err(|e| Failure::new(format!("engine/layers.toml: {e}")))?;
        let mut layers = Self::default();
        for (module, layer) in section(&table, "layers")? {
            let layer = layer.as_integer().ok_or_else(|| wrong_type("layers", module, "a number"))?;
            layers.layer.insert(module.clone(), layer);
        }
        for (name, module) in section(&table, "macros")? {
            let module = module.as_str().ok_or_else(|| wrong_type("macros", name, "a path"))?;
            layers.macros.insert(name.clone(), module.to_owned());
        }
        layers.only = lists(&table, "only")?;
        layers.also = lists(&table, "also")?;
        layers.free = lists(&table, "free")?.remove("modules").unwrap_or_default();
        Ok(layers)
    }

    /// Why module `from` may not name `to`; `None` when it may.
    pub(crate) fn objection(&self, from: &str, to: &str) -> Option<String> {
        let to = self.macros.get(to).map_or(to, String::as_str);
        let target = to.split("::").next().unwrap_or(to);
        if from == target || self.free.iter().any(|m| m == from) {
            return None;
        }
        let Some(&from_layer) = self.layer.get(from) else {
            return Some(format!("module `{from}` has no layer in engine/layers.toml"));
        };
        let Some(&to_layer) = self.layer.get(target) else {
            return Some(format!("`{from}` names `{to}`, which has no layer in engine/layers.toml"));
        };
        if let Some(only) = self.only.get(from) {
            let allowed = only.iter().any(|edge| covers(edge, to));
            return (!allowed).then(|| format!("`{from}` may name only {}; it names `{to}`", shown(only)));
        }
        let allowed = to_layer < from_layer || self.also.get(from).is_some_and(|e| e.iter().any(|e| covers(e, to)));
        (!allowed).then(|| {
            format!("`{from}` (layer {from_layer}) names `{to}` (layer {to_layer}); only lower layers and the edges in engine/layers.toml are allowed")
        })
    }
}

fn section<'t>(table: &'t Table, name: &str) -> Result<&'t Table> {
    table.get(name).and_then(Value::as_table).ok_or_else(|| Failure::new(format!("engine/layers.toml has no [{name}]")))
}

fn lists(table: &Table, name: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut lists = BTreeMap::new();
    for (key, value) in section(table, name)? {
        let items = value.as_array().ok_or_else(|| wrong_type(name, key, "a list"))?;
        let items: Option<Vec<String>> = items.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        lists.insert(key.clone(), items.ok_or_else(|| wrong_type(name, key, "a list of strings"))?);
    }
    Ok(lists)
}

fn wrong_type(section: &str, key: &str, wanted: &str) -> Failure {
    Failure::new(format!("engine/layers.toml: [{section}] {key} is not {wanted}"))
}

/// Whether the allowed edge `edge` covers the path `to`: the same, or something inside it.
fn covers(edge: &str, to: &str) -> bool {
    to == edge || to.strip_prefix(edge).is_some_and(|rest| rest.starts_with("::"))
}

fn shown(edges: &[String]) -> String {
    if edges.is_empty() { "itself".to_owned() } else { format!("`{}`", edges.join("`, `")) }
}

/// The module path of a source file given from `src/`: `mem/aligned.rs` is `["mem", "aligned"]`, `lib.rs` is `["lib"]`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    file.trim_end_matches(".rs").split('/').map(str::to_owned).collect()
}

/// Every edge out of a file, in `code` as from [`source::without_tests`].
pub(crate) fn edges(code: &str, module: &[String]) -> Vec<Edge> {
    let mut found = Vec::new();
    for at in source::find_word(code, "crate") {
        let rest = &code[at + "crate".len()..];
        if let Some(tail) = rest.trim_start().strip_prefix("::") {
            let line = source::line_of(code, at);
            found.extend(leaves(tail).into_iter().map(|to| Edge { to, line }));
        }
    }
    found.extend(super_edges(code, module));
    found
}

/// Edges spelled `super::…` as far as they leave the top-level module that the file belongs to.
fn super_edges(code: &str, module: &[String]) -> Vec<Edge> {
    let mut found = Vec::new();
    for at in source::find_word(code, "super") {
        if code[..at].trim_end().ends_with("::") {
            continue; // The second `super` of `super::super`, counted with the first.
        }
        let mut ups = 0;
        let mut rest = &code[at..];
        while let Some(tail) = rest.trim_start().strip_prefix("super") {
            ups += 1;
            rest = tail.trim_start().strip_prefix("::").unwrap_or("");
        }
        if ups == module.len() && !rest.is_empty() {
            let line = source::line_of(code, at);
            found.extend(leaves(rest).into_iter().map(|to| Edge { to, line }));
        }
    }
    found
}

/// The paths named by the text after `crate::`, one for each leaf of a `{…}` group; at most two segments of each.
fn leaves(text: &str) -> Vec<String> {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else {
        let first = identifier(text);
        let rest = text[first.len()..].trim_start().strip_prefix("::").map(str::trim_start);
        return match rest {
            None if first.is_empty() => Vec::new(),
            None => vec![first.to_owned()],
            Some(rest) if rest.starts_with('{') => {
                let inner = leaves(rest);
                let mut found: Vec<String> =
                    inner.iter().map(|leaf| join(first, leaf.split("::").next().unwrap_or(""))).collect();
                found.dedup();
                found
            }
            Some(rest) => vec![join(first, identifier(rest))],
        };
    };
    let mut found: Vec<String> = split_group(group).into_iter().flat_map(leaves).collect();
    found.dedup();
    found
}

fn join(first: &str, second: &str) -> String {
    if second.is_empty() || second == "self" { first.to_owned() } else { format!("{first}::{second}") }
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The comma-separated parts of a group up to its closing brace.
fn split_group(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&text[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "[layers]\nbase = 0\nerror = 0\nmem = 1\nenv = 1\nformat = 2\nsst = 3\ncache = 3\n\
        [free]\nmodules = [\"lib\"]\n[only]\nbase = []\nformat = [\"base\", \"mem::aligned\"]\n[also]\nenv = [\"mem::aligned\"]\n[macros]\nstamp = \"mem::region\"\n";

    fn names(code: &str, module: &str) -> Vec<String> {
        edges(code, &module_of(module)).into_iter().map(|e| e.to).collect()
    }

    #[test]
    fn finds_paths_and_groups() {
        let code = "use crate::mem::aligned::AlignedBuf;\nuse crate::{base::{ids::X, key}, error};\nlet x = crate::env::join(a);\npub(crate) fn f() {}";
        assert_eq!(names(code, "sst/reader.rs"), ["mem::aligned", "base::ids", "base::key", "error", "env::join"]);
        assert_eq!(edges(code, &module_of("sst.rs"))[4].line, 3);
        assert_eq!(names("use crate::mem::{self, region::{A, B}};", "sst.rs"), ["mem", "mem::region"]);
    }

    #[test]
    fn super_counts_when_it_leaves_the_module() {
        assert_eq!(names("use super::ids::X; use super::super::error::E;", "base/key.rs"), ["error::E"]);
        assert_eq!(names("use super::mem::region;", "env.rs"), ["mem::region"]);
    }

    #[test]
    fn judges_edges() {
        let layers = Layers::parse(RULES).unwrap();
        assert_eq!(layers.objection("sst", "format::block"), None);
        assert_eq!(layers.objection("format", "mem::aligned"), None);
        assert_eq!(layers.objection("env", "mem::aligned"), None);
        assert_eq!(layers.objection("sst", "sst::reader"), None);
        assert_eq!(layers.objection("lib", "sst"), None);
        assert_eq!(layers.objection("sst", "stamp"), None, "a macro of a lower layer");
        assert!(layers.objection("base", "stamp").is_some(), "a macro of a higher layer");
        assert!(layers.objection("format", "mem::region").is_some(), "only mem::aligned is allowed");
        assert!(layers.objection("env", "mem::region").is_some(), "same layer");
        assert!(layers.objection("mem", "sst").is_some(), "higher layer");
        assert!(layers.objection("sst", "cache").is_some(), "same layer");
        assert!(layers.objection("base", "error").is_some());
        assert!(layers.objection("new", "base").is_some(), "no layer");
    }

    #[test]
    fn wrong_files_are_refused() {
        assert!(Layers::parse("layers = 3").is_err());
        assert!(Layers::parse("[layers]\nbase = \"x\"\n[only]\n[also]\n[free]\n[macros]\n").is_err());
    }
}
