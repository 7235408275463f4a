//! The engine handle: trees, batches, snapshots, and what an operator asks for.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::ids::TreeId;
use crate::base::key::prefix_successor;
use crate::base::key::push_tree_prefix;
use crate::db::background::Background;
use crate::db::batch::WriteBatch;
use crate::db::open;
use crate::db::snapshot::Snapshot;
use crate::db::tree::Tree;
use crate::env::DirLock;
use crate::error::{Error, Result};
use crate::format::version_edit::{TreeEdit, VersionEdit};
use crate::lsm::Lsm;
use crate::mem::region::Region;
use crate::options::{Durability, Options, WriteOptions};

/// What all handles of one open engine share.
pub struct Core {
    pub(crate) lsm: Arc<Lsm>,
    background: Mutex<Option<Background>>,
    /// Held by the process that opened the directory; `None` in one that attached.
    lock: Mutex<Option<Box<dyn DirLock>>>,
}

impl Core {
    pub(crate) fn new(lsm: Arc<Lsm>, background: Option<Background>, lock: Option<Box<dyn DirLock>>) -> Self {
        Self { lsm, background: Mutex::new(background), lock: Mutex::new(lock) }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Nothing is lost without this: what is in memory is in the log. It only makes the next open faster.
        if let Some(background) = self.background.lock().take() {
            background.stop();
        }
    }
}

/// An open engine. Cheap to clone; usable from any thread. It closes when the last handle (trees, scans and snapshots are
/// handles too) is dropped, or by [`close`](Self::close).
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

impl Engine {
    /// Opens the engine in directory `path`, creating it when options allow, and recovers what was not closed cleanly.
    ///
    /// # Errors
    /// Usage: options out of range, a directory that holds something else, an engine that another process has open.
    /// Corruption, I/O: files that cannot be trusted or read; nothing is changed then.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        open::open(path.as_ref(), options, None).map(Self::from_core_value)
    }

    /// As [`open`](Self::open), in a region that other processes can [`attach`](Self::attach) to. The region must be fresh
    /// and made for [`layout_of`](Self::layout_of) the same options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_shared(path: impl AsRef<Path>, options: Options, region: Region) -> Result<Self> {
        open::open(path.as_ref(), options, Some(region)).map(Self::from_core_value)
    }

    /// Joins an engine that another process has opened in `region` with the same options.
    ///
    /// # Errors
    /// Usage when the region holds no open engine; I/O, corruption.
    pub fn attach(path: impl AsRef<Path>, options: Options, region: Region) -> Result<Self> {
        open::attach(path.as_ref(), options, region).map(Self::from_core_value)
    }

    /// The layout of a region for engines with these options.
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

    /// The tree called `name`, created when it does not exist.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn tree(&self, name: impl AsRef<[u8]>) -> Result<Tree> {
        let name = name.as_ref();
        if let Some(tree) = self.find_tree(name)? {
            return Ok(tree);
        }
        self.lsm().check_open()?;
        let claim = self.lsm().claim_manifest()?;
        self.lsm().catch_up_claimed(&claim)?;
        if let Some(tree) = self.find_tree(name)? {
            return Ok(tree);
        }
        let id = TreeId(self.lsm().local_view().version.next_tree);
        let edit = VersionEdit {
            trees: vec![TreeEdit::Created { id, name: name.to_vec(), options: Vec::new() }],
            ..VersionEdit::default()
        };
        self.lsm().install(&claim, edit)?;
        Ok(Tree::new(Arc::clone(&self.core), id))
    }

    /// The tree called `name`, when it exists.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn find_tree(&self, name: &[u8]) -> Result<Option<Tree>> {
        let view = self.lsm().view_full()?;
        let id = view.version.trees.iter().find(|(_, meta)| meta.name == name).map(|(&id, _)| id);
        Ok(id.map(|id| Tree::new(Arc::clone(&self.core), id)))
    }

    /// Names and ids of all trees, by id.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn trees(&self) -> Result<Vec<(TreeId, Vec<u8>)>> {
        let view = self.lsm().view_full()?;
        Ok(view.version.trees.iter().map(|(&id, meta)| (id, meta.name.clone())).collect())
    }

    /// Removes a tree with everything in it. Its space is freed by compaction; handles to it see an empty tree.
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
    /// # Errors
    /// Usage (an operation of the batch that is not allowed), I/O, closed; nothing is written then, with one exception: after
    /// an I/O error of a durable write, or one that shuts the engine for writing, the effect of this write is unknown until
    /// the engine is opened again.
    pub fn write(&self, batch: &WriteBatch, options: WriteOptions) -> Result<()> {
        self.lsm().write(batch.encoded()?, batch.len(), options.durability)
    }

    /// Makes everything written so far survive the death of the machine.
    ///
    /// # Errors
    /// I/O, closed.
    pub fn sync(&self) -> Result<()> {
        let log = self.lsm().log();
        log.flush(log.position())
    }

    /// A consistent view of all trees at this moment.
    ///
    /// # Errors
    /// Usage when too many are open.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(self.lsm())
    }

    /// Does one piece of background work (a flush, a compaction, a deletion); whether there was any. For hosts that set
    /// option `background_threads` to 0.
    ///
    /// # Errors
    /// I/O, corruption: the work is undone and may be tried again.
    pub fn run_next_job(&self) -> Result<bool> {
        self.lsm().run_next_job()
    }

    /// Ends background work, makes the log stable and gives the directory free. Dropping the last handle does the same but
    /// cannot report errors.
    ///
    /// # Errors
    /// I/O, closed: what was acknowledged as durable is safe all the same.
    pub fn close(self) -> Result<()> {
        if let Some(background) = self.core.background.lock().take() {
            background.stop();
        }
        // Also after a failure that shut the engine: the log may be as good as ever, and has what was acknowledged.
        let result = self.lsm().log().close();
        self.core.lock.lock().take();
        self.lsm().control().poison();
        result
    }

    /// Whether `durability` needs a sync; exposed for hosts that batch their own.
    #[must_use]
    pub const fn is_synced(durability: Durability) -> bool {
        matches!(durability, Durability::Machine)
    }

    /// Fails when the engine is closed.
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
