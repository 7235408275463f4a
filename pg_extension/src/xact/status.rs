//! How far transactions have come, by the server's account.
//!
//! Final states are remembered per process: an end is final. Order matters where a state is not final: whoever is not listed
//! as running has written its end to the commit log before.

use std::cell::RefCell;

use pgrx::pg_sys;
use ssd_engine::Result;
use ssd_engine::base::ids::TxnId;
use ssd_engine::mvcc::snapshot::TxnSnapshot;
use ssd_engine::mvcc::status::{TxnState, TxnStatus};

use super::aborted;
use super::ids::narrow;
use crate::error::OrRaise;
use crate::ffi::externs;

const REMEMBERED: usize = 4096;
const COMMITTED: u64 = 1 << 63;

thread_local! {
    /// Ids that have ended, by their low bits, and whether they committed.
    static ENDED: RefCell<Box<[u64; REMEMBERED]>> = RefCell::new(Box::new([0; REMEMBERED]));
}

/// Answers as the present transaction, for readers with a given snapshot of the server.
pub struct Status {
    snapshot: *mut pg_sys::SnapshotData,
}

impl Status {
    /// Answers for whoever reads with `snapshot`, which may be null where no moment in the past is asked for.
    #[must_use]
    pub const fn new(snapshot: *mut pg_sys::SnapshotData) -> Self {
        Self { snapshot }
    }

    /// Answers for whoever changes rows as of now.
    #[must_use]
    pub const fn now() -> Self {
        Self::new(std::ptr::null_mut())
    }
}

/// The state of somebody else's transaction, or of one of this one's that was rolled back.
pub(crate) fn state_of(txn: TxnId) -> TxnState {
    // SAFETY: guarded.
    remembered(txn).unwrap_or_else(|| match unsafe { pg_sys::TransactionIdIsInProgress(narrow(txn)) } {
        true => TxnState::InProgress,
        false => ask_end(txn),
    })
}

/// How a transaction has ended, when this process knows or the server has forgotten it.
fn remembered(txn: TxnId) -> Option<TxnState> {
    let known = ENDED.with_borrow(|ended| ended[txn.0 as usize % REMEMBERED]);
    if known & !COMMITTED == txn.0 {
        return Some(end_of(known & COMMITTED != 0));
    }
    aborted::is_forgotten(txn).then(|| {
        let committed = !aborted::was_noted(txn).or_raise();
        remember(txn, committed);
        end_of(committed)
    })
}

/// How a transaction has ended that does not run any more, by the server's account.
fn ask_end(txn: TxnId) -> TxnState {
    // SAFETY: guarded.
    let committed = unsafe { pg_sys::TransactionIdDidCommit(narrow(txn)) };
    // SAFETY: set at start.
    if !unsafe { externs::RecoveryInProgress() } {
        remember(txn, committed);
    }
    end_of(committed)
}

fn remember(txn: TxnId, committed: bool) {
    let word = txn.0 | if committed { COMMITTED } else { 0 };
    ENDED.with_borrow_mut(|ended| ended[txn.0 as usize % REMEMBERED] = word);
}

const fn end_of(committed: bool) -> TxnState {
    if committed { TxnState::Committed } else { TxnState::Aborted }
}

impl TxnStatus for Status {
    #[inline]
    fn is_own(&self, txn: TxnId) -> bool {
        // SAFETY: see the externs.
        unsafe { externs::TransactionIdIsCurrentTransactionId(narrow(txn)) }
    }

    #[inline]
    fn state(&self, txn: TxnId) -> Result<TxnState> {
        Ok(state_of(txn))
    }

    fn end(&self, txn: TxnId) -> Result<TxnState> {
        if self.snapshot.is_null() {
            return self.state(txn);
        }
        Ok(remembered(txn).unwrap_or_else(|| ask_end(txn)))
    }

    fn ran_at(&self, txn: TxnId, snapshot: &TxnSnapshot) -> bool {
        if txn >= snapshot.next || txn < snapshot.oldest || self.snapshot.is_null() {
            return txn >= snapshot.oldest && snapshot.ran(txn);
        }
        // SAFETY: guarded; the snapshot lives as long as whoever reads with it.
        unsafe { pg_sys::XidInMVCCSnapshot(narrow(txn), self.snapshot) }
    }
}
