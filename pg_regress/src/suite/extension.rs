//! Runs the tests of what only the extension has: functions for operators, settings, errors, recovery (`pg_extension/sql`).
//!
//! Three turns, each with servers of its own kind: one that has not loaded the library; one that has; and that one again after
//! a crash. Outputs must be equal, byte for byte. On another access method there is nothing to test.

mod waits;

use std::fs;
use std::path::Path;

use super::driver::{SETTINGS, result_of, scheduled};
use super::judge::{self, Judgement};
use super::report::{Bar, Count};
use super::{AccessMethod, Stage, Suite, own, server_log};
use crate::account;
use crate::cluster::Cluster;
use crate::failure::{Failure, Result};
use crate::program;
use crate::source_tree::remove_dir;

/// Where the tests are.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pg_extension");
/// The database they run in.
const DATABASE: &str = "extension";
/// The test of a server that has not loaded the library.
const UNLOADED: &str = "unloaded";
/// What is left for after a crash, and what looks at it then.
const BEFORE_CRASH: &str = "recovery_setup";
const AFTER_CRASH: &str = "recovery_check";
/// Looks at a session that waits.
const WAITS: &str = "waits";

/// Little memory for the extension, so that there is something to see; nobody who comes by himself and counts, or holds a snapshot; and
/// what hangs fails instead.
const LITTLE: &str =
    "ssdlsm.memtable_size = 1MB\nssdlsm.block_cache_size = 4MB\nautovacuum = off\nstatement_timeout = 2min\n";

/// A server and where the tests of this run are; it is stopped at the end.
struct Turn<'s> {
    stage: &'s Stage<'s>,
    bar: &'s Bar,
    files: judge::Files,
    server: Cluster,
    count: Count,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.server.is_running().unwrap_or(false) {
            let _ = self.server.stop("immediate");
        }
        let _ = fs::remove_dir_all(self.server.sockets());
    }
}

/// Runs the suite and prints what it showed.
pub(super) fn run(stage: &Stage<'_>) -> Result<Count> {
    if stage.order.access_method != AccessMethod::Extension {
        eprintln!("extension: nothing to test on {}", stage.order.access_method.name());
        return Ok(Count::default());
    }
    let dir = stage.order.work.join("run").join(Suite::Extension.name());
    remove_dir(&dir)?;
    let source = own::copy_of(Path::new(TESTS), stage.order.work.join("extension"), &["sql", "expected"])?;
    let tests = scheduled(&source.join("sql/schedule"))?;
    let named = &stage.order.tests;
    let all: Vec<&str> = [UNLOADED]
        .into_iter()
        .chain(tests.iter().map(String::as_str))
        .chain([WAITS, BEFORE_CRASH, AFTER_CRASH])
        .collect();
    if let Some(unknown) = named.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(Failure::new(format!("there is no test `{unknown}` in the extension suite"))
            .hint(format!("its tests: {}", all.join(" "))));
    }
    let wanted = |name: &str| named.is_empty() || named.iter().any(|other| other == name);
    let crashes = wanted(BEFORE_CRASH) || wanted(AFTER_CRASH);
    let tests: Vec<&str> = tests.iter().map(String::as_str).filter(|name| wanted(name)).collect();
    let steps = usize::from(wanted(UNLOADED)) + tests.len() + usize::from(wanted(WAITS)) + 2 * usize::from(crashes);
    let bar = Bar::new("extension on ssdlsm", steps);

    let mut count = Count::default();
    if wanted(UNLOADED) {
        let mut turn = Turn::begin(stage, &bar, &source, &dir.join("unloaded"), SETTINGS)?;
        turn.test(&[UNLOADED])?;
        count.add(turn.end()?);
    }
    if !tests.is_empty() || wanted(WAITS) || crashes {
        let settings = format!("{SETTINGS}{LITTLE}{}", AccessMethod::Extension.server_settings());
        let mut turn = Turn::begin(stage, &bar, &source, &dir.join("loaded"), &settings)?;
        turn.server.sql(DATABASE, "CREATE EXTENSION ssdlsm")?;
        turn.test(&tests)?;
        if wanted(WAITS) {
            turn.waits()?;
        }
        if crashes {
            turn.test(&[BEFORE_CRASH])?;
            turn.server.stop("immediate")?;
            turn.server.start(&settings)?;
            turn.test(&[AFTER_CRASH])?;
        }
        count.add(turn.end()?);
    }
    bar.line(&format!(
        "extension on ssdlsm: {} of {} passed ({:.0} s)",
        count.passed,
        count.passed + count.failed,
        bar.seconds()
    ));
    Ok(count)
}

impl<'s> Turn<'s> {
    fn begin(stage: &'s Stage<'s>, bar: &'s Bar, source: &Path, dir: &Path, settings: &str) -> Result<Self> {
        let sockets = account::short_dir("extension");
        let server = Cluster::at(&stage.installation, &stage.account, &dir.join("server"), &sockets, 5432)?;
        let files = judge::Files { source: source.to_owned(), output: dir.join("output") };
        let turn = Self { stage, bar, files, server, count: Count::default() };
        bar.note("making a cluster");
        turn.server.create()?;
        turn.server.start(settings)?;
        stage.account.make_dir(&turn.files.output)?;
        turn.server.sql("postgres", &format!("CREATE DATABASE {DATABASE} TEMPLATE template0"))?;
        Ok(turn)
    }

    /// Runs tests one after the other and notes how each went.
    fn test(&mut self, tests: &[&str]) -> Result<()> {
        for test in tests {
            let drivers = self.stage.installation.test_drivers()?;
            let mut command = self.stage.account.command(&drivers.join("regress/pg_regress"));
            command.arg(format!("--bindir={}", self.stage.installation.bin_dir.display()));
            command.arg(format!("--inputdir={}", self.files.source.display()));
            command.arg(format!("--outputdir={}", self.files.output.display()));
            command.arg(format!("--host={}", self.server.sockets().display()));
            command.arg(format!("--port={}", self.server.port()));
            command.arg(format!("--dbname={DATABASE}"));
            command.args(["--use-existing", "--no-locale", "--encoding=UTF8", "--user=postgres", test]);
            command.current_dir("/").env("TZ", "UTC");
            let mut passed = None;
            let log = self.files.output.join(format!("{test}.log"));
            program::followed(&mut command, &log, |line| {
                if let Some((_, result)) = result_of(line).filter(|(name, _)| name == test) {
                    passed = Some(result);
                }
            })?;
            self.bar.step(test);
            match passed {
                Some(true) => self.count.passed += 1,
                Some(false) => self.failed(test),
                None => {
                    let said = fs::read_to_string(&log).unwrap_or_default();
                    return Err(Failure::new(format!("{test} did not run\n{}", program::last_lines(&said))));
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, test: &str) {
        self.count.failed += 1;
        self.bar.line(&format!("    {test}: FAILED"));
        if let Judgement::Failed(why) = judge::test(self.stage, Suite::Extension, test, &self.files) {
            why.iter().for_each(|line| self.bar.line(&format!("        {line}")));
        }
    }

    /// Looks at a session that waits inside the engine.
    fn waits(&mut self) -> Result<()> {
        self.bar.step(WAITS);
        match waits::test(&self.server)? {
            None => self.count.passed += 1,
            Some(why) => {
                self.count.failed += 1;
                self.bar.line(&format!("    {WAITS}: FAILED\n        {why}"));
            }
        }
        Ok(())
    }

    /// Stops the server and looks into its log.
    fn end(mut self) -> Result<Count> {
        self.bar.note("stopping the server");
        self.server.stop("fast")?;
        for line in server_log::troubles(&self.server.log())? {
            self.count.failed += 1;
            self.bar.line(&format!("    FAILED: log of the server: {line}"));
        }
        Ok(self.count)
    }
}
