//! The one error type of the engine, in five classes that callers branch on.
//!
//! `Display` prints the error itself, never its source; logs print the chain. Corruption and I/O always name the file,
//! the offset and what was being attempted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of every fallible engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Stored bytes are not what was written. Restore from a backup, or run `verify` and `repair`.
    Corruption,
    /// The world failed: disk, file system, permissions, space.
    Io,
    /// Another writer was first; retry.
    Conflict,
    /// The caller asked for something that is not allowed; the message says what to change.
    Usage,
    /// The engine is closed, or was shut for writing after an earlier failure.
    Closed,
}

/// What kind of conflict it was: hosts that speak SQL have a code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// Transactions do not fit in any order (SQLSTATE 40001).
    Serialization,
    /// Transactions waited for each other in a circle (40P01).
    Deadlock,
    /// A lock was not had in time (55P03).
    LockTimeout,
    /// A statement took longer than it may (57014).
    StatementTimeout,
    /// Somebody else is working on the very thing (55006).
    InUse,
}

/// An engine error.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use ssd_engine::{Class, Engine, Options};
///
/// std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
/// let error = Engine::open(dir.path(), Options::default()).unwrap_err();
/// match error.class() {
///     Class::Usage => println!("{error}: {}", error.hint()),
///     Class::Io if error.is_no_space() => println!("{error}: free some space"),
///     Class::Io | Class::Conflict => println!("{error}: try again"),
///     Class::Corruption | Class::Closed => println!("{error}"),
/// }
/// # assert_eq!(error.class(), Class::Usage);
/// ```
#[derive(Debug)]
pub enum Error {
    /// Stored bytes lie.
    Corruption {
        /// The file that holds them.
        path: PathBuf,
        /// Byte offset of the damaged structure.
        offset: u64,
        /// What was being read and what was wrong with it.
        what: String,
    },
    /// An operation of the environment failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Byte offset, where the operation has one.
        offset: Option<u64>,
        /// The operation: "read", "write", "sync", "open", …
        attempt: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another writer was first.
    Conflict {
        /// How.
        kind: ConflictKind,
        /// In words; a deadlock names its cycle.
        what: String,
    },
    /// The caller erred.
    Usage {
        /// What was wrong: short, lower-case, without a full stop.
        message: String,
        /// What to do instead, as a sentence. Empty when the message says it all.
        hint: String,
    },
    /// The engine no longer accepts the operation; says why.
    Closed(String),
}

impl Error {
    /// A corruption error at `offset` of `path`.
    pub fn corruption(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corruption { path: path.to_owned(), offset, what: what.into() }
    }

    /// An I/O error of `attempt` on `path`.
    pub fn io(path: &Path, attempt: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), offset: None, attempt, source }
    }

    /// An I/O error of `attempt` at `offset` of `path`.
    pub fn io_at(path: &Path, offset: u64, attempt: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), offset: Some(offset), attempt, source }
    }

    /// A usage error with a hint that says what to change.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// A conflict.
    pub fn conflict(kind: ConflictKind, what: impl Into<String>) -> Self {
        Self::Conflict { kind, what: what.into() }
    }

    /// The kind of a conflict.
    #[must_use]
    pub const fn conflict_kind(&self) -> Option<ConflictKind> {
        if let Self::Conflict { kind, .. } = self { Some(*kind) } else { None }
    }

    /// The class of this error.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Corruption { .. } => Class::Corruption,
            Self::Io { .. } => Class::Io,
            Self::Conflict { .. } => Class::Conflict,
            Self::Usage { .. } => Class::Usage,
            Self::Closed(_) => Class::Closed,
        }
    }

    /// Whether the disk (or quota) is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// What to do instead, as a sentence, for a usage error or a conflict; empty for the other classes.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Usage { hint, .. } => hint,
            Self::Conflict { .. } => "The transaction might succeed if it is run again.",
            _ => "",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corruption { path, offset, what } => {
                write!(f, "corrupt file \"{}\" at offset {offset}: {what}", path.display())
            }
            Self::Io { path, offset: Some(offset), attempt, .. } => {
                write!(f, "could not {attempt} \"{}\" at offset {offset}", path.display())
            }
            Self::Io { path, offset: None, attempt, .. } => write!(f, "could not {attempt} \"{}\"", path.display()),
            Self::Conflict { what, .. } => write!(f, "{what}"),
            Self::Usage { message, .. } => write!(f, "{message}"),
            Self::Closed(why) => write!(f, "engine is closed: {why}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
