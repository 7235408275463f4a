//! Compaction: merging sorted files into fewer, deeper ones. Deciding is pure (`shape` to `pick`, `drop_rule`), doing is `run`.

pub mod choice;
pub mod cuts;
pub mod drop_rule;
#[cfg(test)]
mod golden;
pub mod narrow;
pub mod next;
pub mod pick;
mod pick_deletes;
mod pick_l0;
pub mod pieces;
pub mod run;
pub mod shape;
pub mod simulate;
pub mod split;
pub mod targets;

/// Options under which a few thousand rows make many files and levels, in a world of their own and without threads.
#[cfg(test)]
fn small_options(env: std::sync::Arc<crate::env::memory::MemoryEnv>) -> crate::Options {
    crate::Options {
        memtable_bytes: 256 << 10,
        memtables: 3,
        cache_bytes: 0,
        block_bytes: 4 << 10,
        compress: false,
        target_file_bytes: 16 << 10,
        background_threads: 0,
        log_segment_bytes: 1 << 20,
        log_ring_bytes: 64 << 10,
        disk_reserve_bytes: 0,
        env: Some(env),
        ..crate::Options::default()
    }
}
