//! The engine handle: trees, batches, snapshots, and what an operator asks for.

use std::path::Path;
use std::sync::Arc;

use crate::base::ids::TreeId;
use crate::base::key::prefix_successor;
use crate::base::key::push_tree_prefix;
use crate::db::batch::WriteBatch;
use crate::db::core::Core;
use crate::db::open;
use crate::db::snapshot::Snapshot;
use crate::db::transactions::{is_system_name, reserved_name};
use crate::db::tree::Tree;
use crate::error::{Error, Result};
use crate::format::version_edit::{TreeEdit, VersionEdit};
use crate::lsm::Lsm;
use crate::lsm::row_host::TreeKind;
use crate::mem::region::Region;
use crate::options::{Durability, Options, WriteOptions};

/// An open engine. Cheap to clone; usable from any thread. It ends with [`close`](Self::close), or when the last handle
/// (trees, scans and snapshots are handles too) is dropped.
#[derive(Clone)]
pub struct Engine {
    pub(super) core: Arc<Core>,
}

impl Engine {
    /// Opens the engine in directory `path`, creating it when options allow, and recovers what was not closed cleanly.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use ssd_engine::{Engine, Options};
    ///
    /// let engine = Engine::open(dir.path().join("data"), Options { block_bytes: 16 << 10, ..Options::default() })?;
    /// engine.close()?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage: options out of range, a directory that holds something else, an engine that another process has open.
    /// Corruption, I/O: files that cannot be trusted or read; no data is changed then.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        open::open(path.as_ref(), options, None).map(Self::from_core_value)
    }

    /// As [`open`](Self::open), in a region that other processes can [`attach`](Self::attach) to. The region must be fresh
    /// and made for [`layout_of`](Self::layout_of) the same options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use ssd_engine::mem::region::Region;
    /// use ssd_engine::{Engine, Options};
    ///
    /// let options = Options::default();
    /// // Shared with children made by `fork`; `Region::attach` takes any memory that processes share.
    /// let region = Region::inherited(&Engine::layout_of(&options))?;
    /// let engine = Engine::open_shared(dir.path(), options, region)?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_shared(path: impl AsRef<Path>, options: Options, region: Region) -> Result<Self> {
        open::open(path.as_ref(), options, Some(region)).map(Self::from_core_value)
    }

    /// Joins an engine that another process has opened in `region` with the same options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use ssd_engine::mem::region::Region;
    /// # use ssd_engine::{Engine, Options};
    /// # let options = Options { background_threads: 0, ..Options::default() };
    /// # let region = Region::inherited(&Engine::layout_of(&options))?;
    /// let first = Engine::open_shared(dir.path(), options.clone(), region.clone())?;
    /// first.tree("fruit")?.put(b"apple", b"red")?;
    /// // In another process, over the same memory:
    /// let second = Engine::attach(dir.path(), options, region)?;
    /// assert!(second.tree("fruit")?.get(b"apple")?.is_some());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage when the region holds no open engine; I/O, corruption.
    pub fn attach(path: impl AsRef<Path>, options: Options, region: Region) -> Result<Self> {
        open::attach(path.as_ref(), options, region).map(Self::from_core_value)
    }

    /// The layout of a region for engines with these options.
    ///
    /// ```
    /// use ssd_engine::{Engine, Options};
    ///
    /// let layout = Engine::layout_of(&Options::default());
    /// assert!(layout.size() > 512 << 20);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub fn layout_of(options: &Options) -> crate::mem::region::Layout {
        crate::lsm::layout(options).0
    }

    fn from_core_value(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }

    pub(crate) const fn from_core(core: Arc<Core>) -> Self {
        Self { core }
    }

    pub(crate) fn lsm(&self) -> &Arc<Lsm> {
        &self.core.lsm
    }

    /// The tree called `name`, created when it does not exist. A name is any bytes, none included; those that start
    /// with a zero byte are the engine's own.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let fruit = engine.tree("fruit")?;
    /// assert_eq!(engine.tree("fruit")?.id(), fruit.id());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage: the name is too long. I/O, corruption, closed.
    pub fn tree(&self, name: impl AsRef<[u8]>) -> Result<Tree> {
        if is_system_name(name.as_ref()) {
            return Err(reserved_name(name.as_ref()));
        }
        let id = self.lsm().open_tree(name.as_ref(), TreeKind::Values)?;
        Ok(Tree::new(Arc::clone(&self.core), id))
    }

    /// The tree called `name`, when it exists.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// assert!(engine.find_tree(b"fruit")?.is_none());
    /// engine.tree("fruit")?;
    /// assert!(engine.find_tree(b"fruit")?.is_some());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn find_tree(&self, name: &[u8]) -> Result<Option<Tree>> {
        let found = self.lsm().find_tree(name)?.filter(|(_, kind)| *kind == TreeKind::Values);
        Ok(found.map(|(id, _)| Tree::new(Arc::clone(&self.core), id)))
    }

    /// Names and ids of all trees, by id.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let fruit = engine.tree("fruit")?;
    /// assert_eq!(engine.trees()?, [(fruit.id(), b"fruit".to_vec())]);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn trees(&self) -> Result<Vec<(TreeId, Vec<u8>)>> {
        let view = self.lsm().view_full()?;
        let trees = view.version.trees.iter().filter(|(_, meta)| !is_system_name(&meta.name));
        Ok(trees.map(|(&id, meta)| (id, meta.name.clone())).collect())
    }

    /// Removes a tree with everything in it. Its space is freed by compaction; handles to it see an empty tree.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let fruit = engine.tree("fruit")?;
    /// fruit.put(b"apple", b"red")?;
    /// engine.drop_tree(&fruit)?;
    /// assert!(engine.find_tree(b"fruit")?.is_none() && fruit.get(b"apple")?.is_none());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn drop_tree(&self, tree: &Tree) -> Result<()> {
        let mut start = Vec::new();
        push_tree_prefix(&mut start, tree.id());
        let end = prefix_successor(&start).expect("a tree prefix starts with a byte below 9");
        let mut batch = WriteBatch::new();
        batch.delete_full_range(&start, &end);
        // Synced first: after a crash there may be an empty tree with a name, never a nameless tree with rows.
        self.write(&batch, WriteOptions::SYNC)?;
        let claim = self.lsm().claim_manifest()?;
        self.lsm().catch_up_claimed(&claim)?;
        if self.lsm().local_view().version.trees.contains_key(&tree.id()) {
            let edit = VersionEdit { trees: vec![TreeEdit::Dropped { id: tree.id() }], ..VersionEdit::default() };
            self.lsm().install(&claim, edit)?;
        }
        Ok(())
    }

    /// Writes a batch atomically.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// use ssd_engine::{WriteBatch, WriteOptions};
    ///
    /// let fruit = engine.tree("fruit")?;
    /// let mut batch = WriteBatch::new();
    /// batch.put(&fruit, b"apple", b"red").delete(&fruit, b"pear");
    /// engine.write(&batch, WriteOptions::SYNC)?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage (an operation of the batch that is not allowed), I/O, closed; nothing is written then, with one exception: after
    /// an I/O error of a durable write, or one that shuts the engine for writing, the effect of this write is unknown until
    /// the engine is opened again.
    pub fn write(&self, batch: &WriteBatch, options: WriteOptions) -> Result<()> {
        self.lsm().write(batch.encoded()?, batch.len(), options.durability)
    }

    /// Makes everything written so far survive the death of the machine.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// engine.sync()?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, closed.
    pub fn sync(&self) -> Result<()> {
        self.lsm().check_not_closed()?;
        let log = self.lsm().log();
        log.flush(log.position())
    }

    /// A consistent view of all trees at this moment.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let fruit = engine.tree("fruit")?;
    /// fruit.put(b"apple", b"red")?;
    /// let before = engine.snapshot()?;
    /// fruit.put(b"apple", b"green")?;
    /// assert_eq!(fruit.get_at(b"apple", &before)?.as_deref(), Some(&b"red"[..]));
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage when too many are open.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.core)
    }

    /// Does one piece of background work (a flush, a compaction, a deletion); whether there was any. For hosts that set
    /// option `background_threads` to 0.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use ssd_engine::{Engine, Options};
    ///
    /// let engine = Engine::open(dir.path(), Options { background_threads: 0, ..Options::default() })?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// while engine.run_next_job()? {}
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption: the work is undone and may be tried again.
    pub fn run_next_job(&self) -> Result<bool> {
        self.lsm().run_next_job()
    }

    /// Whether `durability` needs a sync; exposed for hosts that batch their own.
    ///
    /// ```
    /// use ssd_engine::{Durability, Engine};
    ///
    /// assert!(Engine::is_synced(Durability::Machine) && !Engine::is_synced(Durability::Process));
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub const fn is_synced(durability: Durability) -> bool {
        matches!(durability, Durability::Machine)
    }

    /// Fails when the engine is closed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// engine.check_open()?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Closed.
    pub fn check_open(&self) -> Result<()> {
        self.lsm().check_open()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.core.lsm.dir.display())
    }
}

/// The error when a directory cannot become an engine.
pub(crate) fn not_empty(path: &Path) -> Error {
    Error::usage(
        format!("directory \"{}\" holds something else", path.display()),
        "Open an empty or missing directory, or one that an engine was created in.",
    )
}
