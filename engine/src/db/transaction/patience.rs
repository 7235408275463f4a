//! How long a transaction goes on: with one wait for a lock, and with all of a statement.

use std::time::Duration;

use crate::env::Env;
use crate::error::{ConflictKind, Error, Result};
use crate::mvcc::txn::WaitError;

/// What a transaction has patience for. Times are of the environment's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// A wait may last so long.
    lock: Option<Duration>,
    /// A statement may.
    statement: Option<Duration>,
    /// When the present statement has to be through.
    ends: Option<Duration>,
    /// It has several calls.
    is_open: bool,
}

impl Patience {
    pub(super) const fn new(lock: Option<Duration>, statement: Option<Duration>) -> Self {
        Self { lock, statement, ends: None, is_open: false }
    }

    /// A statement begins, which lasts until [`close`](Self::close).
    pub(super) fn open(&mut self, env: &dyn Env) {
        self.ends = self.statement.map(|statement| env.now() + statement);
        self.is_open = true;
    }

    pub(super) const fn close(&mut self) {
        self.is_open = false;
    }

    /// A call begins: a statement of its own, unless one is open.
    pub(super) fn call(&mut self, env: &dyn Env) -> Result<()> {
        if !self.is_open {
            self.ends = self.statement.map(|statement| env.now() + statement);
            return Ok(());
        }
        self.check(env)
    }

    /// Whether the statement may go on.
    pub(super) fn check(&self, env: &dyn Env) -> Result<()> {
        if self.ends.is_some_and(|ends| ends <= env.now()) { Err(out_of_time()) } else { Ok(()) }
    }

    /// Waits by `wait`, which is told how long it may.
    pub(super) fn wait(
        &self,
        env: &dyn Env,
        wait: impl FnOnce(Option<Duration>) -> std::result::Result<(), WaitError>,
    ) -> Result<()> {
        let rest = self.ends.map(|ends| ends.saturating_sub(env.now()));
        // Where both come to the same, it is the lock that was not had.
        let is_of_statement = rest.is_some_and(|rest| self.lock.is_none_or(|lock| rest < lock));
        match wait(if is_of_statement { rest } else { self.lock }) {
            Err(WaitError::Timeout) if is_of_statement => Err(out_of_time()),
            waited => Ok(waited?),
        }
    }
}

fn out_of_time() -> Error {
    Error::conflict(ConflictKind::StatementTimeout, "canceling statement due to statement timeout")
}
