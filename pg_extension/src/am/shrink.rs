//! VACUUM of a table in which no row is left: gives its page and its places back, as a heap's empty pages are given back.

use pgrx::pg_sys;
use ssd_engine::base::ids::TxnId;

use super::ddl;
use super::relation::{is_logged, tree_of};
use crate::error::OrRaise;
use crate::link;
use crate::ops::numbers::{self, Extent};
use crate::wal;

/// Milliseconds between two tries to get the lock, and how often it is tried: the server's own patience.
const PAUSE_MS: i64 = 50;
const TRIES_MAX: u32 = 100;

/// Empties `rel`, in which nobody may see a row; whether it did. `before` is how far it had come when that was found, before its
/// indexes were cleaned: whoever has taken a place since may have left an index entry.
///
/// The lock is kept until the end of the transaction, when all processes hear that the page is gone.
///
/// # Safety
/// `rel` is open, for a VACUUM.
pub unsafe fn empty_if_unused(rel: pg_sys::Relation, before: Extent, oldest: TxnId) -> bool {
    // SAFETY: guarded; the caller's promise.
    unsafe {
        // As the server has it: old snapshots that are cancelled by age look at pages.
        if before == Extent::default() || pg_sys::old_snapshot_threshold >= 0 || !lock(rel) {
            return false;
        }
        if numbers::extent(link::lsm(), tree_of(rel)).or_raise() != before {
            pg_sys::UnlockRelation(rel, pg_sys::AccessExclusiveLock as i32);
            return false;
        }
        if is_logged(rel) {
            wal::log_conflict(&(*rel).rd_node, oldest);
        }
        ddl::empty(rel);
        pg_sys::CacheInvalidateRelcache(rel);
        true
    }
}

/// Takes the strongest lock if nobody is in the way for long.
unsafe fn lock(rel: pg_sys::Relation) -> bool {
    for _ in 0..TRIES_MAX {
        // SAFETY: guarded; the relation is open.
        if unsafe { pg_sys::ConditionalLockRelation(rel, pg_sys::AccessExclusiveLock as i32) } {
            return true;
        }
        link::check_for_interrupts();
        // SAFETY: guarded; this process's own latch.
        unsafe {
            let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, PAUSE_MS, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
    false
}
