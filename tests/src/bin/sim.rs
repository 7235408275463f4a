//! Runs simulation seeds: `sim --seeds N [--seed FIRST] [--steps N] [--jobs N]`. Last line: `N passed, N failed`.
#![expect(clippy::print_stdout, reason = "a command reports on standard output")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use ssd_tests::sim::run::{attempt, shrink};

struct Arguments {
    first: u64,
    seeds: u64,
    steps: usize,
    jobs: usize,
}

const USAGE: &str = "usage: sim [--seeds N] [--seed FIRST] [--steps N] [--jobs N]";

fn arguments() -> Result<Arguments, String> {
    let mut out = Arguments { first: 1, seeds: 100, steps: 400, jobs: 2 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().and_then(|text| text.parse().ok()).ok_or_else(|| USAGE.to_owned())?;
        match name.as_str() {
            "--seeds" => out.seeds = value,
            "--seed" => out.first = value,
            "--steps" => out.steps = value as usize,
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
    let (next, failed) = (AtomicU64::new(args.first), AtomicU64::new(0));
    let end = args.first + args.seeds;
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if let Err(what) = attempt(seed, args.steps) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        let steps = shrink(seed, args.steps);
                        println!("seed {seed} failed: {what}\n  again: cargo xtask sim --seed {seed} --seeds 1 --steps {steps}");
                    }
                    let done = seed + 1 - args.first;
                    if done.is_multiple_of(100) {
                        println!("{done} of {} seeds", args.seeds);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} passed, {failed} failed", args.seeds - failed);
    ExitCode::from(u8::from(failed > 0))
}
