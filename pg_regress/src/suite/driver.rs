//! Runs the core and isolation suites, and our own, with `pg_regress`, on a fresh primary with a standby that follows it.
//!
//! The database is made here rather than by `pg_regress`, as it would make it, plus the access method as the default of
//! that database. (The default of the whole server would not do: databases without the access method could then make no
//! table, and PGOPTIONS cannot name one that does not exist yet.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::judge::{self, Judgement};
use super::report::{Bar, Count};
use super::{AccessMethod, Stage, Suite, own, server_log, standby};
use crate::account;
use crate::cluster::Cluster;
use crate::failure::{Failure, Result};
use crate::program;
use crate::source_tree::remove_dir;

/// Settings of the servers: what `pg_regress` gives its own, without waiting for the disk; a standby that falls behind finds the log.
pub(super) const SETTINGS: &str = "\
fsync = off
wal_keep_size = 64GB
max_prepared_transactions = 2
log_autovacuum_min_duration = 0
log_line_prefix = '%m %b[%p] %q%a '
log_lock_waits = on
log_temp_files = 128kB
hot_standby = on
max_standby_streaming_delay = 600s
";

/// Tests that run at once in the core suite, as upstream has it.
const CONCURRENT_MAX: usize = 20;

/// Makes the tables that other tests of the core suite read.
const CORE_SETUP: &str = "test_setup";

/// How the suites differ.
struct Plan {
    /// The suite in the source, or a copy of our own.
    source: PathBuf,
    driver: &'static str,
    /// Directory of the driver.
    driver_dir: &'static str,
    database: &'static str,
    tests: Tests,
    /// Further settings of the servers.
    settings: String,
}

/// Where the names of a suite's tests are.
enum Tests {
    /// In a schedule.
    Schedule(PathBuf),
    /// In a variable of the suite's Makefile.
    Variable(&'static str),
}

/// The module whose tests show logical decoding.
const DECODING: &str = "test_decoding";

fn plan(stage: &Stage<'_>, suite: Suite) -> Result<Plan> {
    let source = match suite {
        Suite::Own => own::tests(&stage.order.work, "own", &["", "sql", "expected"])?,
        Suite::OwnIsolation => own::tests(&stage.order.work, "own_isolation", &["", "specs", "expected"])?,
        Suite::Decoding | Suite::DecodingIsolation => stage.source.module(DECODING),
        Suite::Isolation => stage.source.suite("isolation"),
        Suite::Core | Suite::Extension | Suite::Tap | Suite::Subscription | Suite::OwnReplication => {
            stage.source.suite("regress")
        }
    };
    let is_isolation = suite.is_isolation();
    let schedule = |name: &str| Tests::Schedule(source.join(name));
    let tests = match suite {
        Suite::Decoding => Tests::Variable("REGRESS"),
        Suite::DecodingIsolation => Tests::Variable("ISOLATION"),
        Suite::Own | Suite::OwnIsolation => schedule("schedule"),
        Suite::Isolation => schedule("isolation_schedule"),
        Suite::Core | Suite::Extension | Suite::Tap | Suite::Subscription | Suite::OwnReplication => {
            schedule("parallel_schedule")
        }
    };
    let settings = match suite {
        Suite::Decoding | Suite::DecodingIsolation => {
            let path = source.join("logical.conf");
            fs::read_to_string(&path).map_err(|e| Failure::file(&path, "read", &e))?
        }
        // So that statements of a second meet the end of a memtable.
        Suite::OwnIsolation if stage.order.access_method == AccessMethod::Extension => {
            "ssdlsm.memtable_size = 1MB\n".to_owned()
        }
        _ => String::new(),
    };
    Ok(Plan {
        driver: if is_isolation { "pg_isolation_regress" } else { "pg_regress" },
        driver_dir: if is_isolation { "isolation" } else { "regress" },
        database: match suite {
            Suite::Own => "own",
            Suite::Decoding => "contrib_regression",
            _ if is_isolation => "isolation_regression",
            _ => "regression",
        },
        source,
        tests,
        settings,
    })
}

/// The servers of a run; they are stopped when it ends, however it ends.
struct Servers {
    primary: Cluster,
    standby: Cluster,
    sockets: PathBuf,
}

impl Servers {
    fn start(stage: &Stage<'_>, dir: &Path, more: &str, bar: &Bar) -> Result<Self> {
        let sockets = account::short_dir("regress");
        let at = |name: &str, port| {
            Cluster::at(&stage.installation, &stage.account, &dir.join(name), &sockets.join(name), port)
        };
        let servers = Self { primary: at("primary", 5432)?, standby: at("standby", 5433)?, sockets: sockets.clone() };
        let settings = format!("{SETTINGS}{}{more}", stage.order.access_method.server_settings());
        bar.note("making a cluster");
        // Servers of a run that was broken off still run.
        servers.end();
        remove_dir(dir)?;
        servers.primary.create()?;
        servers.primary.start(&settings)?;
        bar.note("making its standby");
        servers.standby.create_standby_of(&servers.primary)?;
        servers.standby.start(&settings)?;
        Ok(servers)
    }

    fn stop(&self) -> Result<()> {
        self.standby.stop("fast")?;
        self.primary.stop("fast")
    }
}

impl Servers {
    /// Stops what still runs, at once: nobody asks any more what it did.
    fn end(&self) {
        for server in [&self.standby, &self.primary] {
            if server.is_running().unwrap_or(false) {
                let _ = server.stop("immediate");
            }
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

/// Runs the suite and prints what it showed.
pub(super) fn run(stage: &Stage<'_>, suite: Suite) -> Result<Count> {
    let plan = plan(stage, suite)?;
    let tests = match &plan.tests {
        Tests::Schedule(path) => scheduled(path)?,
        Tests::Variable(name) => variable(&plan.source.join("Makefile"), name)?,
    };
    let mut chosen = chosen(stage, suite, &tests)?;
    if chosen.is_empty() && matches!(plan.tests, Tests::Variable(_)) {
        chosen.clone_from(&tests);
    }
    if suite == Suite::Own && stage.order.access_method != AccessMethod::Extension && chosen.is_empty() {
        chosen = tests.iter().filter(|name| !is_for_extension(&plan.source, name)).cloned().collect();
    }
    let title = format!("{} on {}", suite.name(), stage.order.access_method.name());
    let bar = Bar::new(&title, if chosen.is_empty() { tests.len() } else { chosen.len() });

    let dir = stage.order.work.join("run").join(suite.name());
    let servers = Servers::start(stage, &dir, &plan.settings, &bar)?;
    let source = own::with_named_places(stage, suite, plan.source, &dir, &bar)?;
    create_database(stage, &servers.primary, plan.database)?;
    let output = dir.join("output");
    stage.account.make_dir(&output)?;

    let mut results: Vec<(String, bool)> = Vec::new();
    let mut command =
        stage.account.command(&stage.installation.test_drivers()?.join(plan.driver_dir).join(plan.driver));
    command.arg(format!("--bindir={}", stage.installation.bin_dir.display()));
    command.arg(format!("--inputdir={}", source.display()));
    command.arg(format!("--outputdir={}", output.display()));
    command.arg(format!("--dlpath={}", stage.source.libraries().display()));
    command.arg(format!("--host={}", servers.primary.sockets().display()));
    command.arg(format!("--port={}", servers.primary.port()));
    command.arg(format!("--dbname={}", plan.database));
    command.arg(format!("--max-concurrent-tests={CONCURRENT_MAX}"));
    command.args(["--use-existing", "--no-locale", "--encoding=UTF8", "--user=postgres"]);
    if let Tests::Schedule(path) = &plan.tests
        && chosen.is_empty()
    {
        command.arg(format!("--schedule={}", path.display()));
    }
    command.args(&chosen);
    // In the one place where the account may write; tests leave core files and the like where they run.
    command.current_dir("/").env("TZ", "UTC");
    let log = dir.join("pg_regress.log");
    program::followed(&mut command, &log, |line| {
        if let Some((name, passed)) = result_of(line) {
            bar.step(&name);
            results.push((name, passed));
        }
    })?;
    if results.is_empty() {
        let said = fs::read_to_string(&log).unwrap_or_default();
        return Err(Failure::new(format!("{} ran no test\n{}", plan.driver, program::last_lines(&said))));
    }

    let mut troubles = Vec::new();
    bar.note("comparing the standby");
    if let Some(trouble) = standby::compare(stage, &servers.primary, &servers.standby, &dir)? {
        troubles.push(trouble);
    }
    bar.note("stopping the servers");
    servers.stop()?;
    for (name, server) in [("primary", &servers.primary), ("standby", &servers.standby)] {
        troubles
            .extend(server_log::troubles(&server.log())?.into_iter().map(|line| format!("log of the {name}: {line}")));
    }
    let expected: Vec<String> = if chosen.is_empty() { tests } else { chosen };
    let missing = expected.iter().filter(|name| !results.iter().any(|(n, _)| n == *name));
    troubles.extend(missing.map(|name| format!("{name} did not run")));
    Ok(show(stage, suite, &bar, &results, &judge::Files { source, output }, &troubles))
}

/// Prints what did not simply pass and the summary.
fn show(
    stage: &Stage<'_>,
    suite: Suite,
    bar: &Bar,
    results: &[(String, bool)],
    files: &judge::Files,
    troubles: &[String],
) -> Count {
    let mut count = Count::default();
    let mut explained = 0;
    for (name, passed) in results {
        let judgement = if *passed { Judgement::Passed } else { judge::test(stage, suite, name, files) };
        match judgement {
            Judgement::Passed => count.passed += 1,
            Judgement::Explained { kinds, reason } => {
                count.passed += 1;
                explained += 1;
                bar.line(&format!("    {name}: passed with a difference ({}): {reason}", kinds.join(", ")));
            }
            Judgement::Failed(why) => {
                count.failed += 1;
                bar.line(&format!("    {name}: FAILED"));
                why.iter().for_each(|line| bar.line(&format!("        {line}")));
            }
        }
    }
    troubles.iter().for_each(|trouble| bar.line(&format!("    FAILED: {trouble}")));
    let explained =
        if explained == 0 { String::new() } else { format!(", {explained} of them with listed differences") };
    let in_place = match stage.order.update_in_place {
        Some(false) => " with update_in_place off",
        Some(true) => " with update_in_place on",
        None => "",
    };
    bar.line(&format!(
        "{} on {}{in_place}: {} of {} passed{explained} ({:.0} s)",
        suite.name(),
        stage.order.access_method.name(),
        count.passed,
        results.len(),
        bar.seconds()
    ));
    if troubles.is_empty() {
        bar.line("    the standby equals the primary; nothing is wrong in the logs of both");
    }
    bar.line(&format!("    outputs and logs: {}", files.output.display()));
    count.failed += troubles.len() as u64;
    count
}

/// The tests to name to the driver; none for the whole schedule.
fn chosen(stage: &Stage<'_>, suite: Suite, tests: &[String]) -> Result<Vec<String>> {
    let named = &stage.order.tests;
    if let Some(unknown) = named.iter().find(|name| !tests.contains(name)) {
        return Err(Failure::new(format!("there is no test `{unknown}` in the {} suite", suite.name()))
            .hint(format!("its tests: {}", tests.join(" "))));
    }
    let needs_setup = suite == Suite::Core && !named.is_empty() && !named.iter().any(|name| name == CORE_SETUP);
    let mut chosen: Vec<String> = needs_setup.then(|| CORE_SETUP.to_owned()).into_iter().collect();
    chosen.extend(named.iter().cloned());
    Ok(chosen)
}

/// Whether a test of ours is about what only the extension has; its first line says so.
fn is_for_extension(source: &Path, name: &str) -> bool {
    let script = fs::read_to_string(source.join("sql").join(format!("{name}.sql"))).unwrap_or_default();
    script.starts_with("-- For ssdlsm alone")
}

/// The names in a schedule, in its order.
pub(super) fn scheduled(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).map_err(|e| Failure::file(path, "read", &e))?;
    let groups = text.lines().filter_map(|line| line.strip_prefix("test:"));
    Ok(groups.flat_map(str::split_whitespace).map(str::to_owned).collect())
}

/// The words of a variable in a Makefile.
fn variable(path: &Path, name: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).map_err(|e| Failure::file(path, "read", &e))?;
    let joined = text.replace("\\\n", " ");
    let assigned = joined.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
    let words: Vec<String> = assigned.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    if words.is_empty() {
        return Err(Failure::new(format!("\"{}\" sets no {name}", path.display())));
    }
    Ok(words)
}

/// Makes the database of a suite, as `pg_regress` would, with the access method as its default.
fn create_database(stage: &Stage<'_>, primary: &Cluster, name: &str) -> Result<()> {
    primary.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"))?;
    let mut settings: BTreeSet<(&str, &str)> = BTreeSet::from([
        ("lc_messages", "C"),
        ("lc_monetary", "C"),
        ("lc_numeric", "C"),
        ("lc_time", "C"),
        ("bytea_output", "hex"),
        ("timezone_abbreviations", "Default"),
    ]);
    if let Some(statement) = stage.order.access_method.create_statement() {
        primary.sql(name, &statement)?;
    }
    if stage.order.access_method != AccessMethod::Heap {
        settings.insert(("default_table_access_method", stage.order.access_method.name()));
    }
    if let Some(in_place) = stage.order.update_in_place {
        settings.insert(("ssdlsm.update_in_place", if in_place { "on" } else { "off" }));
    }
    for (setting, value) in settings {
        primary.sql(name, &format!("ALTER DATABASE {name} SET {setting} TO '{value}'"))?;
    }
    Ok(())
}

/// The test that a line of `pg_regress` tells the result of, and whether it passed.
pub(super) fn result_of(line: &str) -> Option<(String, bool)> {
    let (name, verdict) = line.split_once(" ... ")?;
    let name = name.trim().trim_start_matches("test ").trim();
    if name.is_empty() || name.contains(' ') {
        return None;
    }
    let verdict = verdict.trim_start();
    let passed = verdict == "ok" || verdict.starts_with("ok ");
    let failed = verdict.to_lowercase().starts_with("failed");
    (passed || failed).then(|| (name.to_owned(), passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let passed = |name: &str| Some((name.to_owned(), true));
        assert_eq!(result_of("test tablespace                   ... ok          308 ms"), passed("tablespace"));
        assert_eq!(result_of("     boolean                      ... ok          123 ms"), passed("boolean"));
        let failed = Some(("psql".to_owned(), false));
        assert_eq!(result_of("     psql                         ... FAILED       23 ms"), failed);
        assert_eq!(result_of("test psql ... FAILED (test process exited with exit code 2)   4 ms"), failed);
        assert_eq!(result_of("test psql ... failed (ignored)   4 ms"), failed);
        for other in
            ["parallel group (2 tests):  a b", "============== running ==============", " 1 of 2 tests failed."]
        {
            assert_eq!(result_of(other), None, "{other}");
        }
    }
}
