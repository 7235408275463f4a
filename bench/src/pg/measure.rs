//! Runs one load and measures it: throughput, latency, log, device, size.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hdrhistogram::Histogram;
use ssd_pg_regress::cluster::Cluster;
use ssd_pg_regress::program;

use super::load::{self, Load, Size, Table, VALUE, Work};
use crate::Result;
use crate::spec::Measured;

/// Bytes of a sector in the kernel's counts.
const SECTOR: u64 = 512;

/// Runs `load` in `database`.
///
/// # Errors
/// When a statement fails, or pgbench does not say what it did.
pub fn load(cluster: &Cluster, database: &str, load: &Load, size: Size, scratch: &Path) -> Result<Measured> {
    let rows = size.rows(load.memory);
    load.table.prepare(cluster, database, load.work, (size, load.memory))?;
    if load.work == Work::Copy {
        write_rows(cluster, database, rows)?;
    }
    cluster.sql(database, "CHECKPOINT")?;
    let before = (position(cluster)?, written(cluster.data()));
    let mut measured = match load.work {
        Work::Copy => {
            let path = rows_file(cluster);
            timed(cluster, database, &format!("COPY filled FROM '{}'", path.display()), rows)?
        }
        Work::Scan => {
            let scans = pgbench(cluster, database, load, size, scratch)?;
            Measured { ops: scans.ops * rows, ..scans }
        }
        Work::Fill => {
            let start = Instant::now();
            load::fill(cluster, database, size)?;
            Measured { ops: rows, seconds: start.elapsed().as_secs_f64(), ..Measured::default() }
        }
        Work::Script(_) | Work::TpcB => pgbench(cluster, database, load, size, scratch)?,
    };
    let after = (position(cluster)?, written(cluster.data()));
    measured.wal_bytes = Some(after.0.saturating_sub(before.0));
    if let (Some(before), Some(after)) = (before.1, after.1) {
        measured.device_written = after.saturating_sub(before);
    }
    measured.space_bytes = space(cluster, database, load.table)?;
    if load.work == Work::Copy {
        let count = cluster.sql(database, "SELECT count(*) FROM filled")?;
        if count != rows.to_string() {
            return Err(format!("{count} rows of {rows} are in the table").into());
        }
        cluster.sql(database, "VACUUM ANALYZE filled")?;
        fs::remove_file(rows_file(cluster))?;
    }
    Ok(measured)
}

/// Bytes that the server has logged since it was made.
fn position(cluster: &Cluster) -> Result<u64> {
    Ok(cluster.sql("postgres", "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")?.parse()?)
}

/// Bytes that all programs have written to the device under `path`; `None` where the kernel does not tell.
fn written(path: &Path) -> Option<u64> {
    let device = fs::metadata(path).ok()?.dev();
    // As the kernel's headers put it: twelve bits of major number above eight of minor, the rest above both.
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let sectors = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    Some(sectors.split_whitespace().nth(6)?.parse::<u64>().ok()? * SECTOR)
}

/// Bytes of tables and indexes.
fn space(cluster: &Cluster, database: &str, table: Table) -> Result<u64> {
    // What is in memory alone takes its place, too.
    cluster.sql(database, "CHECKPOINT")?;
    let is_true = |sql: &str| Ok::<_, ssd_pg_regress::failure::Failure>(cluster.sql(database, sql)? == "t");
    let is_engine = is_true("SELECT current_setting('default_table_access_method') = 'ssdlsm'")?;
    let has_size = is_true("SELECT to_regproc('ssdlsm_table_size') IS NOT NULL")?;
    // What an engine keeps in files of its own, Postgres does not see. Where the engine does not tell the size of a table,
    // all its files count, those of other tables, too: too much rather than too little.
    let (size, mut sum) = match (is_engine, has_size) {
        (false, _) => ("pg_total_relation_size", 0),
        (true, true) => ("ssdlsm_table_size", 0),
        (true, false) => ("pg_indexes_size", files(&cluster.data().join("ssdlsm"))?),
    };
    for name in table.names() {
        let indexes = if has_size && is_engine { format!(" + pg_indexes_size('{name}')") } else { String::new() };
        sum += cluster.sql(database, &format!("SELECT {size}('{name}'::regclass){indexes}"))?.parse::<u64>()?;
    }
    Ok(sum)
}

/// Bytes of all files in a directory and below. Files may go while it is read.
fn files(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sum += files(&entry.path())?;
        } else {
            sum += entry.metadata().map_or(0, |meta| meta.blocks() * SECTOR);
        }
    }
    Ok(sum)
}

/// The file that rows are copied from.
fn rows_file(cluster: &Cluster) -> PathBuf {
    cluster.data().join("rows.copy")
}

fn write_rows(cluster: &Cluster, database: &str, rows: u64) -> Result<()> {
    let path = rows_file(cluster);
    let sql = format!("COPY (SELECT i, 0, {VALUE} FROM generate_series(1, {rows}) i) TO '{}'", path.display());
    cluster.sql(database, &sql)?;
    Ok(())
}

/// One statement that handles `rows` rows.
fn timed(cluster: &Cluster, database: &str, sql: &str, rows: u64) -> Result<Measured> {
    let start = Instant::now();
    cluster.sql(database, sql)?;
    Ok(Measured { ops: rows, seconds: start.elapsed().as_secs_f64(), ..Measured::default() })
}

/// Transactions of pgbench for some time, with the latency of each.
fn pgbench(cluster: &Cluster, database: &str, load: &Load, size: Size, scratch: &Path) -> Result<Measured> {
    let seconds = size.seconds() * load.stretch;
    let prefix = scratch.join("latency");
    // Of a run that failed.
    for path in latency_files(scratch)? {
        fs::remove_file(path)?;
    }
    let mut command = cluster.client("pgbench");
    command.args(["-n", "-M", "prepared", "--log", "-c", &load.clients.to_string(), "-T", &seconds.to_string()]);
    command.arg(format!("--log-prefix={}", prefix.display()));
    command.args(["-D", &format!("rows={}", size.rows(load.memory))]);
    let script = match load.work {
        Work::Script(script) => Some(script),
        Work::Scan => Some(load::SCAN),
        _ => None,
    };
    if let Some(script) = script {
        let path = scratch.join("script.sql");
        fs::write(&path, script)?;
        command.arg("-f").arg(path);
    }
    let said = program::checked(command.arg(database), "run pgbench")?;
    let (ops, failed) = transactions(&said).ok_or_else(|| format!("pgbench does not say what it did:\n{said}"))?;
    if failed > 0 || ops == 0 {
        return Err(format!("{failed} transactions failed, {ops} did not").into());
    }
    let mut latency = Histogram::<u64>::new(3)?;
    for path in latency_files(scratch)? {
        for line in BufReader::new(fs::File::open(&path)?).lines() {
            // client, number, microseconds, and more
            if let Some(us) = line?.split(' ').nth(2).and_then(|us| us.parse().ok()) {
                latency.record(us)?;
            }
        }
        fs::remove_file(path)?;
    }
    let at = |quantile| latency.value_at_quantile(quantile) as f64;
    Ok(Measured {
        ops,
        seconds: seconds as f64,
        p50_us: at(0.5),
        p95_us: at(0.95),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: latency.max() as f64,
        ..Measured::default()
    })
}

/// The files in which pgbench wrote the time of each transaction: one for each of its threads.
fn latency_files(scratch: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(scratch)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("latency")) {
            found.push(path);
        }
    }
    Ok(found)
}

/// How many transactions pgbench did, and how many failed.
fn transactions(said: &str) -> Option<(u64, u64)> {
    let number = |label: &str| {
        let rest = said.lines().find_map(|line| line.strip_prefix(label))?;
        rest.split([' ', '/']).find_map(|word| word.parse().ok())
    };
    Some((number("number of transactions actually processed:")?, number("number of failed transactions:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_did_is_read() {
        let said = "scaling factor: 1\nnumber of transactions actually processed: 1234\n\
            number of failed transactions: 2 (0.162%)\nlatency average = 0.1 ms\n";
        assert_eq!(transactions(said), Some((1234, 2)));
        assert_eq!(transactions("pgbench: error"), None);
    }
}
