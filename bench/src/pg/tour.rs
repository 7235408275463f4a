//! The tour of the demo: the same tables and the same work with two access methods, in a cluster that stays.

use std::path::{Path, PathBuf};

use ssd_pg_regress::account::Account;
use ssd_pg_regress::cluster::{self, Cluster};
use ssd_pg_regress::installation::Installation;
use ssd_pg_regress::suite::AccessMethod;

use super::load::{Load, Memory, Size, Table, Work, tour};
use super::{PEER, make_database, measure};
use crate::Result;
use crate::parent::{Results, Run};

/// What to show.
#[derive(Clone, Debug)]
pub struct Tour {
    /// The access method that is shown beside heap.
    pub subject: AccessMethod,
    /// A cluster that runs.
    pub data: PathBuf,
    /// Hundreds of thousands of accounts.
    pub scale: u64,
    /// Use the tables of an earlier tour.
    pub keep: bool,
    /// A directory that the server's account can write to; made here.
    pub scratch: PathBuf,
}

/// What the one who watches is told.
#[derive(Clone, Debug)]
pub enum Step<'s> {
    /// This begins.
    Begin(&'s str),
    /// That is done; with the line that says how it went, where one is finished.
    Done(Option<&'s str>),
}

/// The database with the tables of an access method.
#[must_use]
pub fn database(method: AccessMethod) -> String {
    format!("demo_{}", method.name())
}

impl Tour {
    /// The work: without the load when its tables are kept.
    #[must_use]
    pub fn loads(&self) -> Vec<Load> {
        tour().into_iter().filter(|load| !self.keep || load.work != Work::Fill).collect()
    }

    /// How many steps [`Tour::run`] tells of.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.loads().len() * 2
    }

    /// Does the work on both, in turns.
    ///
    /// # Errors
    /// When the cluster does not run; what goes wrong in a load is part of the results.
    pub fn run(&self, tell: &dyn Fn(Step<'_>)) -> Result<Results> {
        let account = Account::find()?;
        let cluster = running(&self.data, &account)?;
        account.make_dir(&self.scratch)?;
        let methods = [PEER, self.subject];
        for method in methods {
            self.prepare(&cluster, method)?;
        }
        let mut results = Results::default();
        for load in self.loads() {
            let mut shown = Vec::new();
            for (turn, method) in methods.into_iter().enumerate() {
                let store = method.name();
                tell(Step::Begin(&format!("{} on {store}", load.name())));
                let size = Size::Tour { scale: self.scale };
                match measure::load(&cluster, &database(method), &load, size, &self.scratch) {
                    Ok(measured) => {
                        shown.push(format!("{store} {:.0}/s", measured.ops_per_second()));
                        let (workload, store) = (load.name(), store.to_owned());
                        results.runs.push(Run { workload, store, repetition: 0, measured });
                    }
                    Err(error) => results.failures.push(format!("{} {store}: {error}", load.name())),
                }
                let line = format!("{:<12} {}", load.name(), shown.join(", "));
                tell(Step::Done((turn + 1 == methods.len()).then_some(line.as_str())));
            }
        }
        std::fs::remove_dir_all(&self.scratch)?;
        Ok(results)
    }

    /// The database of an access method: new, or that of an earlier tour.
    fn prepare(&self, cluster: &Cluster, method: AccessMethod) -> Result<()> {
        let name = database(method);
        let question = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
        let is_there = cluster.sql("postgres", &question)? == "1";
        if !self.keep {
            cluster.sql("postgres", &format!("DROP DATABASE IF EXISTS {name}"))?;
            return make_database(cluster, &name, method);
        }
        let table = Table::Accounts.names()[0];
        let has_rows = format!("SELECT count(*) FROM {table}");
        let rows = if is_there { cluster.sql(&name, &has_rows).unwrap_or_default() } else { String::new() };
        let expected = Size::Tour { scale: self.scale }.rows(Memory::Fits);
        if rows == expected.to_string() {
            return Ok(());
        }
        Err(format!("database {name} has no {table} of scale {}\nhint: leave out --keep", self.scale).into())
    }
}

/// The cluster in `data`, which must run.
fn running(data: &Path, account: &Account) -> Result<Cluster> {
    let port =
        cluster::port_of(data).ok_or_else(|| format!("there is no cluster of ours in \"{}\"", data.display()))?;
    let cluster = Cluster::at(&Installation::find()?, account, data, data, port)?;
    if cluster.is_running()? { Ok(cluster) } else { Err("the server does not run\nhint: cargo xtask pg start".into()) }
}
