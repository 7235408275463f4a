//! What an operator asks for: flush, compact, checkpoint, verify, statistics.

use std::path::Path;

use crate::base::ids::FileNumber;
use crate::cache::CacheStats;
use crate::db::engine::{Engine, not_empty};
use crate::db::open::list_if_there;
use crate::error::Result;
pub use crate::lsm::report::LevelStats;
use crate::lsm::stats::Counter;
use crate::manifest::Manifest;
use crate::wal::LogStats;

/// What the engine has done and what it holds; see [`Engine::stats`].
#[derive(Clone, Debug)]
pub struct EngineStats {
    /// The counters by name.
    pub counters: Vec<(&'static str, u64)>,
    /// Files and bytes of each level.
    pub levels: Vec<LevelStats>,
    /// The block cache.
    pub cache: CacheStats,
    /// The log.
    pub log: LogStats,
    /// Memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Bytes of user data written since the engine was opened: batches, as they are in the log.
    pub user_bytes: u64,
    /// Bytes written to the device for them: log, flushes, compactions, manifest.
    pub device_bytes: u64,
}

impl EngineStats {
    /// Bytes written to the device per byte of user data; 0 before anything was written.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let stats = engine.stats()?;
    /// assert_eq!(stats.write_amplification(), 0.0);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        if self.user_bytes == 0 { 0.0 } else { self.device_bytes as f64 / self.user_bytes as f64 }
    }
}

impl Engine {
    /// Writes all memtables to SSTs, so that the next open has no log to replay.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// engine.flush()?;
    /// assert_eq!(engine.stats()?.levels[0].files, 1);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, closed.
    pub fn flush(&self) -> Result<()> {
        let lsm = self.lsm();
        let list = lsm.memtable_list();
        if lsm.memtables.get(list.active()).entries() > 0 {
            lsm.rotate(list)?;
        }
        let target = lsm.memtables.get(lsm.memtable_list().active()).start();
        loop {
            lsm.check_open()?;
            let seen = lsm.control().progress.current();
            let waiting = lsm.memtable_list().oldest_immutable();
            if waiting.is_none_or(|index| lsm.memtables.get(index).start() >= target) {
                return Ok(());
            }
            if !lsm.flush_oldest()? {
                lsm.await_progress(seen)?;
            }
        }
    }

    /// Flushes, then waits until no background work is left to do.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// engine.settle()?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, closed.
    pub fn settle(&self) -> Result<()> {
        self.flush()?;
        let lsm = self.lsm();
        loop {
            lsm.check_open()?;
            let seen = lsm.control().progress.current();
            if !lsm.has_work()? {
                return Ok(());
            }
            lsm.await_progress(seen)?;
        }
    }

    /// Merges everything down to the last level: garbage that no snapshot needs is gone afterwards. Long on large engines.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let fruit = engine.tree("fruit")?;
    /// fruit.put(b"apple", b"red")?;
    /// fruit.delete(b"apple")?;
    /// engine.compact()?;
    /// assert!(engine.stats()?.levels.iter().all(|level| level.entries == 0));
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn compact(&self) -> Result<()> {
        self.flush()?;
        self.lsm().compact_all()
    }

    /// Makes `target`, a directory that must not exist or be empty, a copy of the engine as of now that can be opened on its
    /// own. Files are linked where the file system allows, so this is fast and takes little space.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path().join("data"), ssd_engine::Options::default())?;
    /// use ssd_engine::{Engine, Options};
    ///
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// let copy = dir.path().join("monday");
    /// engine.checkpoint(&copy)?;
    /// let copy = Engine::open(&copy, Options::default())?;
    /// assert!(copy.tree("fruit")?.get(b"apple")?.is_some());
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Usage: the directory is not empty. I/O; what was made of the copy stays and can be deleted.
    pub fn checkpoint(&self, target: impl AsRef<Path>) -> Result<()> {
        let (lsm, target) = (self.lsm(), target.as_ref());
        lsm.check_open()?;
        if list_if_there(&*lsm.env, target)?.is_some_and(|names| !names.is_empty()) {
            return Err(not_empty(target));
        }
        self.flush()?;
        lsm.env.create_dir(target)?;
        // Under the claim no version is installed, so no file of this one is removed.
        let claim = lsm.claim_manifest()?;
        lsm.catch_up_claimed(&claim)?;
        let view = lsm.local_view();
        for (_, file) in view.files() {
            let from = lsm.opener.path(file.meta.number);
            let name = crate::lsm::view::sst_name(file.meta.number);
            lsm.env.link(&from, &target.join(name))?;
        }
        let mut snapshot = view.version.snapshot_edit();
        let number = FileNumber(view.version.next_file);
        snapshot.next_file = Some(number.0 + 1);
        Manifest::create(&lsm.env, target, number, &snapshot)?;
        lsm.env.sync_dir(target)
    }

    /// Reads every block of every file and checks it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// engine.flush()?;
    /// engine.verify()?;
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first corruption found, naming file and offset; I/O.
    pub fn verify(&self) -> Result<()> {
        self.verify_with(&mut |_| {})
    }

    /// As [`verify`](Self::verify), telling the bytes checked since the last call now and then.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// engine.flush()?;
    /// let mut calls = 0;
    /// engine.verify_with(&mut |_| calls += 1)?;
    /// assert!(calls > 0);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_with(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let lsm = self.lsm();
        let view = lsm.view_full()?;
        for (_, file) in view.files() {
            let reader = {
                // The file may leave the version meanwhile; an open one stays readable.
                let _pin = lsm.pin_reader();
                match file.reader(&lsm.opener) {
                    Ok(reader) => std::sync::Arc::clone(reader),
                    Err(error) if lsm.local_view().files().any(|(_, f)| f.meta.number == file.meta.number) => {
                        return Err(error);
                    }
                    Err(_) => continue,
                }
            };
            reader.verify(progress)?;
        }
        Ok(())
    }

    /// Counters, levels, cache and log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// engine.tree("fruit")?.put(b"apple", b"red")?;
    /// let stats = engine.stats()?;
    /// assert!(stats.user_bytes > 0 && stats.levels.iter().all(|level| level.files == 0));
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O, corruption (of the manifest, when another process has moved on).
    pub fn stats(&self) -> Result<EngineStats> {
        let lsm = self.lsm();
        let stats = lsm.stats();
        let log = lsm.log().stats();
        let written = [Counter::FlushBytes, Counter::CompactionWriteBytes, Counter::ManifestBytes];
        Ok(EngineStats {
            counters: Counter::ALL.iter().map(|&counter| (counter.name(), stats.get(counter))).collect(),
            levels: lsm.level_stats()?,
            cache: lsm.cache.stats(),
            log,
            immutable_memtables: lsm.memtable_list().len().saturating_sub(1),
            user_bytes: stats.get(Counter::BytesWritten),
            device_bytes: log.written_bytes + written.iter().map(|&counter| stats.get(counter)).sum::<u64>(),
        })
    }
}
