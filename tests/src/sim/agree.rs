//! The same operations under several sets of options must read the same.
//!
//! No faults here, and no power failure: what it leaves depends on when the log happened to be written. The process is
//! closed and killed, which loses nothing.

use ssd_engine::env::memory::{Crash, MemoryEnv};

use crate::rng::Rng;
use crate::sim::check::describe;
use crate::sim::digest::Digest;
use crate::sim::options;
use crate::sim::store::Store;
use crate::sim::workload::TREES;
use crate::simulator::Failure;

/// One seed in this many is such a run.
pub const EVERY: u64 = 20;
/// Sets of options.
const SETS: u64 = 3;

/// Whether `seed` is such a run.
#[must_use]
pub const fn is_chosen(seed: u64) -> bool {
    seed.is_multiple_of(EVERY)
}

/// Does the operations of `seed` under each set of options; returns a hash of what was asked of the disks.
///
/// # Errors
/// What differs from the model, or between two sets.
pub fn run(seed: u64, steps: usize) -> Result<u64, Failure> {
    let (mut first, mut fingerprint) = (None, 0u64);
    for set in 0..SETS {
        let mut chance = Rng::new(seed ^ (set + 1).wrapping_mul(0xD1B5_4A32_D192_ED03));
        let env = MemoryEnv::new(chance.next());
        let options = options::random(&mut chance);
        let mut store = Store::new(env.clone(), options, Rng::new(seed));
        let digest = life(&mut store, steps).map_err(|what| format!("options {set}: {what}"))?;
        let want = *first.get_or_insert(digest);
        if digest != want {
            return Err(format!("options {set} read otherwise than options 0"));
        }
        fingerprint = fingerprint.rotate_left(7) ^ env.faults().fingerprint();
    }
    Ok(fingerprint)
}

fn life(store: &mut Store, steps: usize) -> Result<Digest, Failure> {
    store.open().map_err(|error| format!("open: {}", describe(&error)))?;
    for step in 0..steps {
        let outcome = match store.rng.below(200) {
            0..120 => store.write(),
            120..145 => store.get(),
            145..157 => store.scan(),
            157..161 => store.snapshot(),
            161..165 => store.check_snapshot(),
            165..169 => {
                let backward = store.rng.one_in(2);
                store.start_scan(backward)
            }
            169..179 => {
                let rows = store.rng.below(40) as usize;
                store.continue_scan(rows)
            }
            179..182 => store.sync(),
            182..184 => store.engine().flush(),
            184..186 => store.engine().compact(),
            186..192 => {
                let count = store.rng.below(5);
                store.jobs(count)
            }
            192..194 => {
                let tree = 1 + store.rng.below(TREES as u64 - 1) as usize;
                store.drop_tree(tree)
            }
            194 => store.checkpoint(),
            195 => store.engine().verify(),
            196..198 => store.close().and_then(|()| store.open()),
            198 => {
                store.crash(Crash::Process);
                store.open()
            }
            _ => store.check_all(),
        };
        outcome.map_err(|error| format!("step {step}: {}", describe(&error)))?;
    }
    store.check_all().map_err(|error| format!("at the end: {}", describe(&error)))?;
    Ok(store.digest)
}
