//! Small directories in the simulated world, the same bytes each time, and the command run on them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ssd_engine::env::Env;
use ssd_engine::env::memory::{Crash, MemoryEnv};
use ssd_engine::{Engine, Options, WriteBatch, WriteOptions};

pub(crate) const DIR: &str = "/db";

/// A world with a directory in it.
pub(crate) struct Sample {
    pub(crate) env: Arc<MemoryEnv>,
}

/// What the command said.
pub(crate) struct Said {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn options(env: &Arc<MemoryEnv>) -> Options {
    Options {
        memtable_bytes: 128 << 10,
        memtables: 2,
        cache_bytes: 1 << 20,
        block_bytes: 4 << 10,
        background_threads: 0,
        log_segment_bytes: 16 << 10,
        log_ring_bytes: 64 << 10,
        disk_reserve_bytes: 0,
        env: Some(Arc::clone(env) as Arc<dyn Env>),
        ..Options::default()
    }
}

fn fill(engine: &Engine) -> ssd_engine::Result<()> {
    let (fruit, numbers) = (engine.tree("fruit")?, engine.tree("numbers")?);
    for number in 0..300u32 {
        let noise = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(number);
        numbers.put(format!("{number:04}").as_bytes(), format!("{noise:016x}{:016x}", noise ^ !0x5555).as_bytes())?;
    }
    fruit.put(b"apple", b"red")?;
    fruit.put(b"pear", b"green")?;
    engine.compact()?;
    while engine.run_next_job()? {}
    numbers.delete_range(b"0100", b"0150")?;
    numbers.delete(b"0007")?;
    fruit.put(b"apple", b"yellow")?;
    engine.flush()
}

impl Sample {
    /// A directory whose last writes are in the log alone, as a process that died has left it.
    pub(crate) fn crashed() -> Self {
        let env = MemoryEnv::new(7);
        let engine = Engine::open(DIR, options(&env)).unwrap();
        fill(&engine).unwrap();
        let fruit = engine.tree("fruit").unwrap();
        let mut batch = WriteBatch::new();
        batch.put(&fruit, b"plum", b"blue").delete(&fruit, b"pear").delete_range(&fruit, b"x", b"z");
        engine.write(&batch, WriteOptions::SYNC).unwrap();
        fruit.put_with(b"quince", &[b'q'; 100], WriteOptions::SYNC).unwrap();
        env.crash(Crash::Process);
        Self { env }
    }

    /// A directory that was closed.
    pub(crate) fn closed() -> Self {
        let env = MemoryEnv::new(7);
        let engine = Engine::open(DIR, options(&env)).unwrap();
        fill(&engine).unwrap();
        engine.tree("fruit").unwrap().put(b"plum", b"blue").unwrap();
        engine.close().unwrap();
        Self { env }
    }

    pub(crate) fn open(&self) -> ssd_engine::Result<Engine> {
        Engine::open(DIR, options(&self.env))
    }

    /// Names of the files with this ending, in order.
    pub(crate) fn names(&self, ending: &str) -> Vec<String> {
        let files = self.env.files();
        let names = files.iter().filter(|path| path.parent() == Some(Path::new(DIR)));
        let names = names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(ending)).collect()
    }

    pub(crate) fn manifest(&self) -> String {
        self.names("").into_iter().find(|name| name.starts_with("MANIFEST")).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.env.read_file(&self.path(name)).unwrap()
    }

    /// All files and their bytes.
    pub(crate) fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.env.files().into_iter().map(|path| (path.clone(), self.env.read_file(&path).unwrap())).collect()
    }

    /// Runs the command; words that name a file of the directory stand for its path.
    pub(crate) fn run(&self, words: &str) -> Said {
        let env = Arc::clone(&self.env) as Arc<dyn Env>;
        let names = self.names("");
        let word = |word: &str| -> OsString {
            if names.iter().any(|name| name == word) { self.path(word).into() } else { word.into() }
        };
        run(&env, std::iter::once("ssd-engine".into()).chain(words.split_whitespace().map(word)))
    }
}

/// Runs the command in a world.
pub(crate) fn run(env: &Arc<dyn Env>, arguments: impl Iterator<Item = OsString>) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = ssd_engine_cli::run(arguments, env, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code, out: text(out), err: text(err) }
}
