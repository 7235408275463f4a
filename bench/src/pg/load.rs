//! What is done to tables, and the tables it is done to.

use ssd_pg_regress::cluster::Cluster;
use ssd_pg_regress::failure::Result;

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A result.
    Full,
    /// A look.
    Quick,
    /// What the demo shows.
    Tour {
        /// Hundreds of thousands of accounts.
        scale: u64,
    },
}

/// How much memory the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// All tables fit into the caches of both access methods.
    Fits,
    /// The server is capped, page cache included, at about a third of the filled table with its index.
    Exceeded,
}

impl Memory {
    /// Megabytes that the server may have in all, for its own cache and for the extension's; `None` for no limit in all.
    #[must_use]
    pub const fn megabytes(self, size: Size) -> (Option<u64>, u64, u64) {
        match (self, size) {
            (Self::Fits, _) => (None, 512, 512),
            (Self::Exceeded, Size::Full) => (Some(1024), 192, 64),
            // What the processes themselves take leaves no room for less.
            (Self::Exceeded, _) => (Some(448), 32, 32),
        }
    }
}

impl Size {
    /// Rows of the filled table.
    #[must_use]
    pub const fn rows(self, memory: Memory) -> u64 {
        match (self, memory) {
            (Self::Full, Memory::Fits) => 2_500_000,
            (Self::Full, Memory::Exceeded) => 20_000_000,
            (Self::Quick, Memory::Fits) => 200_000,
            (Self::Quick, Memory::Exceeded) => 6_000_000,
            (Self::Tour { scale }, _) => scale * 100_000,
        }
    }

    /// Hundreds of thousands of accounts for TPC-B.
    #[must_use]
    pub const fn scale(self) -> u64 {
        match self {
            Self::Full => 50,
            Self::Quick => 5,
            Self::Tour { scale } => scale,
        }
    }

    /// How long loads without a count of their own run.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Full => 15,
            Self::Quick => 4,
            Self::Tour { .. } => 10,
        }
    }
}

/// A table, or the tables of TPC-B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `filled`: rows 1 to N by primary key, 100 bytes of text each.
    Filled,
    /// `inserted`: empty at first, with so many indexes, none of them unique.
    Inserted {
        /// Indexes.
        indexes: usize,
    },
    /// What `pgbench -i` makes.
    Accounts,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// All rows are copied into the table, which is made anew.
    Copy,
    /// `pgbench -i` makes the tables anew.
    Fill,
    /// All rows are read, in the order of the table, over and over.
    Scan,
    /// A script of pgbench runs over and over.
    Script(&'static str),
    /// The script that pgbench brings.
    TpcB,
}

/// One line of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    what: &'static str,
    /// On what.
    pub table: Table,
    /// What is done.
    pub work: Work,
    /// Sessions.
    pub clients: usize,
    /// Times the usual time that it runs. What runs longer than usual runs in the first repetition alone.
    pub stretch: u64,
    /// With how much memory.
    pub memory: Memory,
}

impl Load {
    const fn new(what: &'static str, table: Table, work: Work, clients: usize) -> Self {
        Self { what, table, work, clients, stretch: 1, memory: Memory::Fits }
    }

    /// The row's name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}c", self.what, self.clients)
    }
}

const INSERT: &str = "\\set k random(1, 1000000000)\n\\set a :k % 1000\n\\set b :k % 7\n\\set c random(1, 1000000000)\n\
    INSERT INTO inserted VALUES (:k, :a, :b, :c, repeat('x', 80));\n";
pub(super) const SCAN: &str = "SELECT sum(n), max(v) FROM filled;\n";
const SELECT: &str = "\\set id random(1, :rows)\nSELECT v FROM filled WHERE id = :id;\n";
const RANGE: &str = "\\set id random(1, :rows - 1000)\n\
    SELECT sum(n), max(v) FROM filled WHERE id BETWEEN :id AND :id + 999;\n";
const UPDATE: &str = "\\set id random(1, :rows)\nUPDATE filled SET n = n + 1 WHERE id = :id;\n";

/// Times the usual time that the long update runs: ten minutes in a full run, so that autovacuum comes by.
const LONG: u64 = 40;

/// All loads; a quick run leaves the long one out.
#[must_use]
pub fn loads(size: Size, only: &[String]) -> Vec<Load> {
    let inserted = |indexes| Table::Inserted { indexes };
    let mut loads = vec![
        Load::new("copy", Table::Filled, Work::Copy, 1),
        Load::new("select-point", Table::Filled, Work::Script(SELECT), 1),
        Load::new("select-point", Table::Filled, Work::Script(SELECT), 4),
        Load::new("index-range", Table::Filled, Work::Script(RANGE), 1),
        Load::new("seq-scan", Table::Filled, Work::Scan, 1),
        Load::new("update", Table::Filled, Work::Script(UPDATE), 1),
        Load::new("update", Table::Filled, Work::Script(UPDATE), 4),
        Load::new("insert-0-indexes", inserted(0), Work::Script(INSERT), 1),
        Load::new("insert-0-indexes", inserted(0), Work::Script(INSERT), 4),
        Load::new("insert-1-index", inserted(1), Work::Script(INSERT), 4),
        Load::new("insert-4-indexes", inserted(4), Work::Script(INSERT), 4),
        Load::new("tpc-b", Table::Accounts, Work::TpcB, 1),
        Load::new("tpc-b", Table::Accounts, Work::TpcB, 4),
        Load::new("tpc-b", Table::Accounts, Work::TpcB, 16),
    ];
    let cold = |what, script, clients| Load {
        memory: Memory::Exceeded,
        ..Load::new(what, Table::Filled, Work::Script(script), clients)
    };
    loads.push(cold("select-beyond-memory", SELECT, 4));
    loads.push(cold("update-beyond-memory", UPDATE, 4));
    loads.push(cold("update-beyond-memory", UPDATE, 16));
    if size == Size::Full {
        loads.push(Load { stretch: LONG, ..Load::new("update-long", Table::Filled, Work::Script(UPDATE), 4) });
    }
    loads.retain(|load| only.is_empty() || only.iter().any(|text| load.name().contains(text.as_str())));
    loads
}

const SELECT_ACCOUNT: &str = "\\set aid random(1, :rows)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";
const UPDATE_ACCOUNT: &str = "\\set aid random(1, :rows)\n\\set delta random(-5000, 5000)\n\
    UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;\n";
const INSERT_HISTORY: &str = "\\set aid random(1, :rows)\n\
    INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, 1, CURRENT_TIMESTAMP);\n";

/// What the demo does: everything on the tables of pgbench.
#[must_use]
pub fn tour() -> Vec<Load> {
    let script = |what, text| Load::new(what, Table::Accounts, Work::Script(text), 4);
    vec![
        Load::new("load", Table::Accounts, Work::Fill, 1),
        script("select", SELECT_ACCOUNT),
        script("update", UPDATE_ACCOUNT),
        script("insert", INSERT_HISTORY),
        Load::new("tpc-b", Table::Accounts, Work::TpcB, 4),
    ]
}

impl Table {
    /// The tables' names.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Filled => &["filled"],
            Self::Inserted { .. } => &["inserted"],
            Self::Accounts => &["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"],
        }
    }

    /// Drops all tables of a database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn drop_all(cluster: &Cluster, database: &str) -> Result<()> {
        for table in [Self::Filled, Self::Inserted { indexes: 0 }, Self::Accounts] {
            table.drop(cluster, database)?;
        }
        Ok(())
    }

    fn drop(self, cluster: &Cluster, database: &str) -> Result<()> {
        cluster.sql(database, &format!("DROP TABLE IF EXISTS {}", self.names().join(", "))).map(drop)
    }

    /// Makes it as a load wants to find it: anew for inserts and copies, with its rows for the others.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn prepare(self, cluster: &Cluster, database: &str, work: Work, (size, memory): (Size, Memory)) -> Result<()> {
        let is_there = cluster.sql(database, &format!("SELECT to_regclass('{}') IS NOT NULL", self.names()[0]))? == "t";
        match self {
            Self::Inserted { indexes } => {
                self.drop(cluster, database)?;
                cluster.sql(database, "CREATE TABLE inserted (k int, a int, b int, c int, v text)")?;
                for column in ["k", "a", "b", "c"].iter().take(indexes) {
                    cluster.sql(database, &format!("CREATE INDEX ON inserted ({column})"))?;
                }
            }
            Self::Filled if !is_there || work == Work::Copy => {
                self.drop(cluster, database)?;
                cluster.sql(database, "CREATE TABLE filled (id int PRIMARY KEY, n int, v text)")?;
                if work != Work::Copy {
                    let rows = size.rows(memory);
                    let text = format!("INSERT INTO filled SELECT i, 0, {VALUE} FROM generate_series(1, {rows}) i");
                    cluster.sql(database, &text)?;
                    cluster.sql(database, "VACUUM ANALYZE filled")?;
                }
            }
            Self::Accounts if work == Work::Fill => self.drop(cluster, database)?,
            Self::Accounts if !is_there => fill(cluster, database, size)?,
            Self::Filled | Self::Accounts => {}
        }
        Ok(())
    }
}

/// Makes the tables of pgbench and fills them.
///
/// # Errors
/// When pgbench fails.
pub(crate) fn fill(cluster: &Cluster, database: &str, size: Size) -> Result<()> {
    let mut command = cluster.client("pgbench");
    command.args(["-i", "-q", "-s", &size.scale().to_string(), database]);
    ssd_pg_regress::program::checked(&mut command, "make the tables of TPC-B").map(drop)
}

/// A hundred bytes that compress no better than text does.
pub(crate) const VALUE: &str = "left(md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) || 'abcd', 100)";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_can_be_chosen() {
        for size in [Size::Full, Size::Quick] {
            let names: BTreeSet<_> = loads(size, &[]).iter().map(Load::name).collect();
            assert_eq!(names.len(), loads(size, &[]).len());
        }
        assert_eq!(loads(Size::Quick, &["tpc-b".to_owned()]).len(), 3);
        assert!(loads(Size::Quick, &["nothing".to_owned()]).is_empty());
        assert_eq!(tour()[0].work, Work::Fill, "the others need the tables");
    }
}
