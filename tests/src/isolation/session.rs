//! One session of a script: a thread that runs commands, one at a time, in at most one transaction.
//!
//! Statements over several rows do what an executor of SQL does: they scan, then lock and look again at each row that was
//! found, then write. That shows what the level permits to a host that works so.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender};

use ssd_engine::{Durability, Engine, Error, Isolation, RowLockMode, RowTree, Savepoint, Transaction};

/// What a session answered: its name and the text.
pub type Answer = (String, String);

/// What one session has.
pub struct Session {
    engine: Engine,
    tree: RowTree,
    txn: Option<Transaction>,
    savepoints: HashMap<String, Savepoint>,
}

/// Which rows a statement means.
enum Where {
    All,
    Equal(i64),
    Multiple(i64),
}

impl Where {
    fn parse(words: &[&str]) -> Result<Self, String> {
        match words {
            [] => Ok(Self::All),
            ["where", "=", number] => Ok(Self::Equal(parse(number)?)),
            ["where", "%", number] => Ok(Self::Multiple(parse(number)?)),
            _ => Err(format!("no condition: {words:?}")),
        }
    }

    const fn holds(&self, value: i64) -> bool {
        match self {
            Self::All => true,
            Self::Equal(number) => value == *number,
            Self::Multiple(number) => value % *number == 0,
        }
    }
}

fn parse(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

fn number(value: &[u8]) -> i64 {
    String::from_utf8_lossy(value).parse().expect("scripts write numbers")
}

/// The first words of an error; ids of transactions are left out.
fn brief(error: &Error) -> String {
    let text = error.to_string();
    let text = if text.starts_with("deadlock") { "deadlock detected" } else { &text };
    format!("error: {text}")
}

impl Session {
    /// A session without a transaction.
    #[must_use]
    pub fn new(engine: Engine, tree: RowTree) -> Self {
        Self { engine, tree, txn: None, savepoints: HashMap::new() }
    }

    /// Runs commands until nobody sends any more.
    pub fn serve(mut self, name: &str, commands: &Receiver<String>, answers: &Sender<Answer>) {
        for command in commands {
            let answer = self.run(&command).unwrap_or_else(|what| what);
            if answers.send((name.to_owned(), answer)).is_err() {
                return;
            }
        }
    }

    /// Runs one command.
    ///
    /// # Errors
    /// What went wrong, in words that go into the record.
    pub fn run(&mut self, command: &str) -> Result<String, String> {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["begin", ref level @ ..] => self.begin(&level.join(" ")),
            ["commit"] => self.take()?.commit(Durability::Process).map(|()| "ok".into()).map_err(|e| brief(&e)),
            ["abort"] => {
                self.take()?.abort();
                Ok("ok".into())
            }
            ["savepoint", name] => {
                let savepoint = self.txn()?.savepoint().map_err(|e| brief(&e))?;
                self.savepoints.insert(name.into(), savepoint);
                Ok("ok".into())
            }
            ["rollback", "to", name] => {
                let savepoint = *self.savepoints.get(name).ok_or("no such savepoint")?;
                self.txn()?.rollback_to(savepoint).map(|()| "ok".into()).map_err(|e| brief(&e))
            }
            _ => self.statement(&words).map_err(|error| match error {
                Ok(error) => brief(&error),
                Err(what) => what,
            }),
        }
    }

    fn begin(&mut self, level: &str) -> Result<String, String> {
        let isolation = match level {
            "read committed" => Isolation::ReadCommitted,
            "repeatable read" => Isolation::RepeatableRead,
            "serializable" => Isolation::Serializable,
            _ => return Err(format!("no level: {level}")),
        };
        self.txn = Some(self.engine.begin(isolation).map_err(|e| brief(&e))?);
        Ok("ok".into())
    }

    fn take(&mut self) -> Result<Transaction, String> {
        self.txn.take().ok_or_else(|| "no transaction".into())
    }

    fn txn(&mut self) -> Result<&mut Transaction, String> {
        self.txn.as_mut().ok_or_else(|| "no transaction".into())
    }

    fn statement(&mut self, words: &[&str]) -> Result<String, Result<Error, String>> {
        let tree = self.tree.clone();
        let txn = self.txn().map_err(Err)?;
        let yes = |done: bool| if done { "ok" } else { "no" }.to_owned();
        match words {
            ["get", key] => {
                let found = txn.get(&tree, key.as_bytes()).map_err(Ok)?;
                Ok(found.map_or_else(|| "nothing".into(), |value| format!("{key}={}", number(&value))))
            }
            ["put", key, value] => txn.put(&tree, key.as_bytes(), value.as_bytes()).map(|()| "ok".into()).map_err(Ok),
            ["insert", key, value] => txn.insert(&tree, key.as_bytes(), value.as_bytes()).map(yes).map_err(Ok),
            ["delete", key] => txn.delete(&tree, key.as_bytes()).map(yes).map_err(Ok),
            ["lock", key, mode @ ..] => {
                let mode = match mode {
                    ["key", "share"] => RowLockMode::KeyShare,
                    ["share"] => RowLockMode::Share,
                    ["no", "key", "update"] => RowLockMode::NoKeyUpdate,
                    ["update"] => RowLockMode::Update,
                    _ => return Err(Err(format!("no mode: {mode:?}"))),
                };
                txn.lock(&tree, key.as_bytes(), mode).map(yes).map_err(Ok)
            }
            ["scan", condition @ ..] => {
                let rows = scan(txn, &tree, &Where::parse(condition).map_err(Err)?).map_err(Ok)?;
                let rows: Vec<_> = rows.iter().map(|(key, value)| format!("{}={value}", key.escape_ascii())).collect();
                Ok(if rows.is_empty() { "nothing".into() } else { rows.join(" ") })
            }
            ["add", plus, condition @ ..] => {
                let plus = parse(plus).map_err(Err)?;
                let condition = Where::parse(condition).map_err(Err)?;
                change_all(txn, &tree, &condition, &mut |txn, key, value| {
                    txn.put(&tree, key, (value + plus).to_string().as_bytes())
                })
                .map_err(Ok)
            }
            ["delete-all", condition @ ..] => {
                let condition = Where::parse(condition).map_err(Err)?;
                change_all(txn, &tree, &condition, &mut |txn, key, _| txn.delete(&tree, key).map(drop)).map_err(Ok)
            }
            _ => Err(Err(format!("no command: {words:?}"))),
        }
    }
}

fn scan(txn: &mut Transaction, tree: &RowTree, condition: &Where) -> Result<Vec<(Vec<u8>, i64)>, Error> {
    let mut found = Vec::new();
    for row in txn.scan::<Vec<u8>>(tree, ..)? {
        let (key, value) = row?;
        found.push((key, number(&value)));
    }
    found.retain(|(_, value)| condition.holds(*value));
    Ok(found)
}

/// What becomes of a row: its key and its value are given.
type Change<'c> = dyn FnMut(&mut Transaction, &[u8], i64) -> Result<(), Error> + 'c;

fn change_all(
    txn: &mut Transaction,
    tree: &RowTree,
    condition: &Where,
    change: &mut Change<'_>,
) -> Result<String, Error> {
    let mut changed = 0;
    for (key, _) in scan(txn, tree, condition)? {
        if !txn.lock(tree, &key, RowLockMode::Update)? {
            continue;
        }
        // Whoever was waited for may have changed it.
        if let Some(value) = txn.get(tree, &key)?.map(|value| number(&value)).filter(|&value| condition.holds(value)) {
            change(txn, &key, value)?;
            changed += 1;
        }
    }
    Ok(format!("{changed} rows"))
}
