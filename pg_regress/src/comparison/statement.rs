//! Says of a statement whether SQL leaves open the order of the rows it returns, and in which order it visits rows.
//!
//! Open: queries with a FROM, data changes and COPY TO without an ORDER BY of their own or of a subquery; FETCH and EXECUTE
//! of such ones. The ORDER BY of a window or of an aggregate's arguments does not order the result and so does not count.
//! (That of a subquery does not either, by the letter of SQL; counting it is the stricter reading.)
//!
//! An ORDER BY orders the result. Messages that rows raise while they are looked for come before that, in any order.

use std::collections::BTreeMap;

/// What SQL leaves open of a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// In which order its rows come.
    pub(super) rows: bool,
    /// In which order it visits rows, and so in which order they raise messages.
    pub(super) visits: bool,
}

impl Open {
    /// What is open of both of two statements.
    pub(super) const fn and(self, other: Self) -> Self {
        Self { rows: self.rows && other.rows, visits: self.visits && other.visits }
    }
}

/// What is known of cursors and prepared statements while a script is read.
#[derive(Debug, Default)]
pub struct Session {
    /// Name of a cursor or of a prepared statement, and what is open of it.
    named: BTreeMap<String, Open>,
}

impl Session {
    /// What is open of this statement. Takes note of the names it declares.
    pub fn open(&mut self, statement: &str) -> Open {
        let words = words(statement);
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let of_query = || Open { rows: reads_table(&words) && !has_order_by(&words), visits: reads_table(&words) };
        match word(0) {
            "select" | "with" | "(" => of_query(),
            "table" | "insert" | "update" | "delete" | "merge" | "copy" => {
                Open { rows: !has_order_by(&words), visits: true }
            }
            "declare" | "prepare" => {
                self.named.insert(word(1).to_owned(), of_query());
                Open::default()
            }
            // FETCH [direction [count]] [FROM | IN] name
            "fetch" | "execute" => {
                let name = if word(0) == "execute" { word(1) } else { words.last().map_or("", String::as_str) };
                self.named.get(name).copied().unwrap_or_default()
            }
            _ => Open::default(),
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
