//! A scan over one tree, as rows of (key, value).

use std::sync::Arc;

use crate::db::core::Core;
use crate::db::snapshot::Snapshot;
use crate::error::Result;
use crate::lsm::scan::Scan;

/// Rows of a tree in key order. Holds nothing in the engine but its snapshot: it may stay open for as long as one likes.
pub struct TreeScan {
    scan: Scan,
    prefix_len: usize,
    /// Keeps what the scan sees from being collected.
    _snapshot: Option<Snapshot>,
    /// Keeps the engine open.
    _core: Arc<Core>,
}

impl TreeScan {
    pub(crate) const fn new(core: Arc<Core>, scan: Scan, prefix_len: usize, snapshot: Option<Snapshot>) -> Self {
        Self { scan, prefix_len, _snapshot: snapshot, _core: core }
    }

    /// The next row without copying it; `None` at the end.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// let mut scan = tree.scan::<Vec<u8>>(..)?;
    /// let mut bytes = 0;
    /// while let Some((key, value)) = scan.next_row()? {
    ///     bytes += key.len() + value.len();
    /// }
    /// assert_eq!(bytes, 8);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption, closed.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let prefix_len = self.prefix_len;
        Ok(self.scan.next_row()?.map(|(key, value)| (&key[prefix_len..], value)))
    }
}

impl Iterator for TreeScan {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).transpose()
    }
}
