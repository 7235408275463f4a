//! fjall: the shared memory budget; everything else as it comes (LZ4 from L2 on, 10-bit Bloom filters).

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{BACKGROUND_THREADS, Settings, Store};
use crate::Result;
use crate::measure;

/// An open fjall database with one keyspace. It has no direct I/O: its files go through the page cache.
pub struct Fjall {
    db: Database,
    rows: Keyspace,
}

impl Store for Fjall {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let builder = Database::builder(dir).cache_size(settings.cache_bytes).worker_threads(BACKGROUND_THREADS);
        let db = builder.open()?;
        let memtable_bytes = settings.memtable_bytes;
        let rows = db.keyspace("rows", || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes))?;
        Ok(Self { db, rows })
    }

    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> Result<()> {
        self.rows.insert(key, value)?;
        if durable {
            // fdatasync, which is what RocksDB does too; SyncAll would also write the inode's times.
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8], _scratch: &mut Vec<u8>, see: impl FnOnce(&[u8])) -> Result<bool> {
        Ok(self.rows.get(key)?.map(|value| see(&value)).is_some())
    }

    fn scan(&self, start: &[u8], rows: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut seen = 0;
        for row in self.rows.range(start..).take(rows) {
            let (key, value) = row.into_inner()?;
            see(&key, &value);
            seen += 1;
        }
        Ok(seen)
    }

    fn settle(&self) -> Result<()> {
        self.rows.rotate_memtable_and_wait()?;
        let is_busy = || self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0;
        loop {
            measure::await_quiet();
            if !is_busy() {
                return Ok(());
            }
        }
    }
}
