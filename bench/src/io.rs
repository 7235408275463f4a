//! The I/O benchmark: the engine's two backends beside plain system calls and beside fio, on one file, in turns; and whole
//! trees of the engine beside the same reads by fio.
//!
//! It shows what the device gives, how much of it the engine's I/O layer passes on, and how much of it arrives at whoever
//! reads a tree that is not cached.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::parent::{Results, Run};
use crate::spec::Measured;
use crate::store::OURS;

pub mod fio;
pub mod ours;
pub mod plain;
pub mod tree;

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
    /// Rows anywhere in a tree that is not cached, a thread for each in flight. For the others: blocks anywhere.
    TreeGet,
    /// The same by one thread that asks for many rows at once: the engine keeps its queue full.
    TreeMultiGet,
    /// All rows of a tree that is not cached, in order, by one thread. For the others: blocks from front to back.
    TreeScan,
}

impl Pattern {
    /// Whether blocks come in no order.
    #[must_use]
    pub const fn is_random(self) -> bool {
        matches!(self, Self::RandomRead | Self::TreeGet | Self::TreeMultiGet)
    }

    /// Whether the engine does it on a tree, and not its environment on a file.
    #[must_use]
    pub const fn is_of_tree(self) -> bool {
        matches!(self, Self::TreeGet | Self::TreeMultiGet | Self::TreeScan)
    }
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
            Pattern::TreeGet => "tree-get",
            Pattern::TreeMultiGet => "tree-multi-get",
            Pattern::TreeScan => "tree-scan",
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

/// Depths at which random reads are measured.
const DEPTHS: [usize; 5] = [1, 4, 16, 32, 64];

/// All loads whose names contain one of `only`, if that has any.
#[must_use]
pub fn loads(quick: bool, only: &[String]) -> Vec<Load> {
    let (seconds, file_bytes) = if quick { (0.5, 256 << 20) } else { (2.0, 2 << 30) };
    let load = |pattern, block: usize, depth| {
        let file_bytes = file_bytes / block as u64 * block as u64;
        Load { pattern, block, depth, seconds, file_bytes }
    };
    let mut loads = Vec::new();
    for block in [4 * KIB, 16 * KIB, 64 * KIB] {
        loads.extend(DEPTHS.map(|depth| load(Pattern::RandomRead, block, depth)));
    }
    loads.push(load(Pattern::Read, 1024 * KIB, 4));
    loads.push(load(Pattern::Write, 1024 * KIB, 4));
    loads.push(load(Pattern::SyncedWrite, 4 * KIB, 1));
    loads.extend([1, 8].map(|depth| load(Pattern::TreeGet, tree::GET_LEN, depth)));
    loads.push(load(Pattern::TreeMultiGet, tree::GET_LEN, tree::MULTI_GET_DEPTH));
    loads.push(load(Pattern::TreeScan, 1024 * KIB, tree::SCAN_DEPTH));
    loads.retain(|load| only.is_empty() || only.iter().any(|text| load.name().contains(text.as_str())));
    loads
}

/// Runs each load with every program, in turns.
///
/// # Errors
/// When the file cannot be made or removed; what goes wrong in a run is part of the results.
pub fn run(dir: &Path, loads: &[Load], repetitions: usize, tell: &dyn Fn(&str)) -> Result<Results> {
    fs::create_dir_all(dir)?;
    let path = dir.join("io-bench");
    let mut results = Results::default();
    let file_bytes = loads.iter().map(|load| load.file_bytes).max().unwrap_or(0);
    ours::fill(&path, file_bytes)?;
    tree::fill(&path, file_bytes / tree::SHARE)?;
    let with_fio = fio::is_installed();
    if !with_fio {
        tell("fio is not installed: the comparison is with plain system calls alone");
    }
    for repetition in 0..repetitions {
        for load in loads {
            run_load(load, &path, with_fio, repetition, &mut results, tell);
        }
    }
    fs::remove_file(&path)?;
    fs::remove_dir_all(tree::dir(&path))?;
    Ok(results)
}

/// A way to do a load.
type Program = fn(&Path, &Load) -> Result<Measured>;

fn run_load(load: &Load, path: &Path, with_fio: bool, repetition: usize, results: &mut Results, tell: &dyn Fn(&str)) {
    let mut programs: Vec<(&str, Program)> = if load.pattern.is_of_tree() {
        vec![(OURS, tree::run)]
    } else {
        vec![(OURS, ours::run), ("ssd-engine pool", ours::run_pool), ("plain", plain::run)]
    };
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
        for load in loads(true, &[]).into_iter().chain(loads(false, &[])) {
            assert_eq!(load.file_bytes % load.block as u64, 0, "{}", load.name());
        }
    }

    #[test]
    fn every_program_does_every_load() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let small = |load: Load| Load { seconds: 0.02, file_bytes: 4 << 20, ..load };
        ours::fill(&path, 4 << 20).unwrap();
        tree::fill(&path, 4 << 20).unwrap();
        for load in loads(true, &[]).into_iter().map(small) {
            if load.pattern.is_of_tree() {
                assert!(tree::run(&path, &load).unwrap().ops > 0, "{}", load.name());
                continue;
            }
            for program in [ours::run, ours::run_pool, plain::run] {
                assert!(program(&path, &load).unwrap().ops > 0, "{}", load.name());
            }
        }
    }
}
