//! What all handles of one open engine share.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::db::background::Background;
use crate::db::begin::only_attached;
use crate::db::transactions::Transactions;
use crate::env::DirLock;
use crate::error::Result;
use crate::lsm::Lsm;

/// See the module.
pub struct Core {
    pub(crate) lsm: Arc<Lsm>,
    pub(super) background: Mutex<Option<Background>>,
    /// Held by the process that opened the directory; `None` in one that attached.
    pub(super) lock: Mutex<Option<Box<dyn DirLock>>>,
    pub(super) is_owner: bool,
    /// Made with the first transaction.
    transactions: OnceLock<Arc<Transactions>>,
    making_transactions: Mutex<()>,
}

impl Core {
    pub(crate) fn new(
        lsm: Arc<Lsm>,
        background: Option<Background>,
        lock: Option<Box<dyn DirLock>>,
        transactions: Option<Arc<Transactions>>,
    ) -> Self {
        Self {
            lsm,
            background: Mutex::new(background),
            is_owner: lock.is_some(),
            lock: Mutex::new(lock),
            transactions: transactions.map_or_else(OnceLock::new, OnceLock::from),
            making_transactions: Mutex::new(()),
        }
    }

    /// The transactions, which begin to exist now at the latest.
    pub(crate) fn transactions(&self) -> Result<&Arc<Transactions>> {
        if let Some(transactions) = self.transactions.get() {
            return Ok(transactions);
        }
        if !self.is_owner {
            return Err(only_attached());
        }
        let _turn = self.making_transactions.lock();
        if let Some(transactions) = self.transactions.get() {
            return Ok(transactions);
        }
        let made = Transactions::open(&self.lsm)?;
        Ok(self.transactions.get_or_init(|| made))
    }

    /// The transactions, if there are any.
    pub(crate) fn open_transactions(&self) -> Option<&Arc<Transactions>> {
        self.transactions.get()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Nothing is lost without this: what is in memory is in the log. It only makes the next open faster.
        if let Some(background) = self.background.lock().take() {
            background.stop();
        }
    }
}
