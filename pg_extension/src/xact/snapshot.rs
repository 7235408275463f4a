//! Snapshots of the server as the engine takes them.

use std::sync::Arc;

use pgrx::pg_sys::{self, SnapshotType};
use ssd_engine::base::ids::CommandId;
use ssd_engine::mvcc::snapshot::{Snapshot, TxnSnapshot};

use super::ids::widen;
use crate::error;

/// The engine's form of `snapshot`.
///
/// # Safety
/// `snapshot` is a live snapshot.
#[must_use]
pub unsafe fn convert(snapshot: pg_sys::Snapshot) -> Snapshot {
    // SAFETY: the caller's promise.
    let given = unsafe { &*snapshot };
    match given.snapshot_type {
        SnapshotType::SNAPSHOT_MVCC => Snapshot::At(TxnSnapshot {
            oldest: widen(given.xmin),
            next: widen(given.xmax),
            // Asked of the server, see `Status::ran_at`.
            running: Arc::default(),
            command: CommandId(given.curcid),
        }),
        SnapshotType::SNAPSHOT_SELF => Snapshot::Now,
        SnapshotType::SNAPSHOT_ANY => Snapshot::Any,
        SnapshotType::SNAPSHOT_DIRTY => Snapshot::Dirty,
        SnapshotType::SNAPSHOT_NON_VACUUMABLE => {
            // SAFETY: guarded; such a snapshot has it.
            let horizon = unsafe { pg_sys::GlobalVisTestNonRemovableHorizon(given.vistest) };
            Snapshot::NonVacuumable(widen(horizon))
        }
        SnapshotType::SNAPSHOT_HISTORIC_MVCC => error::unsupported("reading with a historic snapshot"),
        _ => error::unsupported("this kind of snapshot"),
    }
}

/// Whether the present transaction has to tell the server what it reads and changes.
#[inline]
#[must_use]
pub fn is_serializable() -> bool {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32 }
}
