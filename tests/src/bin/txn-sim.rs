//! Runs seeds of the simulation of transactions: `txn-sim [--seeds N] [--seed FIRST] [--steps N] [--jobs N] [--trace N]`.
//! Last line: `N passed, N failed`.
#![expect(clippy::print_stdout, reason = "a command reports on standard output")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ssd_tests::txn_sim::run::{KNOWN, STEPS, attempt, shrink};

struct Arguments {
    first: Option<u64>,
    seeds: u64,
    steps: usize,
    jobs: usize,
    /// Operations on the disk to print with a failure.
    trace: usize,
}

const USAGE: &str = "usage: txn-sim [--seeds N] [--seed FIRST] [--steps N] [--jobs N] [--trace N]";

fn arguments() -> Result<Arguments, String> {
    let mut out = Arguments { first: None, seeds: 100, steps: STEPS, jobs: 2, trace: 0 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().and_then(|text| text.parse().ok()).ok_or_else(|| USAGE.to_owned())?;
        match name.as_str() {
            "--seeds" => out.seeds = value,
            "--seed" => out.first = Some(value),
            "--steps" => out.steps = value as usize,
            "--trace" => out.trace = value as usize,
            "--jobs" => out.jobs = value as usize,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(out)
}

fn main() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(usage) => {
            println!("{usage}");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    let first = args.first.unwrap_or(1);
    // A run that names no seed starts with those that failed once.
    let known = KNOWN.into_iter().filter(|_| args.first.is_none());
    let seeds: Vec<u64> = known.chain(first..first + args.seeds).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&seed) = seeds.get(at) else { return };
                    if let Err(what) = attempt(seed, args.steps, args.trace) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        let steps = shrink(seed, args.steps);
                        println!("seed {seed} failed: {what}\n  again: cargo run --profile sim -p ssd-tests --bin txn-sim -- --seed {seed} --seeds 1 --steps {steps}");
                    }
                    let done = at + 1;
                    if done.is_multiple_of(100) {
                        println!("{done} of {} seeds", seeds.len());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} passed, {failed} failed", seeds.len() as u64 - failed);
    ExitCode::from(u8::from(failed > 0))
}
