//! What flushes and compactions ask of the transaction manager: which versions of rows they keep.
//!
//! The rule is `mvcc::garbage`'s, with the horizon of the job's beginning. The engine holds its host, and the manager holds the
//! engine, so the host knows the manager weakly: once it is gone nothing is dropped.

use std::sync::{Arc, Weak};

use crate::base::ids::TxnId;
use crate::error::{Error, Result};
use crate::format::row_version::{RowKind, RowVersion, decode};
use crate::lsm::row_host::{RowHost, ValueRule, ValueVerdict};
use crate::mvcc::garbage::{RowRule, RowVerdict};
use crate::mvcc::status::TxnState;
use crate::mvcc::txn::{Outsider, TxnManager};

struct Host(Weak<TxnManager>);

struct Judge {
    manager: Arc<TxnManager>,
    rule: RowRule,
}

/// Keeps everything.
struct KeepAll;

impl TxnManager {
    /// Itself, as flushes and compactions need it.
    #[must_use]
    pub fn row_host(self: &Arc<Self>) -> Arc<dyn RowHost> {
        Arc::new(Host(Arc::downgrade(self)))
    }
}

impl RowHost for Host {
    fn run_next_job(&self) -> Result<bool> {
        self.0.upgrade().map_or(Ok(false), |manager| manager.trim_status())
    }

    fn rule(&self) -> Result<Box<dyn ValueRule + '_>> {
        Ok(match self.0.upgrade() {
            Some(manager) => {
                let rule = RowRule::new(manager.horizon());
                Box::new(Judge { manager, rule })
            }
            None => Box::new(KeepAll),
        })
    }

    fn make_ends_stable(&self) -> Result<()> {
        // An end is written to the log before anybody can hear of it.
        let Some(manager) = self.0.upgrade() else { return Ok(()) };
        let log = manager.store.lsm().log();
        log.flush(log.position())
    }
}

fn read(value: &[u8]) -> Result<RowVersion<'_>> {
    decode(value).map_err(|why| Error::corruption(std::path::Path::new(""), 0, why))
}

impl ValueRule for Judge {
    fn next_row(&mut self) {
        self.rule.next_row();
    }

    fn judge(&mut self, value: &[u8], bottommost: bool, out: &mut Vec<u8>) -> Result<ValueVerdict> {
        let version = read(value)?;
        Ok(match self.rule.judge(&version, bottommost, &Outsider(&self.manager))? {
            RowVerdict::Keep => ValueVerdict::Keep(version.stamp.map(|stamp| stamp.txn)),
            RowVerdict::Drop => ValueVerdict::Drop,
            RowVerdict::Freeze => {
                // Its writer has committed: nobody takes it back any more.
                let kind = if version.kind == RowKind::Speculative { RowKind::Put } else { version.kind };
                RowVersion { kind, ..version.frozen() }.encode(out);
                ValueVerdict::Freeze
            }
        })
    }

    fn is_running(&mut self, txn: TxnId) -> Result<bool> {
        Ok(self.manager.state(txn)? == TxnState::InProgress)
    }
}

impl ValueRule for KeepAll {
    fn next_row(&mut self) {}

    fn is_running(&mut self, _txn: TxnId) -> Result<bool> {
        Ok(true)
    }

    fn judge(&mut self, value: &[u8], _bottommost: bool, _out: &mut Vec<u8>) -> Result<ValueVerdict> {
        Ok(ValueVerdict::Keep(read(value)?.stamp.map(|stamp| stamp.txn)))
    }
}
