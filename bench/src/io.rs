//! The I/O benchmark: the engine's backend beside plain system calls and beside fio, on one file, in turns.
//!
//! It shows what the device gives, and how much of it the engine's I/O layer passes on.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::parent::{Results, Run};
use crate::spec::Measured;
use crate::store::OURS;

pub mod fio;
pub mod ours;
pub mod plain;

/// What is done with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Blocks anywhere.
    RandomRead,
    /// Blocks from front to back, again and again.
    Read,
    /// The same, writing.
    Write,
    /// One block after the other, each stable before the next.
    SyncedWrite,
}

/// A pattern with its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What to do.
    pub pattern: Pattern,
    /// Bytes of each operation.
    pub block: usize,
    /// Operations in flight.
    pub depth: usize,
    /// How long.
    pub seconds: f64,
    /// Bytes of the file; a multiple of every block.
    pub file_bytes: u64,
}

impl Load {
    /// The row's name.
    #[must_use]
    pub fn name(&self) -> String {
        let what = match self.pattern {
            Pattern::RandomRead => "random-read",
            Pattern::Read => "read",
            Pattern::Write => "write",
            Pattern::SyncedWrite => "synced-write",
        };
        format!("{what}/{}KiB/depth-{}", self.block >> 10, self.depth)
    }

    /// Blocks in the file.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.file_bytes / self.block as u64
    }
}

const KIB: usize = 1 << 10;

/// All loads.
#[must_use]
pub fn loads(quick: bool) -> Vec<Load> {
    let (seconds, file_bytes) = if quick { (0.7, 256 << 20) } else { (3.0, 2 << 30) };
    let load = |pattern, block, depth| Load { pattern, block, depth, seconds, file_bytes };
    vec![
        load(Pattern::RandomRead, 4 * KIB, 1),
        load(Pattern::RandomRead, 4 * KIB, 32),
        load(Pattern::RandomRead, 16 * KIB, 32),
        load(Pattern::Read, 1024 * KIB, 4),
        load(Pattern::Write, 1024 * KIB, 4),
        load(Pattern::SyncedWrite, 4 * KIB, 1),
    ]
}

/// Runs every load with every program, in turns.
///
/// # Errors
/// When the file cannot be made or removed; what goes wrong in a run is part of the results.
pub fn run(dir: &Path, quick: bool, repetitions: usize, tell: &dyn Fn(&str)) -> Result<Results> {
    fs::create_dir_all(dir)?;
    let path = dir.join("io-bench");
    let loads = loads(quick);
    let mut results = Results::default();
    let file_bytes = loads.first().map_or(0, |load| load.file_bytes);
    ours::fill(&path, file_bytes)?;
    let with_fio = fio::is_installed();
    if !with_fio {
        tell("fio is not installed: the comparison is with plain system calls alone");
    }
    for repetition in 0..repetitions {
        for load in &loads {
            run_load(load, &path, with_fio, repetition, &mut results, tell);
        }
    }
    fs::remove_file(&path)?;
    Ok(results)
}

/// A way to do a load.
type Program = fn(&Path, &Load) -> Result<Measured>;

fn run_load(load: &Load, path: &Path, with_fio: bool, repetition: usize, results: &mut Results, tell: &dyn Fn(&str)) {
    let mut programs: Vec<(&str, Program)> = vec![(OURS, ours::run), ("plain", plain::run)];
    if with_fio {
        programs.push(("fio", fio::run));
    }
    let turns = programs.len();
    programs.rotate_left(repetition % turns);
    let mut shown = Vec::new();
    for (store, program) in programs {
        match program(path, load) {
            Ok(measured) => {
                shown.push(format!("{store} {:.0}/s", measured.ops_per_second()));
                results.runs.push(Run { workload: load.name(), store: store.to_owned(), repetition, measured });
            }
            Err(error) => results.failures.push(format!("{} {store}: {error}", load.name())),
        }
    }
    tell(&format!("{:<36} {}", load.name(), shown.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_fit_their_file() {
        for load in loads(true).into_iter().chain(loads(false)) {
            assert_eq!(load.file_bytes % load.block as u64, 0, "{}", load.name());
        }
    }

    #[test]
    fn every_program_does_every_load() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let small = |load: Load| Load { seconds: 0.02, file_bytes: 4 << 20, ..load };
        ours::fill(&path, 4 << 20).unwrap();
        for load in loads(true).into_iter().map(small) {
            assert!(ours::run(&path, &load).unwrap().ops > 0, "{}", load.name());
            assert!(plain::run(&path, &load).unwrap().ops > 0, "{}", load.name());
        }
    }
}
