//! Runs the suites of recovery and of logical replication: scripts in Perl that make their own servers, one script at a time.
//!
//! Each script finds Postgres's programs on its PATH. For another access method than heap an `initdb` of ours stands
//! before the real one: it makes the cluster, then the access method in each of its databases, so that every server the
//! script makes has it as its default (by TEMP_CONFIG, which the scripts append to their postgresql.conf).
//!
//! The script that runs the core suite passes when each test of that suite passed or differs as is listed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::driver::result_of;
use super::judge::{self, Judgement};
use super::report::{Bar, Count};
use super::{AccessMethod, Stage, Suite, own};
use crate::failure::{Failure, Result};
use crate::program;
use crate::source_tree::remove_dir;

/// The script that runs the core suite.
const RUNS_CORE: &str = "027_stream_regress";

/// Scripts that wait for what only heaps do, and why: their tables are heaps, with the extension loaded.
const ON_HEAP: [(&str, &str); 1] = [(
    "043_vacuum_horizon_floor",
    "waits until VACUUM waits for a page that a cursor has pinned; rows of other access methods are in no such page",
)];

/// How a script ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Passed,
    /// Upstream skips it; says why.
    Skipped(String),
    Failed,
}

/// Runs the suite and prints what it showed.
pub(super) fn run(stage: &Stage<'_>, suite: Suite) -> Result<Count> {
    let source = match suite {
        Suite::Subscription => stage.source.suite("subscription"),
        Suite::OwnReplication => own::tests(&stage.order.work, "own_replication", &["t"])?,
        _ => stage.source.suite("recovery"),
    };
    let scripts = chosen(stage, &source)?;
    let title = format!("{} on {}", suite.name(), stage.order.access_method.name());
    let bar = Bar::new(&title, scripts.len());
    let dir = stage.order.work.join("run").join(suite.name());
    remove_dir(&dir)?;
    stage.account.make_dir(&dir)?;
    let setting = Setting::prepare(stage, &dir)?;

    let mut count = Count::default();
    let mut skipped = 0;
    for script in &scripts {
        bar.note(script);
        let log = dir.join(format!("{script}.log"));
        if let Some((_, why)) = ON_HEAP.iter().find(|(name, _)| name == script).filter(|_| setting.config.is_some()) {
            bar.line(&format!("    {script}: on heap tables: {why}"));
        }
        let mut ending = setting.run(stage, &source, script, &log)?;
        if script == RUNS_CORE && ending == Ending::Passed && setting.config.is_some() {
            ending = setting.judge_core(stage, script, &bar)?;
        }
        match ending {
            Ending::Passed => count.passed += 1,
            Ending::Skipped(why) => {
                skipped += 1;
                bar.line(&format!("    {script}: skipped by upstream: {why}"));
            }
            Ending::Failed => {
                count.failed += 1;
                bar.line(&format!(
                    "    {script}: FAILED; see {} and {}",
                    log.display(),
                    setting.logs(script).display()
                ));
            }
        }
        bar.step(script);
    }
    bar.line(&format!(
        "{title}: {} of {} passed, {skipped} skipped by upstream ({:.0} s)",
        count.passed,
        scripts.len(),
        bar.seconds()
    ));
    Ok(count)
}

/// What the scripts find in their environment.
struct Setting {
    dir: PathBuf,
    path: String,
    /// Lines for every postgresql.conf; none on heap.
    config: Option<PathBuf>,
}

/// Lines for servers whose tables are heaps.
const ON_HEAP_CONFIG: &str = "on_heap.conf";
/// What `pg_regress` said to a script.
const CORE_SAID: &str = "pg_regress.out";

impl Setting {
    fn prepare(stage: &Stage<'_>, dir: &Path) -> Result<Self> {
        let bin = stage.installation.bin_dir.display();
        let usual = "/usr/local/bin:/usr/bin:/bin";
        let order = stage.order;
        let Some(statement) = order.access_method.create_statement() else {
            return Ok(Self { dir: dir.to_owned(), path: format!("{bin}:{usual}"), config: None });
        };
        let programs = dir.join("programs");
        fs::create_dir_all(&programs).map_err(|e| Failure::file(&programs, "create", &e))?;
        let drivers = stage.installation.test_drivers()?;
        let pg_regress = format!(
            "#!/bin/sh\n# Its results are judged afterwards.\n{}/regress/pg_regress \"$@\" >\"$TESTDIR/{CORE_SAID}\" 2>&1 || true\n",
            drivers.display()
        );
        for (name, text) in [("initdb", initdb_script(stage, dir, &statement)), ("pg_regress", pg_regress)] {
            let path = programs.join(name);
            fs::write(&path, text).map_err(|e| Failure::file(&path, "write", &e))?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(|e| Failure::file(&path, "make executable", &e))?;
        }

        let mut text = order.access_method.server_settings();
        let on_heap = dir.join(ON_HEAP_CONFIG);
        fs::write(&on_heap, &text).map_err(|e| Failure::file(&on_heap, "write", &e))?;
        text.push_str(&format!("default_table_access_method = '{}'\n", order.access_method.name()));
        if let Some(in_place) = order.update_in_place {
            text.push_str(&format!("ssdlsm.update_in_place = {}\n", if in_place { "on" } else { "off" }));
        }
        let config = dir.join("temp.conf");
        fs::write(&config, text).map_err(|e| Failure::file(&config, "write", &e))?;
        let path = format!("{}:{bin}:{usual}", programs.display());
        Ok(Self { dir: dir.to_owned(), path, config: Some(config) })
    }

    /// Runs one script.
    fn run(&self, stage: &Stage<'_>, source: &Path, script: &str, log: &Path) -> Result<Ending> {
        let drivers = stage.installation.test_drivers()?;
        let mut command = stage.account.command(Path::new("/usr/bin/prove"));
        command.arg("-I").arg(stage.source.suite("perl")).arg("-I").arg(source);
        command.arg("--verbose").arg(format!("t/{script}.pl"));
        command.current_dir(source).env("PATH", &self.path);
        command.env("TESTDIR", self.work(script)).env("TESTDATADIR", self.work(script).join("data"));
        let is_judged = script == RUNS_CORE && self.config.is_some();
        let pg_regress =
            if is_judged { self.dir.join("programs/pg_regress") } else { drivers.join("regress/pg_regress") };
        command.env("PG_REGRESS", pg_regress);
        command.env("REGRESS_SHLIB", stage.source.libraries().join("regress.so"));
        command.env("PGPORT", "65432").env("TZ", "UTC").env("HOME", &self.dir);
        if let Some(config) = &self.config {
            let is_on_heap = ON_HEAP.iter().any(|(name, _)| *name == script);
            let config = if is_on_heap { self.dir.join(ON_HEAP_CONFIG) } else { config.clone() };
            command.env("TEMP_CONFIG", config);
        }
        stage.account.make_dir(&self.work(script))?;
        let mut lines = Vec::new();
        let ok = program::followed(&mut command, log, |line| lines.push(line.to_owned()))?;
        Ok(ending(ok, &lines))
    }

    /// Judges the tests of the core suite that a script has run.
    fn judge_core(&self, stage: &Stage<'_>, script: &str, bar: &Bar) -> Result<Ending> {
        let said = self.work(script).join(CORE_SAID);
        let text = fs::read_to_string(&said).map_err(|e| Failure::file(&said, "read", &e))?;
        let results: Vec<(String, bool)> = text.lines().filter_map(result_of).collect();
        let files = judge::Files { source: stage.source.suite("regress"), output: self.work(script).join("tmp_check") };
        let (mut explained, mut failed) = (0, 0);
        for (name, _) in results.iter().filter(|(_, passed)| !passed) {
            match judge::test(stage, Suite::Core, name, &files) {
                Judgement::Passed | Judgement::Explained { .. } => explained += 1,
                Judgement::Failed(why) => {
                    failed += 1;
                    bar.line(&format!("    {script}: {name}: FAILED: {}", why.join("; ")));
                }
            }
        }
        let passed = results.len() - failed;
        bar.line(&format!(
            "    {script}: core suite: {passed} of {} passed, {explained} of them with listed differences",
            results.len()
        ));
        Ok(if failed == 0 && !results.is_empty() { Ending::Passed } else { Ending::Failed })
    }

    /// Where a script works.
    fn work(&self, script: &str) -> PathBuf {
        // Sockets of some scripts are below: the number alone keeps their paths short.
        self.dir.join(script.split('_').next().unwrap_or(script))
    }

    fn logs(&self, script: &str) -> PathBuf {
        self.work(script).join("tmp_check/log")
    }
}

/// An initdb that makes the access method, too. A cluster that was made with the same options before is copied.
fn initdb_script(stage: &Stage<'_>, dir: &Path, statement: &str) -> String {
    let bin = stage.installation.bin_dir.display();
    let preload =
        if stage.order.access_method == AccessMethod::Extension { "-c shared_preload_libraries=ssdlsm " } else { "" };
    format!(
        "#!/bin/sh\n\
         # Makes a cluster whose databases have the access method that is tested.\n\
         set -e\n\
         options= before= data=\n\
         for argument; do\n\
         \tcase \"$before\" in -D|--pgdata) data=$argument;; *) options=\"$options $argument\";; esac\n\
         \tbefore=$argument\n\
         done\n\
         made={dir}/cluster-$(echo \"$options\" | cksum | tr -d ' ')\n\
         if [ ! -d \"$made\" ]; then\n\
         \t{bin}/initdb \"$@\"\n\
         \tfor database in template0 template1 postgres; do\n\
         \t\techo \"{statement}\" | {bin}/postgres --single -j -F -D \"$data\" {preload}-c exit_on_error=true $database >/dev/null\n\
         \tdone\n\
         \tcp -a \"$data\" \"$made.part\"\n\
         \tmv \"$made.part\" \"$made\"\n\
         else\n\
         \tmkdir -p \"$data\"\n\
         \tcp -a \"$made/.\" \"$data/\"\n\
         fi\n",
        dir = dir.display()
    )
}

/// The scripts to run, by name without `.pl`.
fn chosen(stage: &Stage<'_>, source: &Path) -> Result<Vec<String>> {
    let dir = source.join("t");
    let mut all = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| Failure::file(&dir, "list", &e))? {
        let path = entry.map_err(|e| Failure::file(&dir, "list", &e))?.path();
        if path.extension().is_some_and(|e| e == "pl") {
            all.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    all.sort();
    let named = &stage.order.tests;
    if named.is_empty() {
        return Ok(all);
    }
    let is_meant = |script: &&String, name: &String| *script == name || script.starts_with(&format!("{name}_"));
    let mut chosen = Vec::new();
    for name in named {
        let Some(script) = all.iter().find(|script| is_meant(script, name)) else {
            return Err(Failure::new(format!("there is no script `{name}` in the suite"))
                .hint(format!("its scripts (the number is enough): {}", all.join(" "))));
        };
        chosen.push(script.clone());
    }
    Ok(chosen)
}

/// Reads the end of what `prove` printed.
fn ending(ok: bool, lines: &[String]) -> Ending {
    let reason = lines.iter().find_map(|line| line.split_once("skipped: ").map(|(_, why)| why.trim().to_owned()));
    match reason {
        Some(why) if ok && lines.iter().any(|line| line.trim() == "Result: NOTESTS") => Ending::Skipped(why),
        _ if ok && lines.iter().any(|line| line.trim() == "Result: PASS") => Ending::Passed,
        _ => Ending::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn endings_are_read() {
        assert_eq!(ending(true, &lines("t/001.pl ..\nok 1\nok\nResult: PASS")), Ending::Passed);
        let skipped = "t/031.pl .. skipped: disabled until fixed\nFiles=1, Tests=0\nResult: NOTESTS";
        assert_eq!(ending(true, &lines(skipped)), Ending::Skipped("disabled until fixed".to_owned()));
        assert_eq!(ending(false, &lines("not ok 1\nResult: FAIL")), Ending::Failed);
        assert_eq!(ending(true, &lines("")), Ending::Failed);
    }
}
