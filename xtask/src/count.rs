//! Counting what passed: the sums that verbs print, and reading them back from the programs that a verb runs.

use std::fmt;

/// How many passed, failed, and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Count {
    /// One check that passed, or failed.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }

    /// One thing that was skipped.
    pub(crate) const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Adds another count.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The number that stands before `word` in `line`, as in `12 passed, 1 failed`.
pub(crate) fn number_before(line: &str, word: &str) -> Option<u64> {
    let mut previous = None;
    for token in line.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')')).filter(|t| !t.is_empty())
    {
        if token.trim_end_matches([':', '.']) == word {
            return previous;
        }
        previous = token.parse().ok();
    }
    None
}

/// The count in the last line that has one, as our own programs print it.
pub(crate) fn last_line(lines: &[String]) -> Option<Count> {
    lines.iter().rev().find_map(|line| {
        Some(Count {
            passed: number_before(line, "passed")?,
            failed: number_before(line, "failed")?,
            skipped: number_before(line, "skipped").unwrap_or(0),
        })
    })
}

/// The sum over the `test result:` lines of `cargo test`. `None` when there is none, as after a failed build.
pub(crate) fn cargo_test(lines: &[String]) -> Option<Count> {
    let mut sum = None;
    for line in lines.iter().filter(|line| line.starts_with("test result:")) {
        let count = Count {
            passed: number_before(line, "passed").unwrap_or(0),
            failed: number_before(line, "failed").unwrap_or(0),
            skipped: number_before(line, "ignored").unwrap_or(0),
        };
        sum.get_or_insert_with(Count::default).add(count);
    }
    sum
}

/// The count in the `Summary` line of cargo-nextest. `None` when there is none, as after a failed build.
pub(crate) fn nextest(lines: &[String]) -> Option<Count> {
    let line = lines.iter().rev().find(|line| line.trim_start().starts_with("Summary ["))?;
    let tail = line.split_once("run:").map_or(line.as_str(), |(_, tail)| tail);
    let number = |word| number_before(tail, word).unwrap_or(0);
    let broken = number("failed") + number("timed") + number("exec");
    // What a filter left out is no skipped test: the caller asked for the others.
    Some(Count { passed: number("passed"), failed: broken, skipped: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn reads_our_own_last_line() {
        let count = last_line(&lines("noise 3\n998 passed, 2 failed\n\n"));
        assert_eq!(count, Some(Count { passed: 998, failed: 2, skipped: 0 }));
        assert_eq!(last_line(&lines("nothing passed here")), None);
    }

    #[test]
    fn sums_cargo_test_results() {
        let out = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                   test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(cargo_test(&lines(out)), Some(Count { passed: 5, failed: 1, skipped: 1 }));
        assert_eq!(cargo_test(&lines("error: could not compile")), None);
    }

    #[test]
    fn reads_nextest_summaries() {
        let ok = "     Summary [   0.005s] 3 tests run: 3 passed (1 slow), 2 skipped";
        assert_eq!(nextest(&lines(ok)), Some(Count { passed: 3, failed: 0, skipped: 0 }));
        let bad = "     Summary [   1.5s] 10 tests run: 7 passed, 2 failed, 1 timed out, 0 skipped";
        assert_eq!(nextest(&lines(bad)), Some(Count { passed: 7, failed: 3, skipped: 0 }));
        let partly = "     Summary [   1.5s] 4/10 tests run: 3 passed, 1 failed, 0 skipped";
        assert_eq!(nextest(&lines(partly)), Some(Count { passed: 3, failed: 1, skipped: 0 }));
        assert_eq!(nextest(&lines("error: could not compile")), None);
    }

    #[test]
    fn shows_all_three_numbers() {
        let mut sum = Count::one(true);
        sum.add(Count::one(false));
        sum.add(Count::SKIPPED);
        assert_eq!(sum.to_string(), "1 passed, 1 failed, 1 skipped");
    }
}
