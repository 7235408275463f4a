//! Runs simulated lives by their seeds: each alone on a thread, many at a time, and the shortest that fails.
//!
//! A life is a function of a seed's random numbers, a world and a count of steps; see `sim::run` and `txn_sim::run`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ssd_engine::env::memory::MemoryEnv;

use crate::rng::Rng;

/// Why a life failed: what was being done and what was wrong.
pub type Failure = String;

/// A kind of life.
pub struct Simulator {
    /// The command that runs it, for whoever wants to see a failure again.
    pub command: &'static str,
    /// Seeds that failed during development, one a line; other lines are remarks.
    pub seeds: &'static str,
    /// Operations of a life, unless told otherwise.
    pub steps: usize,
    /// Lives the life of a seed, of so many steps; returns the fingerprint of everything that was asked of the disk.
    pub live: fn(u64, Rng, Arc<MemoryEnv>, usize) -> Result<u64, Failure>,
}

struct Arguments {
    first: Option<u64>,
    seeds: u64,
    steps: usize,
    jobs: usize,
    /// Operations on the disk to print with a failure.
    trace: usize,
}

const USAGE: &str = "usage: [--seeds N] [--seed FIRST] [--steps N] [--jobs N] [--trace N]";

impl Simulator {
    /// Lives `steps` operations of `seed`; returns the fingerprint of everything that was asked of the disk.
    ///
    /// # Errors
    /// The first disagreement with the model, an error that nothing explains, or a panic; then the last `trace` operations
    /// on the disk.
    pub fn attempt(&self, seed: u64, steps: usize, trace: usize) -> Result<u64, Failure> {
        let mut rng = Rng::new(seed);
        let env = MemoryEnv::new(rng.next());
        env.faults().set_trace_len(trace);
        // A thread of its own: what the engine keeps per thread is then of this life alone, and the life repeats exactly.
        let body = || (self.live)(seed, rng, env.clone(), steps);
        let ending = std::thread::scope(|scope| scope.spawn(body).join());
        let outcome = ending.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned())
        });
        outcome.map_err(|what| env.faults().trace().into_iter().fold(what, |text, line| text + "\n    " + &line))
    }

    /// The smallest count of steps with which `seed` fails, given that it fails with `steps`.
    #[must_use]
    pub fn shrink(&self, seed: u64, steps: usize) -> usize {
        let (mut passes, mut fails) = (0, steps);
        while fails - passes > 1 {
            let middle = passes.midpoint(fails);
            if self.attempt(seed, middle, 0).is_err() { fails = middle } else { passes = middle }
        }
        fails
    }

    /// Seeds that failed during development.
    pub fn known(&self) -> impl Iterator<Item = u64> {
        self.seeds.lines().filter_map(|line| line.parse().ok())
    }

    /// Runs the seeds that the program's arguments name, and tells `print` how it goes. Last line: `N passed, N failed`.
    pub fn main(&self, print: impl Fn(&str) + Sync) -> ExitCode {
        let Some(args) = self.arguments() else {
            print(USAGE);
            return ExitCode::from(2);
        };
        std::panic::set_hook(Box::new(|_| {}));
        // A run that names no seed starts with those that failed once.
        let known = self.known().filter(|_| args.first.is_none());
        let first = args.first.unwrap_or(1);
        let seeds: Vec<u64> = known.chain(first..first + args.seeds).collect();
        let failed = self.run_all(&seeds, &args, &print);
        print(&format!("{} passed, {failed} failed", seeds.len() as u64 - failed));
        ExitCode::from(u8::from(failed > 0))
    }

    /// How many failed.
    fn run_all(&self, seeds: &[u64], args: &Arguments, print: &(impl Fn(&str) + Sync)) -> u64 {
        let (next, failed) = (AtomicUsize::new(0), AtomicU64::new(0));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(&seed) = seeds.get(at) else { return };
                if let Err(what) = self.attempt(seed, args.steps, args.trace) {
                    failed.fetch_add(1, Ordering::Relaxed);
                    let (command, steps) = (self.command, self.shrink(seed, args.steps));
                    print(&format!(
                        "seed {seed} failed: {what}\n  again: {command} --seed {seed} --seeds 1 --steps {steps}"
                    ));
                }
                if (at + 1).is_multiple_of(100) {
                    print(&format!("{} of {} seeds", at + 1, seeds.len()));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..args.jobs {
                scope.spawn(work);
            }
        });
        failed.into_inner()
    }

    /// `None` when they make no sense.
    fn arguments(&self) -> Option<Arguments> {
        let mut out = Arguments { first: None, seeds: 100, steps: self.steps, jobs: 2, trace: 0 };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value: u64 = args.next()?.parse().ok()?;
            match name.as_str() {
                "--seeds" => out.seeds = value,
                "--seed" => out.first = Some(value),
                "--steps" => out.steps = value as usize,
                "--trace" => out.trace = value as usize,
                "--jobs" => out.jobs = value as usize,
                _ => return None,
            }
        }
        Some(out)
    }
}
