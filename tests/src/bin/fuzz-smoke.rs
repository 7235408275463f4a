//! Feeds every decoder with seeded mutations of the golden files. Needs no fuzzer and no nightly compiler.
//!
//! `fuzz-smoke [--seconds N] [--runs N] [--seed S] [--at N] [TARGET…]`; last line `N passed, N failed` (targets).
//! An input is a pure function of seed and number, so a failure repeats with `--seed S --at N TARGET`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use ssd_tests::mutation;

#[path = "../../../engine/fuzz/seeds.rs"]
mod seeds;

include!(concat!(env!("OUT_DIR"), "/entries.rs"));

/// How long one input may take before it counts as a hang.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

/// Seconds for each target unless told otherwise.
const SECONDS: u64 = 10;

struct Plan {
    seconds: u64,
    /// Zero: as many as fit the time.
    runs: u64,
    seed: u64,
    /// Only the input of this number.
    at: Option<u64>,
    targets: Vec<String>,
}

fn main() -> ExitCode {
    let plan = match parse(std::env::args().skip(1)) {
        Ok(plan) => Arc::new(plan),
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, decode) in
        ENTRIES.iter().filter(|(name, _)| plan.targets.is_empty() || plan.targets.iter().any(|t| t == name))
    {
        match fuzz(name, *decode, &plan) {
            Ok(inputs) => {
                println!("{name}: {inputs} inputs");
                passed += 1;
            }
            Err(message) => {
                println!("{name}: FAILED: {message}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan { seconds: SECONDS, runs: 0, seed: 1, at: None, targets: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            value.parse::<u64>().map_err(|e| format!("{argument} {value}: {e}"))
        };
        match argument.as_str() {
            "--seconds" => plan.seconds = number()?,
            "--runs" => plan.runs = number()?,
            "--seed" => plan.seed = number()?,
            "--at" => plan.at = Some(number()?),
            flag if flag.starts_with('-') => return Err(format!("no option {flag}")),
            target if ENTRIES.iter().any(|(name, _)| *name == target) => plan.targets.push(argument),
            target => return Err(format!("no target {target}")),
        }
    }
    if plan.seconds == 0 && plan.runs == 0 && plan.at.is_none() {
        plan.seconds = SECONDS;
    }
    Ok(plan)
}

/// Feeds one decoder on a thread of its own, so that a hang is seen; returns the count of inputs.
fn fuzz(name: &'static str, decode: fn(&[u8]), plan: &Arc<Plan>) -> Result<u64, String> {
    let number = Arc::new(AtomicU64::new(0));
    let (sender, ended) = mpsc::channel();
    let worker = {
        let (number, plan) = (Arc::clone(&number), Arc::clone(plan));
        std::thread::spawn(move || {
            let result = panic::catch_unwind(|| feed(name, decode, &plan, &number));
            let _ = sender.send(result);
        })
    };
    let mut last = None;
    loop {
        match ended.recv_timeout(INPUT_TIME_MAX) {
            Ok(Ok(inputs)) => {
                let _ = worker.join();
                return Ok(inputs);
            }
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                return Err(format!("panicked at {}", repeat(name, plan, &number)));
            }
            Err(RecvTimeoutError::Timeout) => {
                let now = number.load(Ordering::Relaxed);
                if last.replace(now) == Some(now) {
                    return Err(format!("hangs at {}", repeat(name, plan, &number)));
                }
            }
        }
    }
}

fn repeat(name: &str, plan: &Plan, number: &AtomicU64) -> String {
    format!("--seed {} --at {} {name}", plan.seed, number.load(Ordering::Relaxed))
}

fn feed(name: &str, decode: fn(&[u8]), plan: &Plan, number: &AtomicU64) -> u64 {
    let seeds = seeds(name);
    if let Some(at) = plan.at {
        number.store(at, Ordering::Relaxed);
        decode(&mutation::input(&seeds, plan.seed, at));
        return 1;
    }
    let start = Instant::now();
    let mut count = 0;
    while plan.runs == 0 || count < plan.runs {
        if plan.seconds != 0 && count % 64 == 0 && start.elapsed().as_secs() >= plan.seconds {
            break;
        }
        number.store(count, Ordering::Relaxed);
        decode(&mutation::input(&seeds, plan.seed, count));
        count += 1;
    }
    count
}

/// The golden files of the format that the target is named after; all golden files when none is.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let all = seeds::find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src"));
    let own: Vec<_> = all.iter().filter(|(path, _)| path.contains(name)).map(|(_, bytes)| bytes.clone()).collect();
    if own.is_empty() { all.into_iter().map(|(_, bytes)| bytes).collect() } else { own }
}
