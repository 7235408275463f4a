//! Says whether a test that `pg_regress` calls failed differs only in what SQL leaves open.
//!
//! Postgres compares texts. A table access method may return rows in another order than heap does, and may place them
//! elsewhere, without being wrong. So the expected and the actual output are cut at the statements that the script
//! echoes ([`transcript`]), what each statement printed is cut into tables and messages ([`printed`]), and each pair
//! that differs must be explained by one or more [`Kind`]s. What is not explained is a difference.
//!
//! Invariants:
//! 1. Nothing is permuted across statements, nor across the tables of one statement.
//! 2. Rows are permuted only for a statement that returns rows and has no ORDER BY ([`statement`]).
//! 3. A value counts as a place only in a column that is named for the test, and only if both sides look like one.
//! 4. Rows may be added, never missing, and only rows that name the access method.
//! 5. Messages may be added, never missing, and only such as the expected output has elsewhere, too.
//! 6. What sessions do once a transaction more has failed to be serialized is compared again from the next permutation on.
//! 7. What a statement *does* may depend on the row that it meets first. Then it is kept word for word, with all others of the
//!    test that print something else therefore, and nothing but that is accepted.
//!
//! Pure: texts in, a verdict out.

pub mod printed;
pub mod statement;
pub mod transcript;

use std::collections::BTreeSet;

use serde::Deserialize;

use printed::{Item, Table};
use transcript::Segment;

/// What the text is that made the output.
#[derive(Clone, Copy, Debug)]
pub enum Script<'s> {
    /// A file of SQL that psql ran and echoed.
    Sql(&'s str),
    /// A specification that isolationtester ran; it echoes every step.
    Spec,
}

/// A kind of difference that does not count as failure where it is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Rows, or messages raised for rows, in an order that no ORDER BY defines.
    RowOrder,
    /// A ctid or a size.
    PhysicalPlace,
    /// A list of access methods, or of what depends on them, has one more.
    AccessMethodListed,
    /// Messages raised for rows that are not expected here, but elsewhere in the same test.
    MoreMessages,
    /// A serializable transaction more has failed, because of locks that are wider than need be.
    SerializationFailure,
    /// Another row is met first, and what follows from that is the recorded outcome.
    RowMetFirst,
}

impl Kind {
    /// As it is written in the list of expected differences.
    pub fn name(self) -> &'static str {
        match self {
            Self::RowOrder => "row_order",
            Self::PhysicalPlace => "physical_place",
            Self::AccessMethodListed => "access_method_listed",
            Self::MoreMessages => "more_messages",
            Self::SerializationFailure => "serialization_failure",
            Self::RowMetFirst => "row_met_first",
        }
    }
}

/// What the comparison must know of the test.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'r> {
    /// The access method that the tables used.
    pub access_method: &'r str,
    /// Columns with ctids or sizes.
    pub place_columns: &'r [String],
    /// What those statements print, with their echo, for which another row is met first.
    pub outcome: Option<&'r str>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All differences are of these kinds; none when the texts are equal.
    Explained(BTreeSet<Kind>),
    /// There are other differences.
    Different(Differences),
}

/// Statements whose difference nothing explains.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// One entry for each.
    pub places: Vec<String>,
    /// What they printed, with their echo.
    pub text: String,
}

impl Differences {
    fn of(place: String) -> Self {
        Self { places: vec![place], text: String::new() }
    }
}

/// Compares two outputs of one script.
pub fn compare(expected: &str, actual: &str, script: Script<'_>, rules: Rules<'_>) -> Verdict {
    let (expected, actual) = match (transcript::read(expected, script), transcript::read(actual, script)) {
        (Ok(expected), Ok(actual)) => (expected, actual),
        (Err(why), _) => return Verdict::Different(Differences::of(format!("expected output: {why}"))),
        (_, Err(why)) => return Verdict::Different(Differences::of(format!("output: {why}"))),
    };
    let mut kinds = BTreeSet::new();
    let mut different = Differences::default();
    let everywhere: BTreeSet<Item<'_>> =
        expected.iter().flat_map(|segment| printed::items(&segment.output)).filter(Item::is_message).collect();
    let (mut left, mut right) = (expected.as_slice(), actual.as_slice());
    while let (Some((e, more_left)), Some((a, more_right))) = (left.split_first(), right.split_first()) {
        (left, right) = (more_left, more_right);
        if fails_to_serialize(e, a) {
            kinds.insert(Kind::SerializationFailure);
            (left, right) = (transcript::next_permutation(left), transcript::next_permutation(right));
            continue;
        }
        if e.echo != a.echo {
            // From here on the two ran different statements: whatever follows says nothing new.
            different.places.push(format!("line {}: `{}` where `{}` was expected", a.line, a.title(), e.title()));
            return Verdict::Different(different);
        }
        match explain(e, a, rules, &everywhere) {
            Some(found) => kinds.extend(found),
            None => {
                different.places.push(format!("line {}: {}", a.line, a.title()));
                different.text.extend(a.lines().flat_map(|line| [line, "\n"]));
            }
        }
    }
    if !left.is_empty() || !right.is_empty() {
        different.places.push(format!("{} statements ran where {} were expected", actual.len(), expected.len()));
        return Verdict::Different(different);
    }
    if !different.places.is_empty() && rules.outcome == Some(different.text.as_str()) {
        kinds.insert(Kind::RowMetFirst);
        different = Differences::default();
    }
    if different.places.is_empty() { Verdict::Explained(kinds) } else { Verdict::Different(different) }
}

/// The error of a serializable transaction that would close a circle.
const NOT_SERIALIZED: &str = "ERROR:  could not serialize access due to read/write dependencies among transactions";

/// Whether a step of a specification has failed to be serialized where that is not expected.
fn fails_to_serialize(expected: &Segment<'_>, actual: &Segment<'_>) -> bool {
    let fails = |segment: &Segment<'_>| segment.output.contains(&NOT_SERIALIZED);
    actual.echo == expected.echo && actual.echo[0].starts_with("step ") && fails(actual) && !fails(expected)
}

/// The kinds that explain how two outputs of one statement differ. `everywhere`: all messages that the test is expected to print.
fn explain(
    expected: &Segment<'_>,
    actual: &Segment<'_>,
    rules: Rules<'_>,
    everywhere: &BTreeSet<Item<'_>>,
) -> Option<BTreeSet<Kind>> {
    if expected.output == actual.output {
        return Some(BTreeSet::new());
    }
    let open = expected.open.and(actual.open);
    let (mut left, mut right) = (printed::items(&expected.output), printed::items(&actual.output));
    if left.len() != right.len() {
        let names_it = |item: &Item<'_>| matches!(item, Item::Line(line) if names(line, rules.access_method));
        if added_only(&left, &right, names_it) {
            return Some(BTreeSet::from([Kind::AccessMethodListed]));
        }
        let more = added_only(&left, &right, |item| everywhere.contains(item));
        return more.then(|| BTreeSet::from([Kind::MoreMessages]));
    }
    let mut kinds = BTreeSet::new();
    let differ_beside_tables =
        left.iter().zip(&right).any(|(l, r)| l != r && !matches!((l, r), (Item::Table(_), Item::Table(_))));
    if open.visits && differ_beside_tables {
        sort_runs(&mut left, expected.is_copy && open.rows);
        sort_runs(&mut right, expected.is_copy && open.rows);
        kinds.insert(Kind::RowOrder);
    }
    for (l, r) in left.iter().zip(&right) {
        match (l, r) {
            (l, r) if l == r => {}
            (Item::Table(l), Item::Table(r)) => kinds.extend(explain_table(l, r, open.rows, rules)?),
            _ => return None,
        }
    }
    Some(kinds)
}

/// Sorts each run of messages and, where these are rows, each run of lines.
fn sort_runs(items: &mut [Item<'_>], lines_are_rows: bool) {
    for run in items.chunk_by_mut(|a, b| a.may_swap_with(b, lines_are_rows)) {
        run.sort();
    }
}

/// Whether `actual` is `expected` with further items, each of which may be added.
fn added_only(expected: &[Item<'_>], actual: &[Item<'_>], may_be_added: impl Fn(&Item<'_>) -> bool) -> bool {
    let mut rest = expected.iter();
    let mut next = rest.next();
    for item in actual {
        if next == Some(item) {
            next = rest.next();
        } else if !may_be_added(item) {
            return false;
        }
    }
    next.is_none()
}

/// The fewest kinds that explain how two tables differ.
fn explain_table(left: &Table<'_>, right: &Table<'_>, order_is_open: bool, rules: Rules<'_>) -> Option<BTreeSet<Kind>> {
    const BY_SIZE: [&[Kind]; 7] = [
        &[Kind::RowOrder],
        &[Kind::PhysicalPlace],
        &[Kind::AccessMethodListed],
        &[Kind::RowOrder, Kind::PhysicalPlace],
        &[Kind::RowOrder, Kind::AccessMethodListed],
        &[Kind::PhysicalPlace, Kind::AccessMethodListed],
        &[Kind::RowOrder, Kind::PhysicalPlace, Kind::AccessMethodListed],
    ];
    let candidates = BY_SIZE.into_iter().filter(|kinds| order_is_open || !kinds.contains(&Kind::RowOrder));
    candidates
        .into_iter()
        .find(|kinds| are_equal(left, right, kinds, rules))
        .map(|kinds| kinds.iter().copied().collect())
}

/// Whether two tables are equal once differences of `kinds` are taken away.
fn are_equal(left: &Table<'_>, right: &Table<'_>, kinds: &[Kind], rules: Rules<'_>) -> bool {
    let places: &[String] = if kinds.contains(&Kind::PhysicalPlace) { rules.place_columns } else { &[] };
    if kinds.contains(&Kind::PhysicalPlace) && places.is_empty() {
        return false;
    }
    let (mut l, mut r) = (left.rows_as_cells(places), right.rows_as_cells(places));
    if kinds.contains(&Kind::AccessMethodListed) {
        let before = r.len();
        r.retain(|row| !row.iter().any(|cell| names(cell, rules.access_method)));
        let added = before - r.len();
        if added == 0 || !left.counts_agree() || !right.counts_agree() {
            return false;
        }
    } else if left.footer != right.footer {
        return false;
    }
    if kinds.contains(&Kind::RowOrder) {
        l.sort();
        r.sort();
    }
    left.columns() == right.columns() && l == r
}

/// Whether `text` has `name` as a word.
fn names(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == name || word.starts_with(&format!("{name}_")))
}

#[cfg(test)]
mod tests;
