//! The error of this crate: a sentence for the person who typed the command.

use std::fmt;
use std::path::Path;

/// Result of everything here that can fail.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a verb could not run. Checks and tests that fail are results, not failures.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure that says `what`.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// A failure to `attempt` something with a file.
    pub(crate) fn file(path: &Path, attempt: &str, source: &dyn fmt::Display) -> Self {
        Self(format!("could not {attempt} \"{}\": {source}", path.display()))
    }
}

impl From<ssd_pg_regress::failure::Failure> for Failure {
    fn from(source: ssd_pg_regress::failure::Failure) -> Self {
        Self(source.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
