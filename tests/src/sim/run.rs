//! One simulated life: operations, crashes and faults from a seed, checked against the model.

use std::sync::Arc;

use ssd_engine::Error;
use ssd_engine::env::Env;
use ssd_engine::env::fault::FaultKind;
use ssd_engine::env::memory::{Crash, MemoryEnv};

use crate::rng::Rng;
use crate::sim::check::describe;
use crate::sim::store::{DIR, Store};
use crate::sim::workload::TREES;
use crate::sim::{agree, damage, options};
use crate::simulator::{Failure, Simulator};

/// Crashes during recovery, one after the other, at most.
const RECOVERY_CRASHES: u64 = 4;

struct Run {
    store: Store,
    /// Faults that were armed since the last open: errors are expected until the next.
    armed: Vec<FaultKind>,
    /// The disk has a limit: it may be full.
    limited: bool,
}

/// Histories of puts, deletions, scans, snapshots and maintenance over several trees.
pub const SIMULATOR: Simulator =
    Simulator { command: "cargo xtask sim", seeds: include_str!("seeds.txt"), steps: 400, live };

fn live(seed: u64, rng: Rng, env: Arc<MemoryEnv>, steps: usize) -> Result<u64, Failure> {
    if agree::is_chosen(seed) { agree::run(seed, steps) } else { run(rng, env, steps) }
}

/// Runs `steps` operations in the world `env`; returns the fingerprint of everything that was asked of the disk.
fn run(mut rng: Rng, env: Arc<MemoryEnv>, steps: usize) -> Result<u64, Failure> {
    let options = options::random(&mut rng);
    let mut run = Run { store: Store::new(env, options, rng), armed: Vec::new(), limited: false };
    run.reopen(false)?;
    for step in 0..steps {
        run.step().map_err(|what| format!("step {step}: {what}"))?;
    }
    run.disarm();
    run.store.check_all().map_err(|error| format!("at the end: {}", describe(&error)))?;
    run.crash(Crash::Power).map_err(|what| format!("last crash: {what}"))?;
    run.store.engine().verify().map_err(|error| format!("at the end: {}", describe(&error)))?;
    Ok(run.store.env.faults().fingerprint())
}

impl Run {
    fn step(&mut self) -> Result<(), Failure> {
        let store = &mut self.store;
        let outcome = match store.rng.below(1000) {
            0..620 => store.write(),
            620..740 => store.get(),
            740..780 => store.scan(),
            780..800 => store.snapshot(),
            800..820 => store.check_snapshot(),
            820..830 => store.start_scan(false),
            830..840 => store.start_scan(true),
            840..870 => {
                let rows = store.rng.below(40) as usize;
                store.continue_scan(rows)
            }
            870..890 => store.sync(),
            890..900 => store.engine().flush(),
            900..910 => store.engine().compact(),
            910..935 => {
                let count = store.rng.below(5);
                store.jobs(count)
            }
            935..938 => store.checkpoint(),
            938..941 => store.engine().verify(),
            941..946 => {
                // The first tree has the number of the last batch.
                let tree = 1 + store.rng.below(TREES as u64 - 1) as usize;
                store.drop_tree(tree)
            }
            946..955 => return self.limit_or_free(),
            955..966 => return self.close_and_reopen(),
            966..968 => return self.damage(),
            968..978 => return self.crash(Crash::Process),
            978..988 => return self.crash(Crash::Power),
            _ => {
                self.arm();
                Ok(())
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if self.limited && self.armed.is_empty() && error.is_no_space() => self.full(&error),
            Err(error) if !self.armed.is_empty() => {
                // Nothing may be concluded from a failed operation but that it is allowed to have happened or not.
                let how = if self.store.rng.one_in(2) { Crash::Power } else { Crash::Process };
                self.crash(how).map_err(|what| format!("after \"{}\": {what}", describe(&error)))
            }
            Err(error) => Err(describe(&error)),
        }
    }

    fn arm(&mut self) {
        let kinds = [FaultKind::Eio, FaultKind::NoSpace, FaultKind::ShortWrite, FaultKind::SyncLost, FaultKind::Crash];
        let kind = self.store.rng.pick(&kinds);
        self.store.env.faults().fail_at(self.store.rng.below(60), kind);
        self.armed.push(kind);
    }

    fn disarm(&mut self) {
        self.store.env.faults().clear();
        self.armed.clear();
        self.store.env.disk_capacity(None);
        self.limited = false;
    }

    /// Limits the disk to little more than what is used, or lifts the limit.
    fn limit_or_free(&mut self) -> Result<(), Failure> {
        if self.limited {
            return self.free();
        }
        let env = &self.store.env;
        env.disk_capacity(None);
        // An unlimited disk reports this much less what is used.
        let used = (1 << 40) - env.free_space(DIR.as_ref()).map_or(0, |free| free);
        env.disk_capacity(Some(used + self.store.rng.pick(&[0, 20_000, 200_000])));
        self.limited = true;
        Ok(())
    }

    /// The disk was full: what failed took effect or did not, what was there is readable, and space helps.
    fn full(&mut self, error: &Error) -> Result<(), Failure> {
        let context = |what: &str| format!("after \"{}\": {what}", describe(error));
        self.store.settle().map_err(|what| context(&what))?;
        self.store.check_all().map_err(|error| context(&describe(&error)))?;
        if self.store.rng.one_in(3) { self.free().map_err(|what| context(&what)) } else { Ok(()) }
    }

    /// Space returns, and with it all work, without opening the engine again.
    fn free(&mut self) -> Result<(), Failure> {
        self.store.env.disk_capacity(None);
        self.limited = false;
        if !self.armed.is_empty() {
            return Ok(());
        }
        // The engine looks at the free space now and then.
        self.store.env.sleep(std::time::Duration::from_secs(1));
        let resumed = self.store.engine().run_next_job().and_then(|_| self.store.write());
        resumed.map_err(|error| format!("space returned: {}", describe(&error)))
    }

    fn close_and_reopen(&mut self) -> Result<(), Failure> {
        let limited = self.limited;
        match self.store.close() {
            Ok(()) => {}
            Err(error) if limited && self.armed.is_empty() && error.is_no_space() => {}
            Err(_) if !self.armed.is_empty() => {
                // As after any failed operation: only a crash tells what is left.
                self.store.env.crash(Crash::Power);
                self.disarm();
                return self.reopen(true);
            }
            Err(error) => return Err(format!("close: {}", describe(&error))),
        }
        self.disarm();
        self.reopen(false)
    }

    /// Closes the engine, damages a file, and sees that it is noticed or does no harm.
    fn damage(&mut self) -> Result<(), Failure> {
        if !self.armed.is_empty() || self.limited {
            return Ok(());
        }
        self.store.close().map_err(|error| format!("close: {}", describe(&error)))?;
        damage::flip_and_open(&mut self.store)
    }

    fn crash(&mut self, how: Crash) -> Result<(), Failure> {
        // A failed sync drops what the kernel held: as far as those bytes go, the machine died.
        let machine_died = how == Crash::Power || self.armed.contains(&FaultKind::SyncLost);
        self.store.crash(how);
        self.disarm();
        self.reopen(machine_died)
    }

    /// Opens the engine, sometimes failing it half way first, and checks what it recovered.
    fn reopen(&mut self, machine_died: bool) -> Result<(), Failure> {
        let mut machine_died = machine_died;
        for _ in 0..RECOVERY_CRASHES {
            if !self.store.rng.one_in(4) {
                break;
            }
            self.store.env.faults().fail_at(self.store.rng.below(80), FaultKind::Crash);
            let _ = self.store.open();
            let how = if self.store.rng.one_in(3) { Crash::Process } else { Crash::Power };
            machine_died |= how == Crash::Power;
            self.store.crash(how);
            self.disarm();
        }
        self.store.open().map_err(|error| format!("open: {}", describe(&error)))?;
        self.store.check_recovered(machine_died)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_exactly() {
        for seed in (1..5).chain([agree::EVERY]) {
            let attempt = || SIMULATOR.attempt(seed, 200, 0);
            assert_eq!(attempt(), attempt(), "seed {seed}");
        }
    }
}
