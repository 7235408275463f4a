//! What flushes and compactions may forget: the server's horizon applied to versions of rows.

use std::ffi::c_char;
use std::sync::OnceLock;

use pgrx::pg_sys;
use ssd_engine::base::ids::TxnId;
use ssd_engine::format::row_version::decode;
use ssd_engine::lsm::row_host::{RowHost, ValueRule, ValueVerdict};
use ssd_engine::mvcc::garbage::{Horizon, RowRule, RowVerdict};
use ssd_engine::mvcc::snapshot::TxnSnapshot;
use ssd_engine::mvcc::status::{TxnState, TxnStatus};
use ssd_engine::{Error, Result};

use super::ids::widen;
use super::status::state_of;
use crate::ffi::externs;
use crate::link::{flush_log, log_position};

/// The server as the one who knows transactions.
pub struct Rows;

impl RowHost for Rows {
    fn rule(&self) -> Result<Box<dyn ValueRule + '_>> {
        // SAFETY: see the externs.
        if unsafe { externs::RecoveryInProgress() } {
            // Ends of transactions that will be replayed later are not known yet.
            return Ok(Box::new(KeepAll { is_settled: false }));
        }
        Ok(Box::new(Judge(RowRule::new(horizon()))))
    }

    fn make_ends_stable(&self) -> Result<()> {
        flush_log(log_position());
        Ok(())
    }
}

/// A table as good as any other for the question which horizon counts for it.
fn any_table() -> pg_sys::Relation {
    static TABLE: OnceLock<usize> = OnceLock::new();
    let address = *TABLE.get_or_init(|| {
        // SAFETY: plain structures of the server, in which zeros mean nothing; what is asked of them is set.
        let (mut class, mut table) =
            unsafe { (std::mem::zeroed::<pg_sys::FormData_pg_class>(), std::mem::zeroed::<pg_sys::RelationData>()) };
        class.relpersistence = pg_sys::RELPERSISTENCE_PERMANENT as c_char;
        class.relkind = pg_sys::RELKIND_RELATION as c_char;
        table.rd_id = pg_sys::Oid::from(pg_sys::FirstNormalObjectId);
        table.rd_rel = Box::leak(Box::new(class));
        std::ptr::from_mut(Box::leak(Box::new(table))).expose_provenance()
    });
    std::ptr::with_exposed_provenance_mut(address)
}

/// What every snapshot, in use or still to be taken, agrees on.
#[must_use]
pub fn horizon() -> Horizon {
    // SAFETY: guarded. To a process without a database, the horizon of tables is that of all databases' tables; null asks for one
    // that is right for catalogs, too, and so counts what logical slots keep of them.
    let oldest = widen(unsafe {
        let table = if pg_sys::MyDatabaseId == pg_sys::InvalidOid { any_table() } else { std::ptr::null_mut() };
        pg_sys::GetOldestNonRemovableTransactionId(table)
    });
    let now = TxnSnapshot { oldest, next: oldest, running: std::sync::Arc::default(), command: Default::default() };
    Horizon { now, snapshots: None, oldest }
}

/// Answers as nobody's transaction.
pub struct Outsider;

impl TxnStatus for Outsider {
    fn is_own(&self, _txn: TxnId) -> bool {
        false
    }
    fn state(&self, txn: TxnId) -> Result<TxnState> {
        Ok(state_of(txn))
    }
}

struct Judge(RowRule);

impl ValueRule for Judge {
    fn next_row(&mut self) {
        self.0.next_row();
    }
    fn judge(&mut self, value: &[u8], bottommost: bool, out: &mut Vec<u8>) -> Result<ValueVerdict> {
        let version = decode(value).map_err(|why| Error::corruption(std::path::Path::new(""), 0, why))?;
        Ok(match self.0.judge(&version, bottommost, &Outsider)? {
            RowVerdict::Keep => ValueVerdict::Keep(version.stamp.map(|stamp| stamp.txn)),
            RowVerdict::Freeze if version.kind == ssd_engine::format::row_version::RowKind::Speculative => {
                ValueVerdict::Keep(version.stamp.map(|stamp| stamp.txn))
            }
            RowVerdict::Freeze => {
                version.frozen().encode(out);
                ValueVerdict::Freeze
            }
            RowVerdict::Drop => ValueVerdict::Drop,
        })
    }
    fn is_running(&mut self, txn: TxnId) -> Result<bool> {
        Ok(state_of(txn) == TxnState::InProgress)
    }
}

/// Keeps what is not settled already: what is older than a frozen version nobody reads, whatever else is still to be replayed.
struct KeepAll {
    is_settled: bool,
}

impl ValueRule for KeepAll {
    fn next_row(&mut self) {
        self.is_settled = false;
    }
    fn judge(&mut self, value: &[u8], _bottommost: bool, _out: &mut Vec<u8>) -> Result<ValueVerdict> {
        if self.is_settled {
            return Ok(ValueVerdict::Drop);
        }
        let version = decode(value).map_err(|why| Error::corruption(std::path::Path::new(""), 0, why))?;
        self.is_settled = version.stamp.is_none();
        Ok(ValueVerdict::Keep(version.stamp.map(|stamp| stamp.txn)))
    }
    fn is_running(&mut self, _txn: TxnId) -> Result<bool> {
        Ok(true)
    }
}
