//! The transaction manager of hosts that have none of their own: embedded programs and the standalone server.
//!
//! | file | job | |
//! |---|---|---|
//! | [`record`] | one transaction to itself: phase, commands, savepoints and their ids | values |
//! | [`window`] | how far each recent id has come | atomics |
//! | [`running`] | ids, snapshots, the oldest of everything | one short lock |
//! | [`lock_mode`], [`lock_queue`] | table locks, who holds and who waits | values |
//! | [`waits`] | who waits for whom, circles | values |
//! | [`ssi`] | serializable transactions | values |
//! | [`trees`] | what is written down | reads and writes |
//! | [`transaction`] | begin, write, commit, roll back | does |
//! | [`blocking`] | waiting for transactions and table locks | does |
//! | [`two_phase`] | prepare, and its second phase | does |
//! | [`row_rule`] | what flushes and compactions ask | does |
//! | [`trim`] | forgets old commit records | does |
//!
//! It lives in one process. Any thread may use it; a [`Txn`] belongs to one thread at a time.
//!
//! 1. *Ids.* Before an id is handed out a number above it was made stable in the status tree, so no id is ever used twice.
//! 2. *Commit.* The records of all ids of a transaction are one batch in the log. When it is as durable as was asked, the ids
//!    become committed in the window and leave the running set, under one lock; then whoever waits for them is woken. Nobody
//!    who takes a snapshot sees a part.
//! 3. *Everything else is aborted.* After a crash an id without a commit record, that no prepared transaction has, is
//!    aborted: nothing is written for that.
//! 4. *Locks.* Inside the lock of SSI that of the running set may be taken, and inside that the window's. The lobby's and that
//!    of the prepared transactions stand alone. None of these is held over a read or a write; those of whoever raises the
//!    limit of ids, and of whoever trims, are.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::ids::TxnId;
use crate::error::{Error, Result};
use crate::format::txn_record::TXN_ID_MAX;
use crate::lsm::Lsm;
use crate::mvcc::garbage::Horizon;
use crate::mvcc::status::{TxnState, TxnStatus};

pub mod blocking;
pub mod lock_mode;
pub mod lock_queue;
pub mod record;
pub mod row_rule;
pub mod running;
pub mod ssi;
pub mod transaction;
pub mod trees;
pub mod trim;
pub mod two_phase;
pub mod waits;
pub mod window;

pub use self::blocking::WaitError;
pub use self::lock_mode::LockMode;
pub use self::lock_queue::LockObject;
pub use self::record::{Isolation, Phase, Savepoint};
pub use self::transaction::{ActiveSnapshot, Txn};
pub use self::trees::SystemTrees;
pub use self::two_phase::PreparedTxn;
pub use self::waits::{CycleStep, Party};

use self::blocking::Lobby;
use self::running::Running;
use self::ssi::Ssi;
use self::trees::Store;
use self::trim::Trim;
use self::two_phase::Prepared;
use self::window::Window;

/// How transactions are managed.
#[derive(Clone, Copy, Debug)]
pub struct TxnOptions {
    /// Recent ids whose state is in memory, a power of two. 16 bytes each.
    pub status_window: usize,
    /// Ids that are handed out between two syncs of the number above them; at most so many are skipped by a restart.
    pub id_step: u64,
    /// How long a transaction waits before it looks for a deadlock. Zero: at once.
    pub deadlock_timeout: Duration,
    /// What is remembered of the reads of serializable transactions.
    pub ssi: ssi::Limits,
}

impl Default for TxnOptions {
    fn default() -> Self {
        Self {
            status_window: 1 << 18,
            id_step: 1 << 16,
            deadlock_timeout: Duration::from_secs(1),
            ssi: ssi::Limits::default(),
        }
    }
}

impl TxnOptions {
    fn validate(&self) -> Result<()> {
        if !self.status_window.is_power_of_two() || self.status_window < 8 {
            return Err(Error::usage(
                format!("option status_window is {}", self.status_window),
                "Set status_window to a power of two, at least 8.",
            ));
        }
        if !(1..=1 << 40).contains(&self.id_step) {
            return Err(Error::usage(
                format!("option id_step is {}", self.id_step),
                "Set id_step to a value from 1 to 1099511627776.",
            ));
        }
        Ok(())
    }
}

/// Knows all transactions of one engine.
pub struct TxnManager {
    store: Store,
    options: TxnOptions,
    running: Running,
    /// Held by whoever raises the limit of ids.
    raising: Mutex<()>,
    lobby: Mutex<Lobby>,
    ssi: Mutex<Ssi>,
    prepared: Mutex<Prepared>,
    trim: Mutex<Trim>,
}

impl TxnManager {
    /// The transactions of an engine that has recovered. Nobody runs but those that were prepared.
    ///
    /// # Errors
    /// Usage: options out of range. Corruption, I/O: what is written down cannot be read.
    pub fn open(lsm: Arc<Lsm>, trees: SystemTrees, options: TxnOptions) -> Result<Arc<Self>> {
        options.validate()?;
        let store = Store::new(lsm, trees);
        let next = store.next_id()?;
        let opened = Self {
            running: Running::new(next, Window::new(options.status_window)),
            raising: Mutex::new(()),
            lobby: Mutex::new(Lobby::default()),
            ssi: Mutex::new(Ssi::new(options.ssi)),
            prepared: Mutex::new(Prepared::default()),
            trim: Mutex::new(Trim::default()),
            store,
            options,
        };
        opened.restore_prepared()?;
        Ok(Arc::new(opened))
    }

    /// The next id, which runs from now on.
    fn allocate_id(&self) -> Result<TxnId> {
        loop {
            let limit = self.running.limit();
            if let Some(id) = self.running.allocate() {
                return Ok(id);
            }
            let _turn = self.raising.lock();
            if self.running.limit() > limit {
                continue;
            }
            if limit.0 >= TXN_ID_MAX {
                return Err(Error::usage("no transaction ids are left", "Copy the data to a new engine."));
            }
            let raised = TxnId((limit.0 + self.options.id_step).min(TXN_ID_MAX));
            self.store.write_next_id(raised)?;
            self.running.raise_limit(raised);
        }
    }

    /// How far `id` has come.
    ///
    /// # Errors
    /// I/O, corruption.
    #[inline]
    pub fn state(&self, id: TxnId) -> Result<TxnState> {
        match self.running.window().state(id) {
            Some(state) => Ok(state),
            None => self.stored_state(id),
        }
    }

    #[cold]
    fn stored_state(&self, id: TxnId) -> Result<TxnState> {
        if !self.running.has_begun(id) {
            return Ok(TxnState::Aborted);
        }
        // Asked before it began, it may have begun since. What is remembered has to be final.
        if let Some(state) = self.running.window().state(id) {
            return Ok(state);
        }
        let state = if self.store.is_committed(id)? { TxnState::Committed } else { TxnState::Aborted };
        self.running.window().remember(id, state);
        Ok(state)
    }

    /// Who may still read old versions.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        self.running.horizon()
    }

    /// Whether nobody waits any more, because the engine is closed or the outcome of a commit is unknown.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lobby.lock().is_closed()
    }

    /// How many transactions wait for others now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lobby.lock().waits().all_waiting().count()
    }

    /// Ends all waiting, now and later, with an error. What runs may still commit.
    pub fn close(&self) {
        self.lobby.lock().close();
    }
}

/// Statuses as somebody sees them who is no transaction.
#[derive(Clone, Copy)]
pub struct Outsider<'m>(pub &'m TxnManager);

impl TxnStatus for Outsider<'_> {
    fn is_own(&self, _txn: TxnId) -> bool {
        false
    }

    fn state(&self, txn: TxnId) -> Result<TxnState> {
        self.0.state(txn)
    }
}

impl std::fmt::Debug for TxnManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxnManager").field("running", &self.running).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
