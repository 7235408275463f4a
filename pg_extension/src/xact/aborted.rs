//! Transactions that rolled back and are older than what the server remembers.
//!
//! The server forgets how transactions ended that are older than every table's `relfrozenxid`. Versions keep their writers for good,
//! until a compaction freezes or drops them. So VACUUM, before it advances `relfrozenxid`, notes who among the writers in the table has
//! rolled back; who is older than the server's memory and not noted has committed.

use std::collections::BTreeSet;

use pgrx::pg_sys;
use ssd_engine::Result;
use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::base::key::{Kind, full_key};
use ssd_engine::lsm::versions::Expected;

use super::ids::widen;
use crate::link;
use crate::ops::write::Batch;

/// The tree that remembers them.
pub const ABORTED_TREE: TreeId = TreeId(3);

fn key(txn: TxnId) -> Vec<u8> {
    full_key(ABORTED_TREE, &txn.0.to_be_bytes())
}

/// Notes that these have rolled back.
///
/// # Errors
/// I/O.
pub fn remember(aborted: &BTreeSet<TxnId>) -> Result<()> {
    if aborted.is_empty() {
        return Ok(());
    }
    let lsm = link::writer().store.lsm();
    let mut batch = Batch::default();
    for txn in aborted {
        batch.op(Kind::Put, &key(*txn), &[1]);
        if batch.count() == 1000 {
            batch.write(lsm, true)?;
            batch.clear();
        }
    }
    batch.write(lsm, true)
}

/// Whether the server has forgotten how `txn` ended.
#[must_use]
pub fn is_forgotten(txn: TxnId) -> bool {
    // SAFETY: lives in shared memory for the life of the process; an aligned word that is read whole.
    let oldest = unsafe { std::ptr::read_volatile(&raw const (*pg_sys::ShmemVariableCache).oldestClogXid) };
    txn < widen(oldest)
}

/// Whether `txn`, which the server has forgotten, was noted.
///
/// # Errors
/// I/O, corruption.
pub fn was_noted(txn: TxnId) -> Result<bool> {
    let mut noted = false;
    link::lsm().visit_versions(&key(txn), Expected::default(), &mut Vec::new(), &mut |_| {
        noted = true;
        Ok(std::ops::ControlFlow::Break(()))
    })?;
    Ok(noted)
}
