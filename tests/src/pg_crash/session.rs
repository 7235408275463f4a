//! The sessions: workers that move money, a reader that adds it up, and one that does housekeeping. All go on until the
//! connection is lost, or until they are told to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use postgres::error::{Severity, SqlState};
use postgres::{Client, Error};

use super::bank::{self, ACCOUNTS, FIRST_BALANCE, KEPT, Transfer, WORKERS};
use crate::rng::Rng;

/// What sessions share with whom started them.
#[derive(Debug, Default)]
pub struct Shared {
    /// The last number of each worker whose commit the server acknowledged.
    pub acknowledged: [AtomicU64; WORKERS as usize],
    /// Set to end them all.
    pub stop: AtomicBool,
}

/// What a worker does not know about the transaction after its last acknowledged one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing: it was never asked to commit.
    #[default]
    None,
    /// Whether it is committed.
    Commit,
    /// Whether it is prepared. It is not committed.
    Prepare,
    /// Whether it is committed. It was prepared, so it cannot be lost.
    CommitPrepared,
}

/// How a session ended.
#[derive(Debug)]
pub enum Ending {
    /// The connection is gone, or the session was told to stop.
    Gone(Doubt),
    /// The server answered what it must not.
    Fault(String),
}

/// What a failed statement means.
enum Setback {
    /// Another session was in the way: do it again.
    Retry,
    /// The connection is gone.
    Lost,
    /// It must not fail like this.
    Fault(String),
}

impl Setback {
    fn of(error: &Error) -> Self {
        let Some(db) = error.as_db_error() else { return Self::Lost };
        let code = db.code();
        if [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code) {
            return Self::Retry;
        }
        let is_going = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        if is_going.contains(code) {
            return Self::Lost;
        }
        let severity = db.parsed_severity().unwrap_or(Severity::Error);
        Self::Fault(format!("{severity} {}: {}", code.code(), db.message()))
    }
}

/// The name of a prepared transaction.
#[must_use]
pub fn prepared_name(worker: u64, number: u64) -> String {
    format!("bank-{worker}-{number}")
}

/// Runs transactions of `worker` from `next` on.
pub fn work(client: &mut Client, shared: &Shared, seed: u64, worker: u64, mut next: u64, rng: &mut Rng) -> Ending {
    let mut doubt = Doubt::None;
    while !shared.stop.load(Ordering::Relaxed) {
        let transfer = Transfer::new(seed, worker, next);
        match transact(client, &transfer, rng, &mut doubt) {
            Ok(true) => {
                shared.acknowledged[worker as usize].store(next, Ordering::SeqCst);
                next += 1;
            }
            // Rolled back on purpose.
            Ok(false) => {}
            Err(error) => match Setback::of(&error) {
                Setback::Lost => return Ending::Gone(doubt),
                Setback::Fault(what) => return Ending::Fault(format!("worker {worker}, transaction {next}: {what}")),
                Setback::Retry => {
                    if let Err(error) = client.batch_execute("ROLLBACK") {
                        return match Setback::of(&error) {
                            Setback::Lost => Ending::Gone(Doubt::None),
                            _ => Ending::Fault(format!("worker {worker}: ROLLBACK: {error}")),
                        };
                    }
                }
            },
        }
        doubt = Doubt::None;
    }
    Ending::Gone(doubt)
}

/// One transaction; `false` when it was rolled back on purpose.
fn transact(client: &mut Client, t: &Transfer, rng: &mut Rng, doubt: &mut Doubt) -> Result<bool, Error> {
    let (worker, number) = (t.worker as i32, t.number as i64);
    let isolation = if rng.one_in(4) { "REPEATABLE READ" } else { "READ COMMITTED" };
    client.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}"))?;
    if rng.one_in(3) {
        false_start(client, t, rng)?;
    }
    if rng.one_in(5) {
        let strength = rng.pick(&["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"]);
        client.batch_execute(&format!("SELECT balance FROM accounts WHERE id = {} FOR {strength}", t.source))?;
    }
    client.execute(
        "INSERT INTO ledger VALUES ($1, $2, $3, $4, $5)",
        &[&worker, &number, &(t.source as i32), &(t.target as i32), &t.amount],
    )?;
    let in_savepoint = rng.one_in(2);
    if in_savepoint {
        client.batch_execute("SAVEPOINT transfer")?;
    }
    move_money(client, t)?;
    if in_savepoint {
        client.batch_execute("RELEASE transfer")?;
    }
    change_items(client, t)?;
    match rng.below(20) {
        0..2 => {
            client.batch_execute("ROLLBACK")?;
            return Ok(false);
        }
        2..4 => {
            let name = prepared_name(t.worker, t.number);
            *doubt = Doubt::Prepare;
            client.batch_execute(&format!("PREPARE TRANSACTION '{name}'"))?;
            *doubt = Doubt::CommitPrepared;
            client.batch_execute(&format!("COMMIT PREPARED '{name}'"))?;
        }
        _ => {
            *doubt = Doubt::Commit;
            client.batch_execute("COMMIT")?;
        }
    }
    *doubt = Doubt::None;
    Ok(true)
}

/// Changes that are rolled back to a savepoint: of the rows that the transaction changes later, and of others.
fn false_start(client: &mut Client, t: &Transfer, rng: &mut Rng) -> Result<(), Error> {
    let (w, n) = (t.worker, t.number);
    let other = rng.below(ACCOUNTS) + 1;
    client.batch_execute("SAVEPOINT start")?;
    client.batch_execute(&format!("UPDATE accounts SET balance = balance - 7 WHERE id = {other}"))?;
    client.batch_execute("SAVEPOINT inner_start")?;
    client.batch_execute(&format!("INSERT INTO items SELECT {w}, {n}, i, 9, 'never' FROM generate_series(0, 5) i"))?;
    if rng.one_in(2) {
        client.batch_execute("RELEASE inner_start")?;
    }
    client.batch_execute(&format!("UPDATE items SET grade = 8 WHERE worker = {w} AND number = {n} - 2"))?;
    client.batch_execute(&format!("DELETE FROM items WHERE worker = {w} AND number = {n} - 1"))?;
    client.batch_execute("ROLLBACK TO start")
}

/// Moves the money, the account with the smaller number first: so workers seldom wait for each other in a circle.
fn move_money(client: &mut Client, t: &Transfer) -> Result<(), Error> {
    let mut steps = [(t.source, -t.amount), (t.target, t.amount)];
    steps.sort_unstable();
    for (id, amount) in steps {
        if id == t.source {
            // No index knows this column.
            client.batch_execute(&format!("UPDATE accounts SET moves = moves + 1 WHERE id = {id}"))?;
        }
        client.execute("UPDATE accounts SET balance = balance + $1 WHERE id = $2", &[&amount, &(id as i32)])?;
    }
    Ok(())
}

/// Inserts this transaction's items, and changes those of older ones as the table in [`bank`] says.
fn change_items(client: &mut Client, t: &Transfer) -> Result<(), Error> {
    let (worker, number) = (t.worker as i32, t.number as i64);
    let parts: Vec<i32> = (0..t.parts as i32).collect();
    let texts = |written| (0..).map(move |part| bank::body(t.worker, written, part));
    let bodies: Vec<String> = texts(t.number).take(parts.len()).collect();
    client.execute(
        "INSERT INTO items SELECT $1::int, $2::bigint, part, 0, body FROM unnest($3::int[], $4::text[]) AS new (part, body)",
        &[&worker, &number, &parts, &bodies],
    )?;
    let before = client.query("SELECT part FROM items WHERE worker = $1 AND number = $2", &[&worker, &(number - 1)])?;
    let old_parts: Vec<i32> = before.iter().map(|row| row.get(0)).collect();
    let bodies: Vec<String> =
        old_parts.iter().map(|&part| bank::body(t.worker, t.number, u64::try_from(part).unwrap_or_default())).collect();
    client.execute(
        "UPDATE items SET body = new.body FROM unnest($3::int[], $4::text[]) AS new (part, body)
         WHERE items.worker = $1 AND items.number = $2 AND items.part = new.part",
        &[&worker, &(number - 1), &old_parts, &bodies],
    )?;
    let raise = "UPDATE items SET grade = grade + 1 WHERE worker = $1 AND number = $2";
    client.execute(raise, &[&worker, &(number - 2)])?;
    let delete = "DELETE FROM items WHERE worker = $1 AND number = $2";
    client.execute(delete, &[&worker, &(number - KEPT as i64)])?;
    Ok(())
}

/// Adds up all money, over and over: no moment may show another sum.
pub fn read(client: &mut Client, shared: &Shared) -> Ending {
    let whole = (ACCOUNTS as i64, ACCOUNTS as i64 * FIRST_BALANCE);
    while !shared.stop.load(Ordering::Relaxed) {
        match client.query_one("SELECT count(*), sum(balance)::bigint FROM accounts", &[]) {
            Ok(row) => {
                let found: (i64, Option<i64>) = (row.get(0), row.get(1));
                if found != (whole.0, Some(whole.1)) {
                    return Ending::Fault(format!("a reader saw {found:?} accounts and money instead of {whole:?}"));
                }
            }
            Err(error) => match Setback::of(&error) {
                Setback::Lost => return Ending::Gone(Doubt::None),
                Setback::Retry => {}
                Setback::Fault(what) => return Ending::Fault(format!("reader: {what}")),
            },
        }
    }
    Ending::Gone(Doubt::None)
}

/// What is done to tables now and then.
const CHORES: [&str; 10] = [
    "CHECKPOINT",
    "VACUUM accounts",
    "VACUUM items",
    "ANALYZE",
    "CHECKPOINT",
    "VACUUM (FREEZE) ledger",
    "REINDEX TABLE items",
    "SELECT pg_switch_wal()",
    "SELECT pg_reload_conf()",
    // They end when they can, and are started again.
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'ssdlsm %'",
];

/// Does housekeeping, over and over.
pub fn keep_house(client: &mut Client, shared: &Shared, rng: &mut Rng) -> Ending {
    while !shared.stop.load(Ordering::Relaxed) {
        let chore = rng.pick(&CHORES);
        if let Err(error) = client.batch_execute(chore) {
            match Setback::of(&error) {
                Setback::Lost => return Ending::Gone(Doubt::None),
                Setback::Retry => {}
                Setback::Fault(what) => return Ending::Fault(format!("{chore}: {what}")),
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(rng.below(150)));
    }
    Ending::Gone(Doubt::None)
}
