//! A real directory with a small engine in it, and what to expect of errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ssd_engine::{Class, Engine, Error, Options, Tree};

/// Small, and quick to open.
pub(crate) fn options() -> Options {
    Options {
        memtable_bytes: 1 << 20,
        memtables: 2,
        cache_bytes: 1 << 20,
        block_bytes: 4 << 10,
        background_threads: 0,
        log_segment_bytes: 64 << 10,
        log_ring_bytes: 64 << 10,
        disk_reserve_bytes: 0,
        ..Options::default()
    }
}

pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// An engine with 500 rows in an SST, closed.
    pub(crate) fn closed() -> Self {
        let place = Self::empty();
        place.engine().close().unwrap();
        place
    }

    /// The same with a further row that only the log has, synced; its process died.
    pub(crate) fn unclosed() -> Self {
        let place = Self::empty();
        let engine = place.engine();
        tree(&engine).put_with(b"late", b"row", ssd_engine::WriteOptions::SYNC).unwrap();
        place
    }

    fn engine(&self) -> Engine {
        let engine = self.open().unwrap();
        let tree = tree(&engine);
        for number in 0..500u64 {
            let noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes().repeat(8);
            tree.put(format!("{number:04}").as_bytes(), &noise).unwrap();
        }
        engine.flush().unwrap();
        engine
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn open(&self) -> Result<Engine, Error> {
        Engine::open(self.db(), options())
    }

    /// The only file of the engine whose name has these ends.
    pub(crate) fn file(&self, start: &str, end: &str) -> PathBuf {
        let found = |path: &&PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(start) && name.ends_with(end)
        };
        contents(&self.db()).keys().filter(found).max().expect("there is such a file").clone()
    }

    /// Opens and checks that all rows are there.
    pub(crate) fn assert_whole(&self) {
        let engine = self.open().unwrap();
        assert!(rows(&tree(&engine)) >= 500);
        engine.verify().unwrap();
        engine.close().unwrap();
    }
}

pub(crate) fn tree(engine: &Engine) -> Tree {
    engine.tree("rows").unwrap()
}

pub(crate) fn rows(tree: &Tree) -> usize {
    tree.scan::<Vec<u8>>(..).unwrap().map(Result::unwrap).count()
}

/// Every file below a directory, with its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Of those, what holds data: SSTs and log segments.
pub(crate) fn data(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = contents(dir);
    found.retain(|path, _| path.extension().is_some_and(|e| e == "sst" || e == "wal"));
    found
}

/// The error's text with its hint and sources, once its class is right.
pub(crate) fn refused<T>(outcome: Result<T, Error>, class: Class) -> String {
    let Err(error) = outcome else { panic!("no error") };
    let mut text = format!("{error} ({})", error.hint());
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    assert_eq!(error.class(), class, "{text}");
    if class == Class::Usage {
        assert!(!error.hint().is_empty(), "{text}");
    }
    text
}

/// Checks that the error is a corruption of `path` and says where.
pub(crate) fn assert_corrupt<T>(outcome: Result<T, Error>, path: &Path) {
    let text = refused(outcome, Class::Corruption);
    let place = format!("\"{}\" at offset ", path.display());
    assert!(text.contains(&place), "{text} does not name {}", path.display());
}

pub(crate) fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

pub(crate) fn cut(path: &Path, len: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

pub(crate) fn len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}
