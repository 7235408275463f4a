//! Random options: tiny memtables, blocks and files, so that a short run crosses every boundary many times.

use ssd_engine::Options;
use ssd_engine::cache::Policy;

use crate::rng::Rng;

/// Options of one run.
#[must_use]
pub fn random(rng: &mut Rng) -> Options {
    Options {
        memtable_bytes: rng.pick(&[64 << 10, 96 << 10, 256 << 10]),
        memtables: rng.pick(&[2, 3, 5]),
        cache_bytes: rng.pick(&[0, 64 << 10, 1 << 20]),
        cache_policy: rng.pick(&[Policy::Clock, Policy::Lru]),
        block_bytes: rng.pick(&[4 << 10, 16 << 10]),
        compress: rng.one_in(2),
        filter_bits_per_key: rng.pick(&[0, 4, 10]),
        target_file_bytes: rng.pick(&[16 << 10, 64 << 10]),
        base_level_bytes: rng.pick(&[0, 64 << 10, 256 << 10]),
        level_multiplier: rng.pick(&[2, 4, 10]),
        background_threads: 0,
        log_segment_bytes: rng.pick(&[16 << 10, 64 << 10, 1 << 20]),
        log_ring_bytes: rng.pick(&[64 << 10, 128 << 10]),
        log_compress: rng.one_in(2),
        log_recycle: rng.pick(&[0, 1, 3]),
        direct_io: rng.one_in(2),
        disk_reserve_bytes: rng.pick(&[0, 0, 100_000]),
        snapshots: 24,
        ..Options::default()
    }
}
