//! The engine of this project: the shared memory budget; everything else as it comes.

use std::path::Path;

use ssd_engine::{Engine, Options, Tree, WriteOptions};

use super::{BACKGROUND_THREADS, MEMTABLES, Settings, Store};
use crate::Result;

/// An open engine with one tree.
pub struct Ours {
    engine: Engine,
    rows: Tree,
}

impl Store for Ours {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let engine = Engine::open(dir, options(settings)?)?;
        let rows = engine.tree("rows")?;
        Ok(Self { engine, rows })
    }

    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> Result<()> {
        let options = if durable { WriteOptions::SYNC } else { WriteOptions::default() };
        Ok(self.rows.put_with(key, value, options)?)
    }

    fn get(&self, key: &[u8], scratch: &mut Vec<u8>, see: impl FnOnce(&[u8])) -> Result<bool> {
        scratch.clear();
        let found = self.rows.get_into(key, scratch)?;
        if found {
            see(scratch);
        }
        Ok(found)
    }

    fn scan(&self, start: &[u8], rows: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut cursor = self.rows.scan(start..)?;
        let mut seen = 0;
        while seen < rows {
            let Some((key, value)) = cursor.next_row()? else { break };
            see(key, value);
            seen += 1;
        }
        Ok(seen)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.engine.settle()?)
    }
}

/// The engine's options for the settings that all stores get.
pub(crate) fn options(settings: &Settings) -> Result<Options> {
    Ok(Options {
        cache_bytes: usize::try_from(settings.cache_bytes)?,
        memtable_bytes: usize::try_from(settings.memtable_bytes)?,
        memtables: MEMTABLES,
        background_threads: BACKGROUND_THREADS,
        ..Options::default()
    })
}
