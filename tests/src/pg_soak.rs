//! A session that runs very many statements, while the memory and the open files of every process that takes part are watched.
//!
//! After a warm-up nothing may grow: not the private memory of the session's process, of the guardian or of a compactor, not the
//! session's memory contexts, and not the count of open files. Another session makes tables, uses and drops them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use postgres::Client;
use postgres::error::SqlState;
use ssd_pg_regress::account::{self, Account};
use ssd_pg_regress::cluster::Cluster;
use ssd_pg_regress::installation::{INSTALL_HINT, Installation};
use ssd_pg_regress::suite::AccessMethod;

use crate::pg_crash::server::{connect, discard, explain, text};
use crate::pg_crash::{Result, log};
use crate::rng::Rng;

/// Rows of the table that statements change.
const ROWS: u64 = 5000;
/// Statements between two tables that are made and dropped.
const TABLE_EVERY: u64 = 500;
/// Samples of a run; the first [`WARM_UP`] are not compared.
const SAMPLES: u64 = 20;
const WARM_UP: usize = 5;
/// Samples at each end whose smallest stands for that end: what a process has for a moment is no growth.
const ENDS: usize = 3;
/// Bytes of private memory that a process may gain after the warm-up.
const MEMORY_MAX: i64 = 3 << 20;
/// Bytes of memory contexts that the session may gain.
const CONTEXTS_MAX: i64 = 512 << 10;
/// The session that is watched, and the one that makes tables, drops them and runs VACUUM.
const SESSION: &str = "session";
const TABLES: &str = "session of tables";
/// Times as much that the latter may gain. (Measured on heap: 1 kB of private memory for each table.)
const CACHES: i64 = 10;
/// Open files that a process may gain.
const FILES_MAX: i64 = 24;

/// So little memory that files are written and merged all the time, and so few descriptors that they matter.
const SETTINGS: &str = "\
max_files_per_process = 120
max_wal_size = 256MB
checkpoint_timeout = 30s
autovacuum_naptime = 1s
fsync = off
log_line_prefix = '%m [%p:%b] '
";

/// What to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Statements.
    pub statements: u64,
    /// What tables are made with.
    pub access_method: AccessMethod,
    /// Where the cluster goes.
    pub dir: PathBuf,
}

/// What a process has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// Bytes of private memory.
    memory: i64,
    /// Bytes of memory contexts; of the session alone.
    contexts: i64,
    /// Open files.
    files: i64,
}

/// Runs the statements and returns what has grown, in words; nothing is good.
///
/// # Errors
/// When there is no Postgres to run them on, or a statement fails.
pub fn run(order: &Order, tell: &dyn Fn(&str)) -> Result<Vec<String>> {
    let installation = text(Installation::find())?;
    if order.access_method == AccessMethod::Extension && !installation.has_extension() {
        return Err(format!("ssdlsm is not installed\nhint: {INSTALL_HINT}"));
    }
    let account = text(Account::find())?;
    text(account.make_dir(&order.dir))?;
    let sockets = account::short_dir("soak");
    let cluster = text(Cluster::at(&installation, &account, &order.dir.join("soak"), &sockets, 5432))?;
    discard(&cluster, &[cluster.data().to_owned()]);
    text(cluster.create())?;
    let own = match order.access_method {
        AccessMethod::Extension => "ssdlsm.memtable_size = 1MB\nssdlsm.memtables = 3\nssdlsm.block_cache_size = 8MB\n",
        _ => "",
    };
    text(cluster.start(&format!("{SETTINGS}{}{own}", order.access_method.server_settings())))?;
    let outcome = soak(&cluster, order, tell).and_then(|grown| log::check(&cluster.log(), 0).map(|()| grown));
    let stopped = text(cluster.stop("fast"));
    if outcome.is_ok() {
        discard(&cluster, &[cluster.data().to_owned(), sockets]);
    }
    stopped.and(outcome)
}

fn soak(cluster: &Cluster, order: &Order, tell: &dyn Fn(&str)) -> Result<Vec<String>> {
    let mut client = connect(cluster)?;
    // In heap tables, too, the caches of a session that makes tables grow with each.
    let mut other = connect(cluster)?;
    prepare(&mut client, order.access_method).map_err(|e| explain(&e))?;
    let mut rng = Rng::new(1);
    let mut history: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let (mut statements, mut sampled, mut tables) = (0, 0, 0);
    while statements < order.statements {
        statements +=
            turn(&mut client, &mut rng).map_err(|e| format!("after {statements} statements: {}", explain(&e)))?;
        if statements / TABLE_EVERY > tables {
            tables += 1;
            let made = other_table(&mut other, order.access_method.name(), tables);
            statements += made.map_err(|e| format!("table {tables}: {}", explain(&e)))?;
        }
        if statements * SAMPLES / order.statements > sampled {
            sampled += 1;
            let samples = sample(&mut client, &mut other)?;
            let mut line = format!("{statements} statements");
            for (name, sample) in samples {
                let Sample { memory, contexts, files } = sample;
                let _ = write!(line, "; {name} {} kB", memory >> 10);
                if contexts > 0 {
                    let _ = write!(line, " ({} kB in contexts)", contexts >> 10);
                }
                let _ = write!(line, ", {files} files");
                history.entry(name).or_default().push(sample);
            }
            tell(&line);
        }
    }
    Ok(history.iter().flat_map(|(name, samples)| growth(name, samples)).collect())
}

fn prepare(client: &mut Client, am: AccessMethod) -> std::result::Result<(), postgres::Error> {
    if let Some(statement) = am.create_statement() {
        client.batch_execute(&statement)?;
    }
    client.batch_execute(&format!(
        "SET default_table_access_method = {};
         CREATE TABLE soak (id int PRIMARY KEY, grade int NOT NULL, body text NOT NULL, wide text);
         CREATE INDEX soak_grade ON soak (grade);
         INSERT INTO soak SELECT i, i % 100, md5(i::text), NULL FROM generate_series(1, {ROWS}) i",
        am.name()
    ))
}

/// Some statements of every kind; how many.
fn turn(client: &mut Client, rng: &mut Rng) -> std::result::Result<u64, postgres::Error> {
    let mut sql = String::new();
    let mut id = || rng.below(ROWS) + 1;
    for _ in 0..10 {
        let _ = write!(sql, "UPDATE soak SET body = md5(body) WHERE id = {};", id());
        let _ = write!(sql, "SELECT body FROM soak WHERE id = {};", id());
    }
    let _ = write!(sql, "UPDATE soak SET grade = (grade + 1) % 100 WHERE id = {};", id());
    let _ = write!(sql, "DELETE FROM soak WHERE id = {};", ROWS + 1);
    let _ = write!(sql, "INSERT INTO soak VALUES ({}, 1, 'new', repeat('wide ', 1000));", ROWS + 1);
    let from = id();
    let _ = write!(sql, "SELECT count(*) FROM soak WHERE id BETWEEN {from} AND {};", from + 100);
    let _ = write!(sql, "SELECT sum(length(body)) FROM soak WHERE grade = {};", from % 100);
    let _ = write!(sql, "INSERT INTO soak VALUES ({}, 1, '', NULL) ON CONFLICT (id) DO UPDATE SET grade = 3;", id());
    let _ = write!(sql, "SAVEPOINT a; UPDATE soak SET body = 'lost' WHERE id = {}; ROLLBACK TO a;", id());
    let _ = write!(sql, "SELECT 1 FROM soak WHERE id = {} FOR UPDATE;", id());
    sql.push_str("DECLARE c CURSOR FOR SELECT * FROM soak; FETCH 20 FROM c; CLOSE c");
    // One message for all of them: what is watched is the session, not the network.
    let mut count = sql.split(';').count() as u64 + 2;
    client.batch_execute(&format!("BEGIN; {sql}; COMMIT"))?;
    for _ in 0..2 {
        count += 1;
        client.batch_execute(&format!("UPDATE soak SET body = md5(body) WHERE id = {}", id()))?;
    }
    match client.batch_execute(&format!("INSERT INTO soak VALUES ({}, 1, '', NULL)", id())) {
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(count + 1),
        other => other.map(|()| count),
    }
}

/// Makes a table, uses and drops it.
fn other_table(client: &mut Client, am: &str, number: u64) -> std::result::Result<u64, postgres::Error> {
    client.batch_execute(&format!("CREATE TABLE other_{number} (a int PRIMARY KEY, b text) USING {am}"))?;
    client.batch_execute(&format!("INSERT INTO other_{number} SELECT i, i FROM generate_series(1, 500) i"))?;
    client.batch_execute(&format!("TRUNCATE other_{number}"))?;
    client.batch_execute(&format!("INSERT INTO other_{number} SELECT i, i FROM generate_series(1, 50) i"))?;
    client.batch_execute("VACUUM soak")?;
    client.batch_execute(&format!("DROP TABLE other_{number}"))?;
    Ok(6)
}

/// What the session's process and the extension's have now.
fn sample(client: &mut Client, other: &mut Client) -> Result<Vec<(String, Sample)>> {
    let question = "SELECT pg_backend_pid(), (SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts)";
    let mut out = Vec::new();
    for (name, session) in [(SESSION, client), (TABLES, &mut *other)] {
        let row = session.query_one(question, &[]).map_err(|e| explain(&e))?;
        out.push((name.to_owned(), Sample { contexts: row.get(1), ..of_process(row.get(0))? }));
    }
    let question = "SELECT backend_type, pid FROM pg_stat_activity WHERE backend_type LIKE 'ssdlsm%' ORDER BY pid";
    let workers = other.query(question, &[]).map_err(|e| explain(&e))?;
    for (at, row) in workers.iter().enumerate() {
        out.push((format!("{} {at}", row.get::<_, String>(0)), of_process(row.get(1))?));
    }
    Ok(out)
}

fn of_process(pid: i32) -> Result<Sample> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|e| format!("could not read {path}: {e}"))?;
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    let memory: i64 = kilobytes.ok_or_else(|| format!("{path} does not tell RssAnon"))?;
    let path = format!("/proc/{pid}/fd");
    let files = fs::read_dir(&path).map_err(|e| format!("could not list {path}: {e}"))?.count();
    Ok(Sample { memory: memory << 10, contexts: 0, files: files as i64 })
}

/// What a process has gained after the warm-up and may not, in words.
fn growth(name: &str, samples: &[Sample]) -> Vec<String> {
    let warm = samples.get(WARM_UP..).unwrap_or_default();
    let ends = ENDS.min(warm.len() / 2);
    let (first, last) = (&warm[..ends], &warm[warm.len() - ends..]);
    let gain = |of: fn(&Sample) -> i64| {
        let smallest = |part: &[Sample]| part.iter().map(of).min().unwrap_or_default();
        smallest(last) - smallest(first)
    };
    let factor = if name == TABLES { CACHES } else { 1 };
    let limits: [(&str, i64, i64); 3] = [
        ("bytes of private memory", gain(|s| s.memory), MEMORY_MAX * factor),
        ("bytes in memory contexts", gain(|s| s.contexts), CONTEXTS_MAX * factor),
        ("open files", gain(|s| s.files), FILES_MAX),
    ];
    let grown = limits.into_iter().filter(|(_, gain, most)| gain > most);
    grown.map(|(what, gain, most)| format!("{name} gained {gain} {what}, more than {most}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_noise() {
        let steady: Vec<_> = (0..20).map(|i| Sample { memory: (i % 3) << 20, contexts: 5, files: i % 7 }).collect();
        assert!(growth("it", &steady).is_empty());
        let leaks: Vec<_> = (0..20).map(|i| Sample { memory: i << 20, contexts: i << 20, files: i * 10 }).collect();
        assert_eq!(growth("it", &leaks).len(), 3);
        let early: Vec<_> = (0..20).map(|i| Sample { memory: i.min(4) << 20, ..Sample::default() }).collect();
        assert!(growth("it", &early).is_empty());
    }
}
