//! A tree: one ordered key space, and what can be done with its keys.

use std::cell::RefCell;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::base::ids::{SeqNo, TreeId};
use crate::base::key::{full_key, prefix_successor, push_tree_prefix};
use crate::db::batch::WriteBatch;
use crate::db::core::Core;
use crate::db::engine::Engine;
use crate::db::scan::TreeScan;
use crate::db::snapshot::Snapshot;
use crate::error::Result;
use crate::lsm::merge::Direction;
use crate::lsm::scan::Scan;
use crate::options::WriteOptions;

thread_local! {
    /// Single writes build their batch here; point reads their full key.
    static BATCH: RefCell<WriteBatch> = RefCell::new(WriteBatch::new());
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One ordered key space of an engine. Cheap to clone; usable from any thread.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
/// let tree = engine.tree("fruit")?;
/// tree.put(b"apple", b"red")?;
/// tree.put(b"pear", b"green")?;
/// assert_eq!(tree.get(b"apple")?.as_deref(), Some(&b"red"[..]));
/// let keys: Vec<_> = tree.scan(b"b".to_vec()..)?.map(|row| Ok(row?.0)).collect::<ssd_engine::Result<_>>()?;
/// assert_eq!(keys, [b"pear"]);
/// # Ok::<(), ssd_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Tree {
    core: Arc<Core>,
    id: TreeId,
    prefix: Vec<u8>,
}

impl Tree {
    pub(crate) fn new(core: Arc<Core>, id: TreeId) -> Self {
        let mut prefix = Vec::new();
        push_tree_prefix(&mut prefix, id);
        Self { core, id, prefix }
    }

    /// The number that names this tree for ever.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// assert_eq!(engine.tree("fruit")?.id(), tree.id());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub const fn id(&self) -> TreeId {
        self.id
    }

    /// Sets `key` to `value`. Survives the death of the process; for the machine's see [`put_with`](Self::put_with).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// tree.put(b"apple", b"green")?;
    /// assert_eq!(tree.get(b"apple")?.as_deref(), Some(&b"green"[..]));
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage (a key or value that is too long), I/O, closed.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_with(key, value, WriteOptions::default())
    }

    /// Sets `key` to `value`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put_with(b"apple", b"red", ssd_engine::WriteOptions::SYNC)?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_with(&self, key: &[u8], value: &[u8], options: WriteOptions) -> Result<()> {
        self.write_one(options, |batch| {
            batch.put(self, key, value);
        })
    }

    /// Removes `key`; fine when it has no value.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// tree.delete(b"apple")?;
    /// assert_eq!(tree.get(b"apple")?, None);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.delete_with(key, WriteOptions::default())
    }

    /// Removes `key`; fine when it has no value.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.delete_with(b"apple", ssd_engine::WriteOptions::SYNC)?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete_with(&self, key: &[u8], options: WriteOptions) -> Result<()> {
        self.write_one(options, |batch| {
            batch.delete(self, key);
        })
    }

    /// Removes every key from `start` (inclusive) to `end` (exclusive).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// for key in ["apple", "banana", "cherry"] {
    ///     tree.put(key.as_bytes(), b"")?;
    /// }
    /// tree.delete_range(b"apple", b"cherry")?;
    /// assert_eq!(tree.scan::<Vec<u8>>(..)?.count(), 1);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage (an empty range), I/O, closed.
    pub fn delete_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.write_one(WriteOptions::default(), |batch| {
            batch.delete_range(self, start, end);
        })
    }

    fn write_one(&self, options: WriteOptions, fill: impl FnOnce(&mut WriteBatch)) -> Result<()> {
        BATCH.with_borrow_mut(|batch| {
            batch.clear();
            fill(batch);
            let bytes = batch.encoded()?;
            self.core.lsm.write(bytes, batch.len(), options.durability)
        })
    }

    /// The value of `key`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// assert_eq!(tree.get(b"apple")?.as_deref(), Some(&b"red"[..]));
    /// assert_eq!(tree.get(b"pear")?, None);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = Vec::new();
        Ok(self.get_into(key, &mut value)?.then_some(value))
    }

    /// Appends the value of `key` to `value`; whether there is one. Saves the allocation of [`get`](Self::get).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// let mut value = Vec::new();
    /// assert!(tree.get_into(b"apple", &mut value)? && value == b"red");
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.with_full_key(key, |full| self.core.lsm.get(full, None, value))
    }

    /// The value of `key` as `snapshot` sees it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// let before = engine.snapshot()?;
    /// tree.put(b"apple", b"red")?;
    /// assert_eq!(tree.get_at(b"apple", &before)?, None);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn get_at(&self, key: &[u8], snapshot: &Snapshot) -> Result<Option<Vec<u8>>> {
        let mut value = Vec::new();
        let seqno = Some(snapshot.seqno());
        let found = self.with_full_key(key, |full| self.core.lsm.get(full, seqno, &mut value))?;
        Ok(found.then_some(value))
    }

    /// The values of `keys`, in their order, as of one moment. Reads from the device overlap, so this is much faster than
    /// as many calls of [`get`](Self::get) when the data is not cached.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// assert_eq!(tree.multi_get(&["apple", "pear"])?, [Some(b"red".to_vec()), None]);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn multi_get(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>> {
        let full: Vec<_> = keys.iter().map(|key| full_key(self.id, key.as_ref())).collect();
        self.core.lsm.multi_get(&full, None)
    }

    fn with_full_key<R>(&self, key: &[u8], run: impl FnOnce(&[u8]) -> R) -> R {
        KEY.with_borrow_mut(|full| {
            full.clear();
            full.extend_from_slice(&self.prefix);
            full.extend_from_slice(key);
            run(full)
        })
    }

    /// The rows with keys in `range`, ascending, as of now.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// tree.put(b"pear", b"green")?;
    /// for row in tree.scan(b"a".to_vec()..b"c".to_vec())? {
    ///     let (key, value) = row?;
    ///     assert_eq!((key.as_slice(), value.as_slice()), (&b"apple"[..], &b"red"[..]));
    /// }
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage when too many scans are open.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<TreeScan> {
        self.scan_in(&range, Direction::Forward, None)
    }

    /// The rows with keys in `range`, descending, as of now.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// tree.put(b"pear", b"green")?;
    /// let last = tree.scan_backward::<Vec<u8>>(..)?.next().transpose()?;
    /// assert_eq!(last, Some((b"pear".to_vec(), b"green".to_vec())));
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage when too many scans are open.
    pub fn scan_backward<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<TreeScan> {
        self.scan_in(&range, Direction::Backward, None)
    }

    /// The rows with keys in `range`, ascending, as `snapshot` sees them.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// let before = engine.snapshot()?;
    /// tree.put(b"pear", b"green")?;
    /// assert_eq!(tree.scan_at::<Vec<u8>>(.., &before)?.count(), 1);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// None at present; reserved for limits.
    pub fn scan_at<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>, snapshot: &Snapshot) -> Result<TreeScan> {
        self.scan_in(&range, Direction::Forward, Some(snapshot.clone()))
    }

    fn scan_in<K: AsRef<[u8]>>(
        &self,
        range: &impl RangeBounds<K>,
        direction: Direction,
        snapshot: Option<Snapshot>,
    ) -> Result<TreeScan> {
        let full = |key: &K| full_key(self.id, key.as_ref());
        // The successor of a key is the key with a zero byte behind it.
        let after = |key: &K| {
            let mut out = full(key);
            out.push(0);
            out
        };
        let from = match range.start_bound() {
            Bound::Included(key) => full(key),
            Bound::Excluded(key) => after(key),
            Bound::Unbounded => self.prefix.clone(),
        };
        let to = match range.end_bound() {
            Bound::Included(key) => Some(after(key)),
            Bound::Excluded(key) => Some(full(key)),
            Bound::Unbounded => prefix_successor(&self.prefix),
        };
        let seqno: Option<SeqNo> = snapshot.as_ref().map(Snapshot::seqno);
        let scan = Scan::new(Arc::clone(&self.core.lsm), from, to, direction, seqno)?;
        Ok(TreeScan::new(Arc::clone(&self.core), scan, self.prefix.len(), snapshot))
    }

    /// The engine this tree belongs to.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// # let tree = engine.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// tree.engine().sync()?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub fn engine(&self) -> Engine {
        Engine::from_core(Arc::clone(&self.core))
    }
}
