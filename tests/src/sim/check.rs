//! Comparing what an engine shows with what a model says, and words for the difference.

use ssd_engine::{Error, Tree, TreeScan};

use crate::sim::model::State;

/// A row of a tree.
pub type Row = (Vec<u8>, Vec<u8>);

/// An error with everything that caused it.
#[must_use]
pub fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    text
}

/// The rows of one tree.
#[must_use]
pub fn rows_of(state: &State, tree: usize) -> Vec<Row> {
    state.iter().filter(|((t, _), _)| *t == tree).map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

/// Fails unless a value is the one that is wanted.
///
/// # Panics
/// When it is not.
pub fn assert_same(what: &str, found: Option<&Vec<u8>>, want: Option<&Vec<u8>>) {
    assert!(found == want, "{what}: found {}, expected {}", brief(found), brief(want));
}

fn brief(value: Option<&Vec<u8>>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |v| format!("{} bytes {:?}", v.len(), &v[..v.len().min(12)]))
}

/// Fails unless rows are those that are wanted.
///
/// # Panics
/// When they are not.
pub fn assert_rows<'a>(what: &str, found: &[Row], want: impl ExactSizeIterator<Item = &'a Row> + Clone) {
    if let Some(difference) = difference(found, want) {
        panic!("{what}: {difference}");
    }
}

fn difference<'a>(found: &[Row], want: impl ExactSizeIterator<Item = &'a Row> + Clone) -> Option<String> {
    let differs = found.iter().zip(want.clone()).position(|(a, b)| a != b);
    if differs.is_none() && found.len() == want.len() {
        return None;
    }
    let at = differs.unwrap_or(found.len().min(want.len()));
    Some(format!(
        "{} rows, expected {}; first difference at {at}: {:?} instead of {:?}",
        found.len(),
        want.len(),
        found.get(at).map(|row| &row.0),
        want.clone().nth(at).map(|row| row.0.clone()),
    ))
}

/// All rows of all trees, read forward and backward.
///
/// # Errors
/// What the engine says.
///
/// # Panics
/// When the two directions show different rows.
pub fn read_all(trees: &[Tree]) -> Result<Vec<Vec<Row>>, Error> {
    let rows = |scan: TreeScan| scan.collect::<Result<Vec<_>, _>>();
    let mut all = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        let forward = rows(tree.scan::<Vec<u8>>(..)?)?;
        let backward = rows(tree.scan_backward::<Vec<u8>>(..)?)?;
        assert_rows(&format!("tree {at} backward, beside forward"), &backward, forward.iter().rev());
        all.push(forward);
    }
    Ok(all)
}

/// Where the rows of all trees differ from a state; `None` when they are the same.
#[must_use]
pub fn compare(found: &[Vec<Row>], state: &State) -> Option<String> {
    found.iter().enumerate().find_map(|(tree, rows)| {
        difference(rows, rows_of(state, tree).iter()).map(|difference| format!("tree {tree}: {difference}"))
    })
}
