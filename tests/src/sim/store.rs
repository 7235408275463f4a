//! An engine beside its model: each operation is done to both, and whatever is read is compared.
//!
//! An operation returns the engine's error; a difference between engine and model panics. What drives the operations, and
//! what an error means, is the caller's: the simulator in `run`, the exhaustive fault tests in `faults`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ssd_engine::env::Env;
use ssd_engine::env::memory::{Crash, MemoryEnv};
use ssd_engine::{Engine, Error, Options, Snapshot, Tree, TreeScan, WriteBatch, WriteOptions};

use crate::rng::Rng;
use crate::sim::check::{Row, compare, describe, read_all};
use crate::sim::digest::Digest;
use crate::sim::model::{Model, Op, State};
use crate::sim::workload::{self, NUMBER_KEY, TREES};
use crate::simulator::Failure;

mod reads;

/// Where the engine lives.
pub const DIR: &str = "/db";

/// A scan that stays open while the engine changes, and the rows it has yet to show.
struct LongScan {
    scan: TreeScan,
    rest: std::vec::IntoIter<Row>,
}

/// An open engine and what was taken from it.
pub(crate) struct Open {
    pub(crate) engine: Engine,
    pub(crate) trees: Vec<Tree>,
    /// Trees that were dropped and could not be made again yet.
    gone: Vec<usize>,
    snapshots: Vec<(Snapshot, State)>,
    scans: Vec<LongScan>,
}

/// An engine in a simulated world, and its model.
pub struct Store {
    /// The world.
    pub env: Arc<MemoryEnv>,
    /// The options it is opened with; `env` is set.
    pub options: Options,
    /// What it should hold.
    pub model: Model,
    /// Chance, for the operations.
    pub rng: Rng,
    /// All that was read.
    pub digest: Digest,
    pub(crate) open: Option<Open>,
    copies: u32,
}

impl Store {
    /// A store that was never opened.
    #[must_use]
    pub fn new(env: Arc<MemoryEnv>, mut options: Options, rng: Rng) -> Self {
        options.env = Some(env.clone());
        Self { env, options, model: Model::default(), rng, digest: Digest::default(), open: None, copies: 0 }
    }

    /// The open engine.
    ///
    /// # Panics
    /// When it is not open.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.opened().engine
    }

    fn opened(&self) -> &Open {
        self.open.as_ref().expect("open between steps")
    }

    /// Opens the engine and its trees.
    ///
    /// # Errors
    /// What the engine says.
    pub fn open(&mut self) -> Result<(), Error> {
        let engine = Engine::open(Path::new(DIR), self.options.clone())?;
        let trees = open_trees(&engine)?;
        self.open = Some(Open { engine, trees, gone: Vec::new(), snapshots: Vec::new(), scans: Vec::new() });
        Ok(())
    }

    /// Closes the engine in good order: all of it is durable then.
    ///
    /// # Errors
    /// What the engine says.
    pub fn close(&mut self) -> Result<(), Error> {
        let Open { engine, trees, snapshots, scans, .. } = self.open.take().expect("open between steps");
        drop((trees, snapshots, scans));
        engine.close()?;
        self.model.synced();
        Ok(())
    }

    /// Ends the process or the machine. The handles of a dead process are never dropped in order; here they must be, but
    /// against a dead disk.
    pub fn crash(&mut self, how: Crash) {
        self.env.crash(how);
        self.open = None;
    }

    /// Checks what a just opened engine has recovered, and makes the model forget what did not survive.
    ///
    /// # Errors
    /// When it is not a prefix of the batches that has all that must be there.
    pub fn check_recovered(&mut self, machine_died: bool) -> Result<(), Failure> {
        let number = self.number().map_err(|error| describe(&error))?;
        let found = read_all(&self.opened().trees).map_err(|error| describe(&error))?;
        self.match_prefix(number, &found, machine_died)
    }

    fn match_prefix(&mut self, number: usize, found: &[Vec<Row>], machine_died: bool) -> Result<(), Failure> {
        let (least, most) = self.model.expected(machine_died);
        let mut why = format!("expected {least} to {most}");
        for count in self.model.counts_of(number).filter(|count| (least..=most).contains(count)) {
            match compare(found, &self.model.state_after(count)) {
                None => {
                    self.model.cut(count);
                    return Ok(());
                }
                Some(difference) => why = difference,
            }
        }
        Err(format!("recovered batch {number} (machine died: {machine_died}): {why}"))
    }

    /// As [`check_recovered`](Self::check_recovered), for an engine whose disk may fail during the look.
    ///
    /// # Errors
    /// What the engine says when it is read.
    ///
    /// # Panics
    /// When it has not recovered what it must have.
    pub fn check_all_or_prefix(&mut self, machine_died: bool) -> Result<(), Error> {
        let found = read_all(&self.opened().trees)?;
        let number = self.number()?;
        match self.match_prefix(number, &found, machine_died) {
            Ok(()) => Ok(()),
            Err(what) => panic!("{what}"),
        }
    }

    /// The number of the newest batch that the engine shows.
    fn number(&self) -> Result<usize, Error> {
        let number = self.opened().trees[0].get(NUMBER_KEY)?;
        Ok(number.map_or(0, |text| String::from_utf8_lossy(&text).parse().unwrap_or(usize::MAX)))
    }

    /// After a failed write or drop: sees whether it took effect. An engine that cannot be read leaves it open.
    ///
    /// # Errors
    /// When the engine shows neither the state before nor the one after.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let (least, most) = self.model.expected(false);
        if self.open.is_none() || least == most {
            return Ok(());
        }
        let Ok(found) = read_all(&self.opened().trees) else { return Ok(()) };
        let Some(difference) = compare(&found, self.model.state()) else { return Ok(()) };
        // An engine that shut for writing may have come to keep the batch all the same: the next open tells.
        if self.engine().check_open().is_err() && !self.model.is_last_hidden() {
            self.model.hide_last();
        } else {
            self.model.withdraw();
        }
        match compare(&found, self.model.state()) {
            None => Ok(()),
            Some(without) => Err(format!("a failed batch is there in part: {difference}; {without}")),
        }
    }

    /// Compares all trees with the model.
    ///
    /// # Errors
    /// What the engine says.
    ///
    /// # Panics
    /// When they differ.
    pub fn check_all(&mut self) -> Result<(), Error> {
        let found = read_all(&self.opened().trees)?;
        if let Some(difference) = compare(&found, self.model.state()) {
            panic!("whole {difference}");
        }
        self.digest.add(found.iter().flatten());
        Ok(())
    }

    /// Writes a random batch.
    ///
    /// # Errors
    /// What the engine says.
    pub fn write(&mut self) -> Result<(), Error> {
        let ops = workload::batch(&mut self.rng, &self.model);
        let durable = self.rng.one_in(10);
        self.write_ops(ops, durable)
    }

    /// Writes a batch, which must set its number.
    ///
    /// # Errors
    /// What the engine says.
    pub fn write_ops(&mut self, ops: Vec<Op>, durable: bool) -> Result<(), Error> {
        self.make_trees()?;
        let open = self.opened();
        let mut batch = WriteBatch::new();
        for op in &ops {
            match op {
                Op::Put((tree, key), value) => batch.put(&open.trees[*tree], key, value),
                Op::Delete((tree, key)) => batch.delete(&open.trees[*tree], key),
                Op::DeleteRange(tree, start, end) => batch.delete_range(&open.trees[*tree], start, end),
                Op::DropTree(_) => unreachable!("drops are not part of batches"),
            };
        }
        self.model.send(ops);
        let options = if durable { WriteOptions::SYNC } else { WriteOptions::default() };
        self.engine().write(&batch, options)?;
        if self.env.faults().is_crashed() {
            // Nobody was told: memory shared with a process that died in between says nothing to anybody.
            return Err(Error::Closed("the simulated process has died".to_owned()));
        }
        self.model.acknowledge(durable);
        Ok(())
    }

    /// Drops a tree and makes it anew.
    ///
    /// # Errors
    /// What the engine says.
    ///
    /// # Panics
    /// When the old handle still shows rows.
    pub fn drop_tree(&mut self, tree: usize) -> Result<(), Error> {
        self.make_trees()?;
        self.model.send(vec![Op::DropTree(tree)]);
        let open = self.open.as_mut().expect("open between steps");
        open.engine.drop_tree(&open.trees[tree])?;
        self.model.acknowledge(true);
        open.gone.push(tree);
        // The tree that is made anew does not show what snapshots have of the old one; open scans go on with that.
        open.snapshots.clear();
        assert!(open.trees[tree].scan::<Vec<u8>>(..)?.next().transpose()?.is_none(), "a dropped tree has rows");
        self.make_trees()
    }

    fn make_trees(&mut self) -> Result<(), Error> {
        let open = self.open.as_mut().expect("open between steps");
        while let Some(&tree) = open.gone.last() {
            open.trees[tree] = open.engine.tree(name_of(tree))?;
            open.gone.pop();
        }
        Ok(())
    }

    /// Does up to `count` pieces of background work.
    ///
    /// # Errors
    /// What the engine says.
    pub fn jobs(&mut self, count: u64) -> Result<(), Error> {
        for _ in 0..count {
            if !self.engine().run_next_job()? {
                break;
            }
        }
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// What the engine says.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.engine().sync()?;
        self.model.synced();
        Ok(())
    }

    /// Makes a copy, opens it, compares it, and removes it.
    ///
    /// # Errors
    /// What the engine says.
    ///
    /// # Panics
    /// When the copy differs from the model.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.copies += 1;
        let dir = PathBuf::from(format!("/copy-{}", self.copies));
        self.engine().checkpoint(&dir)?;
        {
            let copy = Engine::open(&dir, self.options.clone())?;
            let found = read_all(&open_trees(&copy)?)?;
            if let Some(difference) = compare(&found, self.model.state()) {
                panic!("the copy: {difference}");
            }
            copy.verify()?;
            copy.close()?;
        }
        for name in self.env.list(&dir)? {
            self.env.remove(&dir.join(name))?;
        }
        Ok(())
    }
}

fn name_of(tree: usize) -> String {
    format!("tree {tree}")
}

fn open_trees(engine: &Engine) -> Result<Vec<Tree>, Error> {
    (0..TREES).map(|at| engine.tree(name_of(at))).collect()
}
