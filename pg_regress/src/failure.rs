//! The error of this crate: what went wrong, and what to do about it.

use std::fmt;
use std::path::Path;

/// Result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why something could not be done. A test that fails is a result, not a failure.
#[derive(Debug)]
pub struct Failure {
    what: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure that says `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// A failure to `attempt` something with a file.
    pub fn file(path: &Path, attempt: &str, source: &dyn fmt::Display) -> Self {
        Self::new(format!("could not {attempt} \"{}\": {source}", path.display()))
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for Failure {}
