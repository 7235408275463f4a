//! Compares every index with its table: by a scan of all of it, by a bitmap, and by a look-up of each row.

use postgres::Client;

use super::Result;
use super::bank::{INDEXES, TABLES};
use super::server::explain;

/// The settings of the planner that this module changes.
const PATHS: [&str; 5] = ["seqscan", "indexscan", "indexonlyscan", "bitmapscan", "sort"];

/// A table's rows in a word: how many, and the sum of a hash of each.
pub type Digest = (i64, String);

/// Lets the planner use only these paths where it can.
fn allow(client: &mut Client, allowed: &[&str]) -> Result<()> {
    let mut statements = String::from("SET max_parallel_workers_per_gather = 0;");
    for path in PATHS {
        statements += &format!("SET enable_{path} = {};", if allowed.contains(&path) { "on" } else { "off" });
    }
    client.batch_execute(&statements).map_err(|e| explain(&e))
}

/// Runs a query over `from` after making sure that its plan says `node`.
fn digest(client: &mut Client, from: &str, node: &str) -> Result<Digest> {
    let query = format!("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {from}");
    let plan = client.query(&format!("EXPLAIN {query}"), &[]).map_err(|e| format!("{from}: {}", explain(&e)))?;
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    if !plan.iter().any(|line| line.contains(node)) {
        return Err(format!("{from}: the plan has no \"{node}\":\n{}", plan.join("\n")));
    }
    let row = client.query_one(&query, &[]).map_err(|e| format!("{from}: {}", explain(&e)))?;
    Ok((row.get(0), row.get(1)))
}

/// What each table holds, read without an index.
///
/// # Errors
/// When a query fails.
pub fn tables(client: &mut Client) -> Result<Vec<Digest>> {
    allow(client, &["seqscan"])?;
    TABLES.iter().map(|table| digest(client, &format!("{table} t"), "Seq Scan")).collect()
}

/// Checks that each index finds exactly the rows of its table.
///
/// # Errors
/// When one does not, or is damaged.
pub fn check(client: &mut Client) -> Result<()> {
    let tables = tables(client)?;
    for (index, table, order) in INDEXES {
        let expected = &tables[TABLES.iter().position(|name| *name == table).unwrap_or_default()];
        let compare = |found: Digest, how: &str| {
            if found == *expected {
                return Ok(());
            }
            Err(format!(
                "{how} of {index} finds {} rows ({}); {table} has {} ({})",
                found.0, found.1, expected.0, expected.1
            ))
        };
        allow(client, &["indexscan"])?;
        let ordered = format!("(SELECT * FROM {table} ORDER BY {order}) t");
        compare(digest(client, &ordered, &format!("using {index}"))?, "a scan")?;
        allow(client, &["bitmapscan"])?;
        let first = order.split(',').next().unwrap_or(order);
        let all = format!("{table} t WHERE {first} > -1000000000");
        compare(digest(client, &all, &format!("Bitmap Index Scan on {index}"))?, "a bitmap")?;
        look_up(client, table, expected.0)?;
    }
    allow(client, &PATHS)?;
    // The structure of the trees; what they point to is checked above.
    let structure = "SELECT bt_index_check(indexrelid) FROM pg_index WHERE indrelid = ANY ($1::text[]::regclass[])";
    client.execute(structure, &[&TABLES.as_slice()]).map_err(|e| format!("amcheck: {}", explain(&e)))?;
    Ok(())
}

/// Looks each row up by its whole key, and expects to find it alone.
fn look_up(client: &mut Client, table: &str, rows: i64) -> Result<()> {
    let key = INDEXES.iter().find(|(index, ..)| index.strip_suffix("_pkey") == Some(table));
    let key = key.map_or("", |(_, _, columns)| columns);
    allow(client, &["indexscan"])?;
    let same: Vec<String> = key.split(',').map(|column| format!("b.{0} = a.{0}", column.trim())).collect();
    let query = format!(
        "SET enable_hashjoin = off; SET enable_mergejoin = off; \
         SELECT count(*) FROM {table} a WHERE 1 <> (SELECT count(*) FROM {table} b WHERE {} AND b = a)",
        same.join(" AND ")
    );
    let messages = client.simple_query(&query).map_err(|e| format!("{table}: {}", explain(&e)))?;
    let lost = messages.iter().find_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    if lost.as_deref() == Some("0") {
        return Ok(());
    }
    Err(format!("{} of {rows} rows of {table} are not found by their key, or found twice", lost.unwrap_or_default()))
}
