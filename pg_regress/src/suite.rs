//! Runs Postgres's suites and our own, and says what passed.

mod driver;
mod extension;
mod judge;
mod own;
mod report;
mod server_log;
mod standby;
mod tap;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::expected::ExpectedDifferences;
use crate::failure::{Failure, Result};
use crate::installation::{EXTENSION, INSTALL_HINT, Installation};
use crate::source_tree::SourceTree;

use report::Bar;
pub use report::Count;

/// A suite of Postgres, or ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Regression tests of SQL.
    Core,
    /// Concurrent sessions.
    Isolation,
    /// Recovery and replication.
    Tap,
    /// Our own tests of SQL, in `pg_regress/own`.
    Own,
    /// What only the extension has: its functions, settings and errors, in `pg_extension/sql`.
    Extension,
    /// Our own tests of concurrent sessions, in `pg_regress/own_isolation`.
    OwnIsolation,
    /// Logical decoding: the tests of SQL of `contrib/test_decoding`.
    Decoding,
    /// Logical decoding: the tests of concurrent sessions of `contrib/test_decoding`.
    DecodingIsolation,
    /// Logical replication.
    Subscription,
    /// Our own scripts in Perl, in `pg_regress/own_replication`: logical replication, and transaction ids that go round.
    OwnReplication,
}

impl Suite {
    /// Whether its tests are specifications of concurrent sessions.
    pub fn is_isolation(self) -> bool {
        matches!(self, Self::Isolation | Self::OwnIsolation | Self::DecodingIsolation)
    }

    /// As it is called on the command line and in the list of expected differences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Isolation => "isolation",
            Self::Tap => "tap",
            Self::Own => "own",
            Self::Extension => "extension",
            Self::OwnIsolation => "own-isolation",
            Self::Decoding => "decoding",
            Self::DecodingIsolation => "decoding-isolation",
            Self::Subscription => "subscription",
            Self::OwnReplication => "own-replication",
        }
    }
}

/// What tables are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMethod {
    /// Postgres's own: the control.
    Heap,
    /// Heap under another name: what the name alone changes.
    HeapAlias,
    /// The extension's.
    Extension,
}

impl AccessMethod {
    /// Its name in the database. (No name that starts with `heap`: tests make such ones themselves.)
    pub fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::HeapAlias => "xheap",
            Self::Extension => EXTENSION,
        }
    }

    /// The statement that makes it; none for what is always there.
    pub fn create_statement(self) -> Option<String> {
        match self {
            Self::Heap => None,
            Self::HeapAlias => {
                Some(format!("CREATE ACCESS METHOD {} TYPE TABLE HANDLER heap_tableam_handler", self.name()))
            }
            Self::Extension => Some(format!("CREATE EXTENSION {EXTENSION}")),
        }
    }

    /// Lines of postgresql.conf for a server that has it.
    pub fn server_settings(self) -> String {
        if self == Self::Extension { format!("shared_preload_libraries = '{EXTENSION}'\n") } else { String::new() }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which suites.
    pub suites: Vec<Suite>,
    /// On what.
    pub access_method: AccessMethod,
    /// The extension's `update_in_place`; `None` leaves it at its default.
    pub update_in_place: Option<bool>,
    /// Names of single tests; all when empty.
    pub tests: Vec<String>,
    /// Where source and results go.
    pub work: PathBuf,
}

/// What suites need while they run.
struct Stage<'o> {
    order: &'o Order,
    installation: Installation,
    account: Account,
    source: SourceTree,
    expected: ExpectedDifferences,
}

/// Keeps other runs away from the same directory for as long as the file is open.
fn alone(work: &Path) -> Result<File> {
    let path = work.join("running.lock");
    let file = File::create(&path).map_err(|e| Failure::file(&path, "create", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!("another run works in \"{}\"", work.display()))
            .hint("wait for its end, or name another directory with --work")),
        Err(TryLockError::Error(e)) => Err(Failure::file(&path, "lock", &e)),
    }
}

/// Runs the suites, prints what they showed, and returns the sum.
///
/// # Errors
/// When something is missing, or a suite could not be run.
pub fn run(order: &Order) -> Result<Count> {
    let installation = Installation::find()?;
    if order.access_method == AccessMethod::Extension && !installation.has_extension() {
        return Err(Failure::new(format!("{EXTENSION} is not installed in \"{}\"", installation.bin_dir.display()))
            .hint(INSTALL_HINT));
    }
    if order.update_in_place.is_some() && order.access_method != AccessMethod::Extension {
        return Err(Failure::new(format!("--update-in-place is a setting of {EXTENSION}")).hint("--am ssdlsm"));
    }
    if !order.tests.is_empty() && order.suites.len() > 1 {
        return Err(Failure::new("single tests need the suite they are in").hint("for example: regress core triggers"));
    }
    let account = Account::find()?;
    let bar = Bar::new("prepare", 1);
    std::fs::create_dir_all(&order.work).map_err(|e| Failure::file(&order.work, "create", &e))?;
    account.must_enter(&order.work)?;
    let _alone = alone(&order.work)?;
    let source = SourceTree::prepare(&installation, &order.work, &mut |text| bar.note(text))?;
    drop(bar);
    let stage = Stage { order, installation, account, source, expected: ExpectedDifferences::read()? };
    let mut total = Count::default();
    for suite in &order.suites {
        total.add(match suite {
            Suite::Tap | Suite::Subscription | Suite::OwnReplication => tap::run(&stage, *suite)?,
            Suite::Extension => extension::run(&stage)?,
            _ => driver::run(&stage, *suite)?,
        });
    }
    Ok(total)
}
