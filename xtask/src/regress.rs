//! `cargo xtask regress`: Postgres's suites, and our own, on heap or on the extension's tables.

use clap::{Args, ValueEnum};
use ssd_pg_regress::account;
use ssd_pg_regress::suite::{self, AccessMethod, Order, Suite};

use crate::failure::Result;
use crate::workspace::Workspace;
use std::path::PathBuf;

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Which suite [default: all].
    suite: Option<SuiteName>,
    /// What tables are made with.
    #[arg(long, value_enum, default_value_t = AccessMethodName::Ssdlsm)]
    am: AccessMethodName,
    /// Whether updates of ssdlsm keep their row's place: its setting `ssdlsm.update_in_place` [default: as it is built].
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    update_in_place: Option<String>,
    /// Where source, servers and results go [default: target/pg_regress].
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Names of single tests of the suite; of the recovery suite their numbers are enough.
    tests: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SuiteName {
    /// Regression tests of SQL.
    Core,
    /// Concurrent sessions.
    Isolation,
    /// Recovery and replication.
    Tap,
    /// Our own tests of SQL, for what Postgres's do not reach.
    Own,
    /// The functions, settings and errors of the extension.
    Extension,
    /// Our own tests of concurrent sessions.
    OwnIsolation,
    /// Logical decoding, by the tests of contrib/test_decoding.
    Decoding,
    /// Logical decoding with concurrent sessions.
    DecodingIsolation,
    /// Logical replication.
    Subscription,
    /// Our own scripts: logical replication, and transaction ids that go round.
    OwnReplication,
}

#[derive(Clone, Copy, ValueEnum)]
enum AccessMethodName {
    /// Postgres's own: the control.
    Heap,
    /// Heap under another name: what the name alone changes.
    HeapAlias,
    /// The extension's.
    Ssdlsm,
}

/// Runs the verb; `false` when a test failed.
///
/// # Errors
/// When something is missing, or a suite could not be run.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    let suites = match arguments.suite {
        None => vec![
            Suite::Core,
            Suite::Isolation,
            Suite::Own,
            Suite::OwnIsolation,
            Suite::Decoding,
            Suite::DecodingIsolation,
            Suite::Extension,
            Suite::Tap,
            Suite::Subscription,
            Suite::OwnReplication,
        ],
        Some(SuiteName::Core) => vec![Suite::Core],
        Some(SuiteName::Isolation) => vec![Suite::Isolation],
        Some(SuiteName::Tap) => vec![Suite::Tap],
        Some(SuiteName::Own) => vec![Suite::Own],
        Some(SuiteName::Extension) => vec![Suite::Extension],
        Some(SuiteName::OwnIsolation) => vec![Suite::OwnIsolation],
        Some(SuiteName::Decoding) => vec![Suite::Decoding],
        Some(SuiteName::DecodingIsolation) => vec![Suite::DecodingIsolation],
        Some(SuiteName::Subscription) => vec![Suite::Subscription],
        Some(SuiteName::OwnReplication) => vec![Suite::OwnReplication],
    };
    let work = account::server_dir(arguments.work.as_deref(), &workspace.target_dir().join("pg_regress"))?;
    let count = suite::run(&Order {
        suites,
        access_method: match arguments.am {
            AccessMethodName::Heap => AccessMethod::Heap,
            AccessMethodName::HeapAlias => AccessMethod::HeapAlias,
            AccessMethodName::Ssdlsm => AccessMethod::Extension,
        },
        update_in_place: arguments.update_in_place.as_deref().map(|value| value == "on"),
        tests: arguments.tests.clone(),
        work,
    })?;
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(count.failed == 0)
}
