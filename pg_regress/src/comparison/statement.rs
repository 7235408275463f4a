//! Says of a statement whether SQL leaves open the order of the rows it returns.
//!
//! Open: queries with a FROM, data changes and COPY TO without an ORDER BY of their own or of a subquery; FETCH and EXECUTE
//! of such ones. The ORDER BY of a window or of an aggregate's arguments does not order the result and so does not count.
//! (That of a subquery does not either, by the letter of SQL; counting it is the stricter reading.)

use std::collections::BTreeMap;

/// What is known of cursors and prepared statements while a script is read.
#[derive(Debug, Default)]
pub struct Session {
    /// Name of a cursor or of a prepared statement, and whether its order is open.
    named: BTreeMap<String, bool>,
}

impl Session {
    /// Whether the order of the rows that this statement returns is open. Takes note of the names it declares.
    pub fn order_is_open(&mut self, statement: &str) -> bool {
        let words = words(statement);
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        match word(0) {
            "select" | "with" | "(" => reads_table(&words) && !has_order_by(&words),
            "table" | "insert" | "update" | "delete" | "merge" | "copy" => !has_order_by(&words),
            "declare" | "prepare" => {
                self.named.insert(word(1).to_owned(), reads_table(&words) && !has_order_by(&words));
                false
            }
            // FETCH [direction [count]] [FROM | IN] name
            "fetch" | "execute" => {
                let name = if word(0) == "execute" { word(1) } else { words.last().map_or("", String::as_str) };
                self.named.get(name).copied().unwrap_or(false)
            }
            _ => false,
        }
    }
}

/// Whether rows come from somewhere. (Not from a function of the tests that returns a plan, which has an order.)
fn reads_table(words: &[String]) -> bool {
    words.iter().any(|w| w == "from" || w == "table") && !words.iter().any(|w| w.contains("explain"))
}

/// Whether an ORDER BY may order the result; that of a window or an aggregate does not.
fn has_order_by(words: &[String]) -> bool {
    // For each open parenthesis: whether it began a query.
    let mut queries = vec![true];
    for (index, word) in words.iter().enumerate() {
        match word.as_str() {
            "(" => {
                let next = words.get(index + 1).map_or("", String::as_str);
                // Nested parentheses around a query are the query's own.
                let is_query = matches!(next, "select" | "with" | "values" | "table" | "(");
                queries.push(is_query);
            }
            ")" if queries.len() > 1 => {
                queries.pop();
            }
            "order" => {
                let is_order_by = words.get(index + 1).is_some_and(|w| w == "by");
                if is_order_by && queries.last().copied().unwrap_or(true) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// The words of a statement in lower case, with parentheses; without comments, literals and other signs.
pub(super) fn words(statement: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    for (at, part) in super::transcript::scan(statement) {
        let text = &statement[at..at + part.length];
        if part.is_code && (text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '"')) {
            word.push_str(&text.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if part.is_code && (text == "(" || text == ")") {
            found.push(text.to_owned());
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}
