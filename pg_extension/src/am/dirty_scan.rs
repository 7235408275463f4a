//! Table scans with a dirty snapshot: what is committed and what is being written, each row with who is at it.
//!
//! A logical-replication subscriber looks rows up so when the table has no index for it, and waits for whoever stands in the
//! snapshot after a row was returned. So each version that is not over yet is a row of its own, as in a heap: the one before a running
//! change, with the changer as `xmax`, and the one that is being written, with its writer as `xmin`.

use std::collections::VecDeque;

use pgrx::pg_sys::{self, TableScanDesc, TupleTableSlot};
use ssd_engine::Result;
use ssd_engine::base::ids::TxnId;
use ssd_engine::format::row_version::{RowKind, Stamp};
use ssd_engine::mvcc::status::{TxnState, TxnStatus};

use super::scan::state;
use super::slot;
use crate::error::OrRaise;
use crate::link;
use crate::ops::groups::{Group, Groups};
use crate::ops::read::row_of;
use crate::ops::tid::Tid;
use crate::xact::ids::narrow;
use crate::xact::status::Status;

/// Where a dirty scan is.
#[derive(Default)]
pub struct DirtyScan {
    /// Rows still to be read; `None` before the first and after a restart.
    groups: Option<Groups>,
    /// Versions of the last one that are still to be returned.
    pending: VecDeque<Version>,
}

/// A version that a dirty scan returns.
struct Version {
    tid: Tid,
    stamp: Option<Stamp>,
    row: Vec<u8>,
    /// Who is inserting it.
    inserting: Option<TxnId>,
    /// Who is changing it.
    changing: Option<TxnId>,
    /// The token of a speculative insert, or 0.
    token: u32,
}

/// The next row into `slot`, and who is at it into the snapshot; false at the end.
///
/// # Safety
/// `scan` is a dirty one of ours, `slot` one of our slots.
pub unsafe fn advance(scan: TableScanDesc, slot: *mut TupleTableSlot) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let (rel, snapshot) = ((*scan).rs_rd, &mut *(*scan).rs_snapshot);
        (snapshot.xmin, snapshot.xmax) = (pg_sys::InvalidTransactionId, pg_sys::InvalidTransactionId);
        snapshot.speculativeToken = 0;
        let state = state(scan);
        let tree = state.tree;
        let Some(dirty) = &mut state.dirty else { return false };
        let groups = dirty.groups.get_or_insert_with(|| Groups::new(link::lsm(), tree, 0, None));
        while dirty.pending.is_empty() {
            link::check_for_interrupts();
            let Some(group) = groups.next_group().or_raise() else { return false };
            dirty.pending = versions(group, &Status::now()).or_raise();
        }
        let Some(version) = dirty.pending.pop_front() else { return false };
        let xid = |txn: Option<TxnId>| txn.map_or(pg_sys::InvalidTransactionId, narrow);
        (snapshot.xmin, snapshot.xmax) = (xid(version.inserting), xid(version.changing));
        snapshot.speculativeToken = version.token;
        slot::store(slot, (*rel).rd_id, version.tid, (version.stamp, None), &version.row);
        true
    }
}

/// The versions of a row that a dirty scan returns.
fn versions(group: &Group, status: &dyn TxnStatus) -> Result<VecDeque<Version>> {
    let mut out = VecDeque::new();
    let mut changing = None;
    for version in group.live(status)? {
        let writer = version.stamp.map(|stamp| stamp.txn).filter(|&txn| !status.is_own(txn));
        let running = match writer {
            // Who rolled back since the group was read is as gone as those before.
            Some(txn) => match status.state(txn)? {
                TxnState::Aborted => continue,
                TxnState::InProgress => Some(txn),
                TxnState::Committed => None,
            },
            None => None,
        };
        // A speculative version that was confirmed has the confirmed one after it.
        let is_confirmed = version.kind == RowKind::Speculative
            && out.front().is_some_and(|newer: &Version| newer.tid.number == version.number);
        if version.kind.is_row() && !is_confirmed {
            let (token, row) = row_of(&version)?;
            out.push_front(Version {
                tid: Tid { root: group.root, number: version.number },
                stamp: version.stamp,
                row: row.to_vec(),
                inserting: running,
                // Of one that is being inserted the inserter is enough, as in a heap.
                changing: if running.is_some() { None } else { changing },
                token: if running.is_some() { token } else { 0 },
            });
        }
        if running.is_none() {
            break;
        }
        changing = running;
    }
    Ok(out)
}
