//! A batch of writes that takes effect as a whole.

use crate::base::key::{Kind, push_tree_prefix};
use crate::base::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::db::tree::Tree;
use crate::error::{Error, Result};
use crate::format::batch::{Op, push_op};

/// Puts and deletes in any number of trees that become visible, and durable, together.
///
/// Operations apply in the order they were added. A key or value that is too long, or a range that is empty, is reported
/// by [`Engine::write`](crate::Engine::write), and then nothing of the batch is written.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
/// let accounts = engine.tree("accounts")?;
/// let mut batch = ssd_engine::WriteBatch::new();
/// batch.put(&accounts, b"alice", b"90");
/// batch.put(&accounts, b"bob", b"110");
/// engine.write(&batch, ssd_engine::WriteOptions::SYNC)?;
/// # Ok::<(), ssd_engine::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    count: u64,
    key: Vec<u8>,
    error: Option<Error>,
}

impl WriteBatch {
    /// An empty batch.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// assert!(batch.is_empty());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// batch.put(&tree, b"apple", b"red").put(&tree, b"pear", b"green");
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    pub fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> &mut Self {
        self.push(tree, Kind::Put, key, value)
    }

    /// Removes `key`; fine when it has no value.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// batch.delete(&tree, b"apple");
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    pub fn delete(&mut self, tree: &Tree, key: &[u8]) -> &mut Self {
        self.push(tree, Kind::Delete, key, &[])
    }

    /// Removes every key from `start` (inclusive) to `end` (exclusive), in time that does not depend on how many there are.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// batch.delete_range(&tree, b"a", b"c");
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    pub fn delete_range(&mut self, tree: &Tree, start: &[u8], end: &[u8]) -> &mut Self {
        if start >= end {
            self.error.get_or_insert_with(|| {
                Error::usage("range to delete is empty", "The start must be below the end, which is not included.")
            });
            return self;
        }
        if let Err(error) = check_lengths(end, &[]) {
            self.error.get_or_insert(error);
            return self;
        }
        let mut full_end = Vec::with_capacity(end.len() + 9);
        push_tree_prefix(&mut full_end, tree.id());
        full_end.extend_from_slice(end);
        self.push(tree, Kind::RangeDelete, start, &full_end)
    }

    fn push(&mut self, tree: &Tree, kind: Kind, key: &[u8], value: &[u8]) -> &mut Self {
        if let Err(error) = check_lengths(key, value) {
            self.error.get_or_insert(error);
            return self;
        }
        self.key.clear();
        push_tree_prefix(&mut self.key, tree.id());
        self.key.extend_from_slice(key);
        self.push_full(kind, value)
    }

    fn push_full(&mut self, kind: Kind, value: &[u8]) -> &mut Self {
        push_op(&mut self.bytes, Op { kind, key: &self.key, value });
        self.count += 1;
        self
    }

    /// Removes everything that is under `prefix`, a full-key prefix with the successor `end`.
    pub(crate) fn delete_full_range(&mut self, start: &[u8], end: &[u8]) -> &mut Self {
        self.key.clear();
        self.key.extend_from_slice(start);
        self.push_full(Kind::RangeDelete, end)
    }

    /// Number of operations.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// batch.put(&tree, b"apple", b"red").delete(&tree, b"pear");
    /// assert_eq!(batch.len(), 2);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether the batch has no operations.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// assert!(batch.is_empty());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes the batch takes in the log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// batch.put(&tree, b"apple", b"red");
    /// assert!(batch.byte_len() >= 8);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all operations, keeping the memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// # let mut batch = ssd_engine::WriteBatch::new();
    /// batch.put(&tree, b"apple", b"red");
    /// batch.clear();
    /// assert!(batch.is_empty());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.error = None;
    }

    /// The batch as bytes.
    ///
    /// # Errors
    /// Usage, for the first operation that was not allowed.
    pub(crate) fn encoded(&self) -> Result<&[u8]> {
        match &self.error {
            None => Ok(&self.bytes),
            Some(error) => Err(Error::usage(error.to_string(), error.hint())),
        }
    }
}

pub(crate) fn check_lengths(key: &[u8], value: &[u8]) -> Result<()> {
    if key.len() > KEY_LEN_MAX {
        return Err(Error::usage(
            format!("key has {} bytes", key.len()),
            format!("A key may have at most {KEY_LEN_MAX} bytes."),
        ));
    }
    if value.len() > VALUE_LEN_MAX {
        return Err(Error::usage(
            format!("value has {} bytes", value.len()),
            format!("A value may have at most {VALUE_LEN_MAX} bytes; split it over several keys."),
        ));
    }
    Ok(())
}
