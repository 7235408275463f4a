//! Judges a test whose output is not as expected: is the difference one that is listed, and of the kinds listed?

use std::fs;
use std::path::{Path, PathBuf};

use super::{Stage, Suite};
use crate::comparison::{self, Rules, Script, Verdict};

/// Differences shown of a failed test.
const SHOWN: usize = 5;

/// Where the files of a test are.
pub(super) struct Files {
    /// The suite in the source.
    pub(super) source: PathBuf,
    /// What the driver wrote.
    pub(super) output: PathBuf,
}

/// What a test showed.
pub(super) enum Judgement {
    Passed,
    /// It differs as is listed.
    Explained {
        kinds: Vec<&'static str>,
        reason: String,
    },
    /// With what is wrong.
    Failed(Vec<String>),
}

/// Judges one test that the driver calls failed.
pub(super) fn test(stage: &Stage<'_>, suite: Suite, name: &str, files: &Files) -> Judgement {
    let result = files.output.join("results").join(format!("{name}.out"));
    let Ok(actual) = read(&result) else {
        return Judgement::Failed(vec!["it left no output".to_owned()]);
    };
    let sql = read(&files.source.join("sql").join(format!("{name}.sql"))).unwrap_or_default();
    let script = if suite.is_isolation() { Script::Spec } else { Script::Sql(&sql) };
    let listed = stage.expected.of(suite.name(), name, stage.order.update_in_place);
    let place_columns = listed.map(|l| l.columns.as_slice()).unwrap_or_default();
    let outcome = listed.and_then(|l| l.outcome.as_deref());
    let rules = Rules { access_method: stage.order.access_method.name(), place_columns, outcome };

    // Postgres keeps several outputs of some tests; the nearest one tells most.
    let verdicts = alternatives(&files.source.join("expected"), name).into_iter().map(|expected| {
        let expected = read(&expected).unwrap_or_default();
        comparison::compare(&expected, &actual, script, rules)
    });
    let distance = |verdict: &Verdict| match verdict {
        Verdict::Explained(_) => 0,
        Verdict::Different(found) => found.places.len(),
    };
    match verdicts.min_by_key(distance) {
        None => Judgement::Failed(vec!["there is no expected output".to_owned()]),
        Some(Verdict::Different(found)) => {
            let more = found.places.len().saturating_sub(SHOWN);
            let mut why: Vec<String> = found.places.into_iter().take(SHOWN).collect();
            if more > 0 {
                why.push(format!("and {more} more"));
            }
            // For the reader, and as it would be recorded; the verdict does not depend on it.
            let printed = files.output.join(format!("{name}.printed"));
            if fs::write(&printed, found.text).is_ok() {
                why.push(format!("what these printed: {}", printed.display()));
            }
            why.push(format!("see {}", files.output.join("regression.diffs").display()));
            Judgement::Failed(why)
        }
        Some(Verdict::Explained(kinds)) => {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            match listed {
                Some(listed) if kinds.is_subset(&listed.kinds) && !kinds.is_empty() => {
                    Judgement::Explained { kinds: names, reason: listed.reason.clone() }
                }
                // The output is right, and the driver says failed: psql ended with an error code.
                _ if kinds.is_empty() => {
                    Judgement::Failed(vec!["its output is as expected, its exit code is not".to_owned()])
                }
                _ => Judgement::Failed(vec![format!(
                    "it differs only in {}, and is not listed so in pg_regress/expected_differences.toml",
                    names.join(", ")
                )]),
            }
        }
    }
}

/// The expected outputs of a test: `NAME.out`, `NAME_0.out` to `NAME_9.out`.
fn alternatives(dir: &Path, name: &str) -> Vec<PathBuf> {
    let numbered = (0..10).map(|n| dir.join(format!("{name}_{n}.out")));
    std::iter::once(dir.join(format!("{name}.out"))).chain(numbered).filter(|path| path.is_file()).collect()
}

/// A file's text; some tests print bytes that are no UTF-8.
fn read(path: &Path) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
