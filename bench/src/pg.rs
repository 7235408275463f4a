//! The Postgres benchmark: tables of two access methods in one cluster, in turns.
//!
//! Each access method has a database of its own in a private cluster, with that access method as its default; the log, the
//! cache and the settings are shared. Where memory is capped, each has a cluster of its own with as much memory, since the caches of
//! one would take from the other's. Every load runs on both before the next load, and each repetition begins with the
//! other one. A checkpoint stands before every measurement, so that both pay for the same full pages.

use std::fs;
use std::path::PathBuf;

use ssd_pg_regress::account::{self, Account};
use ssd_pg_regress::cluster::Cluster;
use ssd_pg_regress::installation::Installation;
use ssd_pg_regress::suite::AccessMethod;

use crate::Result;
use crate::cgroup::MemoryCgroup;
use crate::parent::{Results, Run};

pub mod load;
pub mod measure;
pub mod tour;

use load::{Load, Memory, Size, Table};

/// Settings of the server: the defaults, but for caches and a log that suit a benchmark of minutes.
const SETTINGS: &str = "\
max_wal_size = 4GB
checkpoint_timeout = 15min
max_connections = 100
";

/// Who is compared with.
pub const PEER: AccessMethod = AccessMethod::Heap;

/// What to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The access method that is compared with heap.
    pub subject: AccessMethod,
    /// How much of everything.
    pub size: Size,
    /// The loads.
    pub loads: Vec<Load>,
    /// How often everything is repeated.
    pub repetitions: usize,
    /// Where the cluster goes; emptied before and after.
    pub dir: PathBuf,
}

/// A cluster that ends with the benchmark.
struct Server {
    cluster: Cluster,
    /// Those that have a database in it.
    methods: Vec<AccessMethod>,
    /// What caps its memory.
    cgroup: Option<MemoryCgroup>,
    /// Where pgbench writes.
    scratch: PathBuf,
    sockets: PathBuf,
}

impl Server {
    /// Starts a cluster with a database for each of `methods`, and the settings of the last of them.
    fn start(job: &Job, memory: Memory, methods: &[AccessMethod]) -> Result<Self> {
        let (installation, account) = (Installation::find()?, Account::find()?);
        let method = *methods.last().unwrap_or(&PEER);
        if method == AccessMethod::Extension && !installation.has_extension() {
            return Err("ssdlsm is not installed\nhint: cargo xtask pg install".into());
        }
        let (dir, sockets) = (job.dir.join(method.name()), account::short_dir(&format!("bench-{}", method.name())));
        let cluster = Cluster::at(&installation, &account, &dir.join("data"), &sockets, 5432)?;
        if cluster.is_created() && cluster.is_running()? {
            // Left over from a run that was broken off.
            cluster.stop("immediate")?;
        }
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let (max, own_cache, block_cache) = memory.megabytes(job.size);
        let cgroup = max.map(|max| MemoryCgroup::new(method.name(), max << 20)).transpose()?;
        let server = Self { cluster, methods: methods.to_vec(), cgroup, scratch: dir.join("scratch"), sockets };
        account.make_dir(&server.scratch)?;
        server.cluster.create()?;
        let mut settings = format!("{SETTINGS}shared_buffers = {own_cache}MB\n{}", method.server_settings());
        if method == AccessMethod::Extension {
            settings.push_str(&format!("ssdlsm.block_cache_size = {block_cache}MB\n"));
        }
        let start = || Ok(server.cluster.start(&settings)?);
        server.cgroup.as_ref().map_or_else(start, |cgroup| cgroup.within(start))?;
        for &method in methods {
            make_database(&server.cluster, &database(method), method)?;
        }
        fill_log(&server.cluster)?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.cluster.is_running().unwrap_or(false) {
            // Its data is thrown away.
            let _ = self.cluster.stop("immediate");
        }
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

/// Makes a database whose tables are made with `method`.
fn make_database(cluster: &Cluster, name: &str, method: AccessMethod) -> Result<()> {
    cluster.sql("postgres", &format!("CREATE DATABASE {name}"))?;
    if let Some(statement) = method.create_statement() {
        cluster.sql(name, &statement)?;
    }
    let setting = format!("ALTER DATABASE {name} SET default_table_access_method = '{}'", method.name());
    cluster.sql("postgres", &setting)?;
    Ok(())
}

/// Writes about a gigabyte to the log, so that whoever is measured first does not pay for the making of its files: after a checkpoint they
/// are used again.
fn fill_log(cluster: &Cluster) -> Result<()> {
    let rows = "SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 1000000) i";
    for statement in [&format!("CREATE TABLE log_filler USING heap AS {rows}"), "DROP TABLE log_filler", "CHECKPOINT"] {
        cluster.sql("postgres", statement)?;
    }
    Ok(())
}

/// The database of an access method.
fn database(method: AccessMethod) -> String {
    format!("bench_{}", method.name())
}

/// Runs every load on both access methods, in turns: first with memory for all, then with too little.
///
/// # Errors
/// When there is no server to measure; what goes wrong in a load is part of the results.
pub fn run(job: &Job, tell: &dyn Fn(&str)) -> Result<Results> {
    let mut results = Results::default();
    for memory in [Memory::Fits, Memory::Exceeded] {
        let loads: Vec<_> = job.loads.iter().filter(|load| load.memory == memory).collect();
        if !loads.is_empty() {
            let servers = match memory {
                Memory::Fits => vec![Server::start(job, memory, &[PEER, job.subject])?],
                Memory::Exceeded => {
                    vec![Server::start(job, memory, &[PEER])?, Server::start(job, memory, &[job.subject])?]
                }
            };
            run_loads(job, &servers, &loads, &mut results, tell)?;
            drop(servers);
            fs::remove_dir_all(&job.dir)?;
        }
    }
    Ok(results)
}

fn run_loads(job: &Job, servers: &[Server], loads: &[&Load], results: &mut Results, tell: &dyn Fn(&str)) -> Result<()> {
    let server_of = |method| servers.iter().find(|server| server.methods.contains(&method)).ok_or("no server");
    for repetition in 0..job.repetitions {
        let mut methods = [job.subject, PEER];
        methods.rotate_left(repetition % 2);
        for method in methods {
            Table::drop_all(&server_of(method)?.cluster, &database(method))?;
        }
        for load in loads.iter().filter(|load| load.stretch == 1 || repetition == 0) {
            let mut shown = Vec::new();
            for method in methods {
                let (store, server) = (method.name(), server_of(method)?);
                match measure::load(&server.cluster, &database(method), load, job.size, &server.scratch) {
                    Ok(measured) => {
                        shown.push(format!("{store} {:.0}/s", measured.ops_per_second()));
                        results.runs.push(Run { workload: load.name(), store: store.to_owned(), repetition, measured });
                    }
                    Err(error) => results.failures.push(format!("{} {store}: {error}", load.name())),
                }
            }
            tell(&format!("{:<28} {}", load.name(), shown.join(", ")));
        }
    }
    Ok(())
}
