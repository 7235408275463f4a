//! A consistent view of the whole engine at one moment.

use std::sync::Arc;

use crate::base::ids::SeqNo;
use crate::db::core::Core;
use crate::error::Result;
use crate::mem::snapshots::SnapshotHandle;

struct Registered {
    /// Keeps the engine open.
    core: Arc<Core>,
    /// Taken out by `drop` only.
    handle: Option<SnapshotHandle>,
    seqno: SeqNo,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.core.lsm.release_snapshot(handle);
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
    pub(crate) fn take(core: &Arc<Core>) -> Result<Self> {
        let handle = core.lsm.register_snapshot()?;
        let seqno = handle.seqno();
        Ok(Self { registered: Arc::new(Registered { core: Arc::clone(core), handle: Some(handle), seqno }) })
    }

    /// The largest sequence number that the snapshot sees.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let before = engine.snapshot()?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// assert!(engine.snapshot()?.seqno() > before.seqno());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub fn seqno(&self) -> SeqNo {
        self.registered.seqno
    }
}
