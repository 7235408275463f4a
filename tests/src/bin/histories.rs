//! Checks histories of transactions for a while: `histories [--minutes N] [--seed FIRST] [--threads N]`. Last line: `N passed,
//! N failed`.
#![expect(clippy::print_stdout, reason = "a command reports on standard output")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use ssd_engine::Isolation;
use ssd_tests::histories::run::{Counts, Size, attempt, open};

const USAGE: &str = "usage: histories [--minutes N] [--seed FIRST] [--threads N]";
const LEVELS: [Isolation; 3] = [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
/// Histories that one engine takes: each leaves a tree.
const ROUND: u64 = 60;

fn arguments() -> Result<(u64, u64, u64), String> {
    let (mut minutes, mut seed, mut threads) = (1, 1, 4);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().and_then(|text| text.parse().ok()).ok_or_else(|| USAGE.to_owned())?;
        match name.as_str() {
            "--minutes" => minutes = value,
            "--seed" => seed = value,
            "--threads" => threads = value,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok((minutes, seed, threads))
}

fn main() -> ExitCode {
    let (minutes, first, threads) = match arguments() {
        Ok(arguments) => arguments,
        Err(usage) => {
            println!("{usage}");
            return ExitCode::from(2);
        }
    };
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let dir = std::env::temp_dir().join(format!("ssd-histories-{}", std::process::id()));
    let (mut passed, mut failed, mut seed, mut counts) = (0u64, 0u64, first, Counts::default());
    while Instant::now() < end {
        let engine = open(&dir).expect("a new directory can be opened");
        for at in (seed..seed + ROUND).take_while(|_| Instant::now() < end) {
            let size = Size { threads, transactions: 300, keys: 3 + (at % 10) as u32 };
            match attempt(&engine, &format!("tree {at}"), LEVELS[(at % 3) as usize], size, at) {
                Ok(done) => {
                    passed += 1;
                    counts.committed += done.committed;
                    counts.aborted += done.aborted;
                }
                Err(what) => {
                    failed += 1;
                    println!("seed {at} failed: {what}");
                }
            }
            seed += 1;
        }
        drop(engine);
        std::fs::remove_dir_all(&dir).expect("the directory is this program's");
        println!("{passed} histories, {} transactions committed, {} rolled back", counts.committed, counts.aborted);
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
