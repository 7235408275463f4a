//! The list of tests that may differ, each with its reason: `pg_regress/expected_differences.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::comparison::Kind;
use crate::failure::{Failure, Result};

/// The list as it was when this was built.
const LIST: &str = include_str!("../expected_differences.toml");

/// A test that may differ.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    suite: String,
    /// Its name.
    pub test: String,
    /// How it may differ.
    pub kinds: BTreeSet<Kind>,
    /// Columns that hold places.
    #[serde(default)]
    pub columns: Vec<String>,
    /// With which setting of `ssdlsm.update_in_place` alone it differs.
    pub update_in_place: Option<bool>,
    /// Places that the test names where a heap puts rows, and where they are when updates keep them in place.
    #[serde(default)]
    pub named_places: Vec<[String; 2]>,
    /// Why.
    pub reason: String,
    /// What the statements print for which another row is met first, read from `outcomes`.
    #[serde(skip)]
    pub outcome: Option<String>,
}

/// The recorded outcomes: one file for each test that has the kind, with its statements as psql prints them.
const OUTCOMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/outcomes");

fn outcome_of(suite: &str, test: &str) -> Result<String> {
    let path = Path::new(OUTCOMES).join(suite).join(format!("{test}.out"));
    fs::read_to_string(&path).map_err(|e| Failure::file(&path, "read", &e))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// All tests that may differ.
#[derive(Debug)]
pub struct ExpectedDifferences(Vec<Difference>);

impl ExpectedDifferences {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not as its head says.
    pub fn read() -> Result<Self> {
        let mut list = parse(LIST)?;
        for d in list.iter_mut().filter(|d| d.kinds.contains(&Kind::RowMetFirst)) {
            d.outcome = Some(outcome_of(&d.suite, &d.test)?);
        }
        Ok(Self(list))
    }

    /// The tests of a suite that name places.
    pub fn with_named_places(&self, suite: &str) -> impl Iterator<Item = &Difference> {
        self.0.iter().filter(move |d| d.suite == suite && !d.named_places.is_empty())
    }

    /// What is expected of a test with this setting of `ssdlsm.update_in_place`, which is on by default.
    pub fn of(&self, suite: &str, test: &str, update_in_place: Option<bool>) -> Option<&Difference> {
        let is_meant = |only: Option<bool>| only.is_none_or(|only| only == update_in_place.unwrap_or(true));
        self.0.iter().find(|d| d.suite == suite && d.test == test && is_meant(d.update_in_place))
    }
}

fn parse(text: &str) -> Result<Vec<Difference>> {
    let wrong = |what: &str| Failure::new(format!("expected_differences.toml: {what}"));
    let list: List = toml::from_str(text).map_err(|e| wrong(&e.to_string()))?;
    let mut seen = BTreeSet::new();
    for d in &list.difference {
        let name = format!("{} {}", d.suite, d.test);
        if !matches!(d.suite.as_str(), "core" | "isolation" | "decoding" | "decoding-isolation") {
            return Err(wrong(&format!("`{name}` is in no suite that can be compared")));
        }
        if d.kinds.is_empty() || d.reason.trim().is_empty() {
            return Err(wrong(&format!("`{name}` has no kind or no reason")));
        }
        if d.kinds.contains(&Kind::PhysicalPlace) == d.columns.is_empty() {
            return Err(wrong(&format!("`{name}`: physical_place and `columns` go together")));
        }
        if !seen.insert(name.clone()) {
            return Err(wrong(&format!("`{name}` stands twice")));
        }
    }
    Ok(list.difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_as_its_head_says() {
        let list = ExpectedDifferences::read().unwrap();
        assert!(list.of("core", "create_am", None).is_some());
        assert!(list.of("isolation", "create_am", None).is_none());
    }

    #[test]
    fn entries_that_say_too_little_are_refused() {
        let entry = |kinds: &str, more: &str| {
            format!("[[difference]]\nsuite = \"core\"\ntest = \"t\"\nkinds = [{kinds}]\n{more}\n")
        };
        let good = entry("\"row_order\"", "reason = \"r\"");
        assert_eq!(parse(&good).unwrap().len(), 1);
        for bad in [
            entry("", "reason = \"r\""),
            entry("\"row_order\"", "reason = \" \""),
            entry("\"row_order\"", ""),
            entry("\"other\"", "reason = \"r\""),
            entry("\"physical_place\"", "reason = \"r\""),
            entry("\"row_order\"", "reason = \"r\"\ncolumns = [\"ctid\"]"),
            good.replace("core", "tap"),
            format!("{good}{good}"),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
