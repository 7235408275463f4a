//! Statements as the engine does them, without ever waiting: who would have to wait is refused.

use std::time::Duration;

use ssd_engine::{
    Class, ConflictKind, Error, Isolation, LockMode, RowLockMode, RowTree, Savepoint, Transaction, TransactionOptions,
};

use crate::isolation::oracle::{Answer, Command, Key, Open, Refusal};
use crate::rng::Rng;

/// Options of a transaction that never waits.
#[must_use]
pub const fn unwaiting(isolation: Isolation, read_only: bool) -> TransactionOptions {
    TransactionOptions { isolation, read_only, lock_timeout: Some(Duration::ZERO), statement_timeout: None }
}

/// Why the engine refused; nothing when the error is of another kind.
#[must_use]
pub fn refusal(error: &Error) -> Option<Refusal> {
    let text = error.to_string();
    match error.class() {
        Class::Conflict if error.conflict_kind() == Some(ConflictKind::LockTimeout) => Some(Refusal::Blocked),
        Class::Conflict if text.contains("concurrent update") => Some(Refusal::ConcurrentUpdate),
        Class::Conflict if text.contains("read/write dependencies") => Some(Refusal::Dependencies),
        Class::Usage if text.contains("transaction is aborted") => Some(Refusal::Failed),
        Class::Usage if text.contains("read-only transaction") => Some(Refusal::ReadOnly),
        _ => None,
    }
}

/// Does `command`.
///
/// # Errors
/// What is not a refusal.
pub fn act(txn: &mut Transaction, tree: &RowTree, command: &Command) -> Result<Answer, Error> {
    try_act(txn, tree, command).or_else(|error| refusal(&error).map(Answer::Refused).ok_or(error))
}

fn try_act(txn: &mut Transaction, tree: &RowTree, command: &Command) -> Result<Answer, Error> {
    Ok(match command {
        Command::Get(key) => Answer::Row(txn.get(tree, key)?),
        Command::Scan(from, to, false) => {
            Answer::Rows(txn.scan::<Key>(tree, from.clone()..to.clone())?.collect::<Result<_, _>>()?)
        }
        Command::Scan(from, to, true) => {
            Answer::Rows(txn.scan_backward::<Key>(tree, from.clone()..to.clone())?.collect::<Result<_, _>>()?)
        }
        Command::Put(key, value) => {
            txn.put(tree, key, value)?;
            Answer::Done(true)
        }
        Command::Insert(key, value) => Answer::Done(txn.insert(tree, key, value)?),
        Command::Delete(key) => Answer::Done(txn.delete(tree, key)?),
        Command::Lock(key, mode) => Answer::Done(txn.lock(tree, key, *mode)?),
        Command::LockTree(mode) => {
            txn.lock_tree(tree, *mode)?;
            Answer::Done(true)
        }
        Command::Savepoint => {
            txn.savepoint()?;
            Answer::Done(true)
        }
        Command::Release(depth) => {
            txn.release(Savepoint(*depth))?;
            Answer::Done(true)
        }
        Command::RollbackTo(depth) => {
            txn.rollback_to(Savepoint(*depth))?;
            Answer::Done(true)
        }
    })
}

const TREE_MODES: [LockMode; 8] = [
    LockMode::AccessShare,
    LockMode::RowShare,
    LockMode::RowExclusive,
    LockMode::ShareUpdateExclusive,
    LockMode::Share,
    LockMode::ShareRowExclusive,
    LockMode::Exclusive,
    LockMode::AccessExclusive,
];

/// A random statement of a transaction; a failed one rolls back to a savepoint when it has one.
pub fn random(
    rng: &mut Rng,
    open: &Open,
    key: &mut dyn FnMut(&mut Rng) -> Key,
    value: &mut dyn FnMut(&mut Rng) -> Vec<u8>,
) -> Command {
    let depth = open.depth();
    let level = |rng: &mut Rng| rng.below(depth.max(1) as u64) as usize + 1;
    if open.is_failed() && depth > 0 && !rng.one_in(4) {
        return Command::RollbackTo(level(rng));
    }
    match rng.below(100) {
        0..25 => Command::Get(key(rng)),
        25..37 => {
            let (a, b) = (key(rng), key(rng));
            let (from, mut to) = if a <= b { (a, b) } else { (b, a) };
            to.push(0);
            Command::Scan(from, to, rng.one_in(3))
        }
        37..57 => Command::Put(key(rng), value(rng)),
        57..67 => Command::Insert(key(rng), value(rng)),
        67..79 => Command::Delete(key(rng)),
        79..82 => Command::LockTree(rng.pick(&TREE_MODES)),
        82..86 => {
            let modes = [RowLockMode::KeyShare, RowLockMode::Share, RowLockMode::NoKeyUpdate, RowLockMode::Update];
            Command::Lock(key(rng), rng.pick(&modes))
        }
        86..93 => Command::Savepoint,
        93..97 if depth > 0 => Command::RollbackTo(level(rng)),
        97..100 if depth > 0 => Command::Release(level(rng)),
        _ => Command::Get(key(rng)),
    }
}
