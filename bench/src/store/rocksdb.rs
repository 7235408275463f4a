//! RocksDB: LZ4, 10-bit Bloom filters, HyperClockCache, the shared memory budget; everything else as it comes.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WaitForCompactOptions, WriteOptions,
};

use super::{BACKGROUND_THREADS, MEMTABLES, Settings, Store};
use crate::Result;

/// An open RocksDB.
pub struct RocksDb {
    db: DB,
    /// Made once: each costs an allocation.
    read: ReadOptions,
    write: WriteOptions,
    write_durable: WriteOptions,
}

impl Store for RocksDb {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let mut write_durable = WriteOptions::default();
        write_durable.set_sync(true);
        let db = DB::open(&options(settings)?, dir)?;
        Ok(Self { db, read: ReadOptions::default(), write: WriteOptions::default(), write_durable })
    }

    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> Result<()> {
        Ok(self.db.put_opt(key, value, if durable { &self.write_durable } else { &self.write })?)
    }

    fn get(&self, key: &[u8], _scratch: &mut Vec<u8>, see: impl FnOnce(&[u8])) -> Result<bool> {
        let value = self.db.get_pinned_opt(key, &self.read)?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn scan(&self, start: &[u8], rows: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut cursor = self.db.raw_iterator();
        cursor.seek(start);
        let mut seen = 0;
        while seen < rows {
            let Some((key, value)) = cursor.item() else { break };
            see(key, value);
            seen += 1;
            cursor.next();
        }
        cursor.status()?;
        Ok(seen)
    }

    fn settle(&self) -> Result<()> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        Ok(self.db.wait_for_compact(&options)?)
    }
}

/// RocksDB's options for the settings that all stores get.
pub(crate) fn options(settings: &Settings) -> Result<Options> {
    let mut table = BlockBasedOptions::default();
    let cache_bytes = usize::try_from(settings.cache_bytes)?;
    table.set_block_cache(&Cache::new_hyper_clock_cache(cache_bytes, 0));
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(usize::try_from(settings.memtable_bytes)?);
    options.set_max_write_buffer_number(i32::try_from(MEMTABLES)?);
    options.set_max_background_jobs(i32::try_from(BACKGROUND_THREADS)?);
    options.set_use_direct_reads(settings.direct);
    options.set_use_direct_io_for_flush_and_compaction(settings.direct);
    Ok(options)
}
