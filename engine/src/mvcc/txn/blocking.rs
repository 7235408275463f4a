//! Waiting for the ends of other transactions and for table locks, without polling.
//!
//! Everybody who waits is in the lobby: in its graph ([`Waits`]), and with a bell that is rung when the graph lets it go. The
//! lobby's lock is held for the graph alone, never over a read or a write. Time is the world's; where the world's clock
//! stands still, the length of the wait itself counts.
//!
//! Two ways to wait: [`Txn::wait_for`] and [`Txn::lock_table`] block the thread; [`Txn::start_wait`], [`Txn::start_lock`] and
//! [`Txn::is_waiting`] do not, for hosts that schedule by themselves and for tests that repeat.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, MutexGuard};

use crate::base::ids::TxnId;
use crate::error::{ConflictKind, Error, Result};
use crate::mvcc::txn::lock_mode::{LockMode, Modes};
use crate::mvcc::txn::lock_queue::{LockObject, Outcome};
use crate::mvcc::txn::running::LocalTxn;
use crate::mvcc::txn::transaction::Txn;
use crate::mvcc::txn::waits::{CycleStep, Party, Search, Waits};

/// Why a wait has ended without what was waited for. The waiter waits no more, and still holds what it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// It would have lasted for ever.
    Deadlock {
        /// Who waits for whom; the first is the one that is told.
        cycle: Vec<CycleStep>,
    },
    /// It has lasted too long.
    Timeout,
    /// Nobody waits any more.
    Closed,
    /// The transaction that wants to wait has ended.
    Ended,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { cycle } => {
                f.write_str("deadlock detected: ")?;
                for (at, step) in cycle.iter().enumerate() {
                    write!(f, "{}{step}", if at == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::Timeout => f.write_str("canceling statement due to lock timeout"),
            Self::Closed => f.write_str("engine is closed"),
            Self::Ended => f.write_str("transaction has ended"),
        }
    }
}

impl std::error::Error for WaitError {}

impl From<WaitError> for Error {
    fn from(error: WaitError) -> Self {
        match &error {
            WaitError::Deadlock { .. } => Self::conflict(ConflictKind::Deadlock, error.to_string()),
            WaitError::Timeout => Self::conflict(ConflictKind::LockTimeout, error.to_string()),
            WaitError::Closed => Self::Closed("it was closed while a transaction waited".into()),
            WaitError::Ended => Self::usage(error.to_string(), "Begin another transaction."),
        }
    }
}

/// Where the waiting wait.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    waits: Waits,
    bells: HashMap<LocalTxn, Arc<Condvar>>,
    closed: bool,
}

impl Lobby {
    pub(super) const fn waits(&mut self) -> &mut Waits {
        &mut self.waits
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.bells.values().for_each(|bell| {
            bell.notify_all();
        });
    }

    pub(super) fn own(&mut self, owner: LocalTxn, id: TxnId) {
        self.waits.own(owner, id);
    }

    /// `ids` of `local` have ended, and it gives up `locks`; `whole`: nothing of it is left.
    pub(super) fn leave(&mut self, local: LocalTxn, ids: &[TxnId], locks: &[(LockObject, Modes)], whole: bool) {
        let ended = self.waits.end_ids(ids);
        let granted = self.waits.release(local, locks);
        if whole {
            self.waits.forget(local);
        }
        self.ring(&ended);
        self.ring(&granted);
    }

    fn ring(&self, woken: &[LocalTxn]) {
        for bell in woken.iter().filter_map(|local| self.bells.get(local)) {
            bell.notify_all();
        }
    }

    fn cancel(&mut self, local: LocalTxn) {
        let woken = self.waits.cancel(local);
        self.ring(&woken);
    }

    fn search(&mut self, local: LocalTxn) -> Search {
        let found = self.waits.search(local);
        if let Search::Reordered(woken) = &found {
            self.ring(woken);
        }
        found
    }
}

/// A clock that has passed what was waited for, even when the world's stands still.
struct Clock<'t> {
    txn: &'t Txn,
    ahead: Duration,
}

impl Clock<'_> {
    fn now(&self) -> Duration {
        self.txn.manager.store.lsm().env.now() + self.ahead
    }

    /// Waits for the bell, up to the moment `until`.
    fn wait(&mut self, lobby: &mut MutexGuard<'_, Lobby>, until: Option<Duration>) {
        let Some(until) = until else { return self.txn.bell.wait(lobby) };
        let rest = until.saturating_sub(self.now());
        if self.txn.bell.wait_for(lobby, rest).timed_out() {
            self.ahead += until.saturating_sub(self.now());
        }
    }
}

impl Txn {
    /// Those of `whom` that are somebody else's and have not ended.
    #[must_use]
    pub fn in_the_way(&self, whom: &[TxnId]) -> Vec<TxnId> {
        self.manager.lobby.lock().waits.running(self.local, whom)
    }

    /// Waits until all of `whom` have ended: a transaction's id with the transaction, a savepoint's with its rollback or with
    /// the transaction. `what` tells others what it is about: "row 'k'".
    ///
    /// # Errors
    /// See [`WaitError`].
    pub fn wait_for(
        &self,
        whom: &[TxnId],
        what: &dyn fmt::Display,
        timeout: Option<Duration>,
    ) -> Result<(), WaitError> {
        let mut lobby = self.enter()?;
        if !lobby.waits.wait_for(self.local, whom, || what.to_string()) {
            return Ok(());
        }
        self.block(&mut lobby, timeout)
    }

    /// Takes a table lock, waiting for it as long as it takes or `timeout` allows. Held until the transaction ends, or a
    /// savepoint from before is rolled back.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub fn lock_table(
        &mut self,
        object: LockObject,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<(), WaitError> {
        let outcome = {
            let mut lobby = self.enter()?;
            let outcome = lobby.waits.lock(self.local, object, mode);
            if outcome == Outcome::Queued {
                self.block(&mut lobby, timeout)?;
            }
            outcome
        };
        if outcome != Outcome::Held {
            self.record.note_lock(object.0, mode.bit());
        }
        Ok(())
    }

    /// Takes a table lock if that needs no waiting; otherwise says who is in the way.
    ///
    /// # Errors
    /// Those in the way; nobody when the transaction has ended or the engine is closed.
    pub fn try_lock_table(&mut self, object: LockObject, mode: LockMode) -> Result<(), Vec<Party>> {
        let outcome = {
            let mut lobby = self.enter().map_err(|_| Vec::new())?;
            if !lobby.waits.locks().would_grant(self.local, object, mode) {
                let others = lobby.waits.locks().obstacles(self.local, object, mode);
                return Err(others.into_iter().map(|other| lobby.waits.party(other)).collect());
            }
            lobby.waits.lock(self.local, object, mode)
        };
        if outcome == Outcome::Granted {
            self.record.note_lock(object.0, mode.bit());
        }
        Ok(())
    }

    /// Gives up a table lock before the end; whether it was held.
    pub fn unlock_table(&mut self, object: LockObject, mode: LockMode) -> bool {
        let held = self.record.forget_lock(object.0, mode.bit());
        if held {
            self.manager.lobby.lock().leave(self.local, &[], &[(object, Modes(mode.bit()))], false);
        }
        held
    }

    /// The modes it holds on an object.
    #[must_use]
    pub fn table_locks(&self, object: LockObject) -> Modes {
        self.manager.lobby.lock().waits.locks().held(self.local, object)
    }

    /// As [`wait_for`](Self::wait_for), without blocking the thread; whether it waits now.
    ///
    /// # Errors
    /// Closed, ended.
    pub fn start_wait(&self, whom: &[TxnId], what: &dyn fmt::Display) -> Result<bool, WaitError> {
        Ok(self.enter()?.waits.wait_for(self.local, whom, || what.to_string()))
    }

    /// As [`lock_table`](Self::lock_table), without blocking the thread; whether it waits now. Ask
    /// [`is_waiting`](Self::is_waiting) until it does not.
    ///
    /// # Errors
    /// Closed, ended.
    pub fn start_lock(&mut self, object: LockObject, mode: LockMode) -> Result<bool, WaitError> {
        let outcome = self.enter()?.waits.lock(self.local, object, mode);
        match outcome {
            Outcome::Held => {}
            Outcome::Granted => self.record.note_lock(object.0, mode.bit()),
            Outcome::Queued => self.asked = Some((object, mode)),
        }
        Ok(outcome == Outcome::Queued)
    }

    /// Whether it waits. What [`start_lock`](Self::start_lock) asked for is held once it does not.
    pub fn is_waiting(&mut self) -> bool {
        if self.manager.lobby.lock().waits.is_waiting(self.local) {
            return true;
        }
        if let Some((object, mode)) = self.asked.take() {
            self.record.note_lock(object.0, mode.bit());
        }
        false
    }

    /// Waits no more, whether or not it got what it waited for.
    pub fn stop_waiting(&mut self) {
        if self.is_waiting() {
            self.manager.lobby.lock().cancel(self.local);
            self.asked = None;
        }
    }

    /// Whether it can never go on, because those it waits for wait for it. A circle that hangs on the order of a queue alone
    /// is ended by another order. Who gets an answer is the victim, and should [`stop_waiting`](Self::stop_waiting).
    #[must_use]
    pub fn find_deadlock(&self) -> Option<Vec<CycleStep>> {
        match self.manager.lobby.lock().search(self.local) {
            Search::Deadlock(cycle) => Some(cycle),
            Search::Free | Search::Reordered(_) => None,
        }
    }

    fn enter(&self) -> Result<MutexGuard<'_, Lobby>, WaitError> {
        if self.record.check_active().is_err() {
            return Err(WaitError::Ended);
        }
        let lobby = self.manager.lobby.lock();
        if lobby.closed { Err(WaitError::Closed) } else { Ok(lobby) }
    }

    /// Blocks until the graph lets it go.
    fn block(&self, lobby: &mut MutexGuard<'_, Lobby>, timeout: Option<Duration>) -> Result<(), WaitError> {
        lobby.bells.insert(self.local, Arc::clone(&self.bell));
        let result = self.block_with_bell(lobby, timeout);
        lobby.bells.remove(&self.local);
        if result.is_err() {
            lobby.cancel(self.local);
        }
        result
    }

    fn block_with_bell(&self, lobby: &mut MutexGuard<'_, Lobby>, timeout: Option<Duration>) -> Result<(), WaitError> {
        let mut clock = Clock { txn: self, ahead: Duration::ZERO };
        let begun = clock.now();
        let mut look_at = Some(begun + self.manager.options.deadlock_timeout);
        let end_at = timeout.map(|timeout| begun + timeout);
        while lobby.waits.is_waiting(self.local) {
            if lobby.closed {
                return Err(WaitError::Closed);
            }
            let now = clock.now();
            if look_at.is_some_and(|at| at <= now) {
                look_at = None;
                if let Search::Deadlock(cycle) = lobby.search(self.local) {
                    return Err(WaitError::Deadlock { cycle });
                }
            } else if end_at.is_some_and(|at| at <= now) {
                return Err(WaitError::Timeout);
            } else {
                clock.wait(lobby, look_at.into_iter().chain(end_at).min());
            }
        }
        Ok(())
    }
}
