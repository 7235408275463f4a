//! A consistent view of the whole engine at one moment.

use std::sync::Arc;

use crate::base::ids::SeqNo;
use crate::error::Result;
use crate::lsm::Lsm;
use crate::mem::snapshots::SnapshotHandle;

struct Registered {
    lsm: Arc<Lsm>,
    /// Taken out by `drop` only.
    handle: Option<SnapshotHandle>,
    seqno: SeqNo,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.lsm.release_snapshot(handle);
        }
    }
}

/// What was visible when it was taken stays readable until the last clone is dropped. Overwritten versions that a snapshot
/// can see take space, so do not keep one longer than needed.
#[derive(Clone)]
pub struct Snapshot {
    registered: Arc<Registered>,
}

impl Snapshot {
    pub(crate) fn take(lsm: &Arc<Lsm>) -> Result<Self> {
        let handle = lsm.register_snapshot()?;
        let seqno = handle.seqno();
        Ok(Self { registered: Arc::new(Registered { lsm: Arc::clone(lsm), handle: Some(handle), seqno }) })
    }

    /// The largest sequence number that the snapshot sees.
    #[must_use]
    pub fn seqno(&self) -> SeqNo {
        self.registered.seqno
    }
}
