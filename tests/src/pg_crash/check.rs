//! Checks a server after a blow: what was acknowledged is there, what was not is there wholly or not at all, and nothing
//! else is.

use postgres::Client;

use super::bank::{self, ACCOUNTS, FIRST_BALANCE, Item, WORKERS};
use super::server::explain;
use super::session::{Doubt, prepared_name};
use super::{Result, index};
use crate::rng::Rng;

/// The numbers that the last transaction of a worker may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What was acknowledged.
    pub low: u64,
    /// What was asked for.
    pub high: u64,
    /// What is not known about the one after `low`.
    pub doubt: Doubt,
    /// Whether the doubt is about transaction `low + 1`, as in the server itself; in a copy it may be about any.
    pub exact: bool,
}

impl Bounds {
    /// After a worker ended so.
    #[must_use]
    pub fn after(acknowledged: u64, doubt: Doubt) -> Self {
        Self { low: acknowledged, high: acknowledged + 1, doubt, exact: true }
    }

    /// Of a copy made while the worker went from `low` to `high`.
    #[must_use]
    pub fn between(low: u64, high: u64) -> Self {
        Self { low, high, doubt: Doubt::Commit, exact: false }
    }
}

/// Checks everything; returns the last number of each worker.
///
/// # Errors
/// What is wrong, in words.
pub fn everything(client: &mut Client, seed: u64, bounds: &[Bounds], rng: &mut Rng) -> Result<Vec<u64>> {
    let mut last = Vec::new();
    for (worker, bounds) in (0..WORKERS).zip(bounds) {
        let bounds = settle_prepared(client, worker, *bounds, rng)?;
        last.push(ledger(client, worker, bounds)?);
    }
    let left = query(client, "SELECT gid FROM pg_prepared_xacts", &[])?;
    if let Some(row) = left.first() {
        return Err(format!("a prepared transaction that nobody has prepared: {}", row.get::<_, String>(0)));
    }
    for (worker, last) in (0..WORKERS).zip(&last) {
        items(client, seed, worker, *last)?;
    }
    entries(client, seed)?;
    accounts(client)?;
    index::check(client)?;
    Ok(last)
}

/// Ends what is left prepared of a worker, one way or the other; what the outcome can be then.
fn settle_prepared(client: &mut Client, worker: u64, bounds: Bounds, rng: &mut Rng) -> Result<Bounds> {
    let pattern = prepared_name(worker, 0).trim_end_matches('0').to_owned();
    let rows = query(client, "SELECT gid FROM pg_prepared_xacts WHERE starts_with(gid, $1)", &[&pattern])?;
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if !bounds.exact {
        for name in &names {
            batch(client, &format!("ROLLBACK PREPARED '{name}'"))?;
        }
        return Ok(bounds);
    }
    let committed = Bounds { low: bounds.high, ..bounds };
    let not_committed = Bounds { high: bounds.low, ..bounds };
    let Some(name) = names.first() else {
        return Ok(match bounds.doubt {
            Doubt::None | Doubt::Prepare => not_committed,
            Doubt::Commit => bounds,
            // It was prepared and is so no more: it must be committed.
            Doubt::CommitPrepared => committed,
        });
    };
    let may_be = matches!(bounds.doubt, Doubt::Prepare | Doubt::CommitPrepared);
    if names.len() > 1 || *name != prepared_name(worker, bounds.high) || !may_be {
        return Err(format!("worker {worker} left prepared: {names:?}, with {bounds:?}"));
    }
    let commit = rng.one_in(2);
    batch(client, &format!("{} PREPARED '{name}'", if commit { "COMMIT" } else { "ROLLBACK" }))?;
    Ok(if commit { committed } else { not_committed })
}

/// The last number of a worker: within bounds, with all before it.
fn ledger(client: &mut Client, worker: u64, bounds: Bounds) -> Result<u64> {
    let question = "SELECT count(*), coalesce(max(number), 0), count(DISTINCT number) FROM ledger WHERE worker = $1";
    let rows = query(client, question, &[&(worker as i32)])?;
    let row = rows.first().ok_or("no answer")?;
    let (count, last, different): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if count != last || different != last {
        return Err(format!("worker {worker}: the ledger has {count} entries ({different} numbers) up to {last}"));
    }
    let last = u64::try_from(last).map_err(|e| e.to_string())?;
    if last < bounds.low {
        return Err(format!("worker {worker}: {} is acknowledged and lost, the last is {last}", bounds.low));
    }
    if last > bounds.high {
        return Err(format!("worker {worker}: {last} is there and nobody committed it ({bounds:?})"));
    }
    Ok(last)
}

/// The items of a worker.
fn items(client: &mut Client, seed: u64, worker: u64, last: u64) -> Result<()> {
    let question = "SELECT number, part, grade, body FROM items WHERE worker = $1 ORDER BY number, part";
    let rows = query(client, question, &[&(worker as i32)])?;
    let found = rows.iter().map(|row| Item {
        number: row.get::<_, i64>(0) as u64,
        part: row.get::<_, i32>(1) as u64,
        grade: row.get(2),
        body: row.get(3),
    });
    let found: Vec<Item> = found.collect();
    let expected = bank::items_after(seed, worker, last);
    if found == expected {
        return Ok(());
    }
    let short = |item: Option<&Item>| {
        item.map_or_else(
            || "nothing".to_owned(),
            |i| format!("{}/{} grade {} {:.40}", i.number, i.part, i.grade, i.body),
        )
    };
    let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    Err(format!(
        "worker {worker} after {last}: {} items instead of {}; first difference: {} instead of {}",
        found.len(),
        expected.len(),
        short(found.get(at)),
        short(expected.get(at))
    ))
}

/// The entries of the ledger are those of their transactions.
fn entries(client: &mut Client, seed: u64) -> Result<()> {
    for row in query(client, "SELECT worker, number, source, target, amount FROM ledger", &[])? {
        let (worker, number): (i32, i64) = (row.get(0), row.get(1));
        let found = (i64::from(row.get::<_, i32>(2)), i64::from(row.get::<_, i32>(3)), row.get::<_, i64>(4));
        let t = bank::Transfer::new(seed, worker as u64, number as u64);
        if found != (t.source, t.target, t.amount) {
            return Err(format!("worker {worker}: entry {number} is {found:?} instead of {t:?}"));
        }
    }
    Ok(())
}

/// Every account holds what the ledger says, and so the sum is kept.
fn accounts(client: &mut Client) -> Result<()> {
    let question = "WITH moved AS (
            SELECT id, sum(amount)::bigint AS amount, sum(moves)::int AS moves FROM (
                SELECT source AS id, -amount AS amount, 1 AS moves FROM ledger
                UNION ALL SELECT target, amount, 0 FROM ledger) m GROUP BY id)
        SELECT a.id, a.balance, a.moves, $1::bigint + coalesce(m.amount, 0), coalesce(m.moves, 0)
        FROM accounts a LEFT JOIN moved m USING (id)
        WHERE a.balance <> $1 + coalesce(m.amount, 0) OR a.moves <> coalesce(m.moves, 0) ORDER BY a.id";
    let wrong = query(client, question, &[&FIRST_BALANCE])?;
    if let Some(row) = wrong.first() {
        let found: (i32, i64, i32, i64, i32) = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        return Err(format!(
            "{} accounts differ from the ledger; account {} holds {} after {} moves instead of {} after {}",
            wrong.len(),
            found.0,
            found.1,
            found.2,
            found.3,
            found.4
        ));
    }
    let rows = query(client, "SELECT count(*), sum(balance)::bigint FROM accounts", &[])?;
    let sum = rows.first().map(|row| (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1)));
    let whole = (ACCOUNTS as i64, Some(ACCOUNTS as i64 * FIRST_BALANCE));
    if sum == Some(whole) { Ok(()) } else { Err(format!("accounts and money: {sum:?} instead of {whole:?}")) }
}

fn query(
    client: &mut Client,
    sql: &str,
    values: &[&(dyn postgres::types::ToSql + Sync)],
) -> Result<Vec<postgres::Row>> {
    client.query(sql, values).map_err(|e| format!("`{sql:.60}`: {}", explain(&e)))
}

fn batch(client: &mut Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).map_err(|e| format!("`{sql}`: {}", explain(&e)))
}
