//! A small database in which every byte of every file is damaged once: cut off there, or with a bit flipped.
//!
//! What was durable is there, or the damage is reported with file and offset; a wrong row is never shown.

use std::path::{Path, PathBuf};

use ssd_engine::env::Env;
use ssd_engine::env::memory::{Crash, MemoryEnv};
use ssd_engine::{Class, Error};

use super::script;
use crate::rng::Rng;
use crate::sim::check::describe;
use crate::sim::damage::{Image, image, restore};
use crate::sim::model::Model;
use crate::sim::store::{DIR, Store};

/// A database as its process left it, and what it must hold.
struct Left {
    files: Image,
    model: Model,
}

/// Files, a log that nobody flushed, and rows that only the buffer has.
fn left(closed: bool) -> Left {
    let mut store = Store::new(MemoryEnv::new(7), script::options(), Rng::new(11));
    store.options.log_recycle = 0;
    store.open().unwrap();
    let steps = script::steps();
    let names = ["small batches", "a value larger than a block", "a range of keys deleted", "flush"];
    for name in names.into_iter().chain(["more batches", "a durable value larger than a memtable", "a few more"]) {
        let step = steps.iter().find(|step| step.name == name).unwrap();
        (step.run)(&mut store).unwrap();
    }
    store.drop_tree(2).unwrap();
    for _ in 0..6 {
        store.write().unwrap();
    }
    store.sync().unwrap();
    for _ in 0..3 {
        store.write().unwrap();
    }
    if closed {
        store.close().unwrap();
    } else {
        store.crash(Crash::Process);
    }
    Left { files: image(&store.env, Path::new(DIR)), model: store.model }
}

/// What became of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Refused,
    Noticed,
    Harmless,
}

impl Left {
    fn paths(&self, wanted: &str) -> Vec<(PathBuf, usize)> {
        let files = self.files.iter().filter(|(path, _)| path.to_string_lossy().contains(wanted));
        files.map(|(path, bytes)| (path.clone(), bytes.len())).collect()
    }

    /// Opens a copy in which `harm` was done. `machine`: only what is durable must be there.
    fn after(&self, what: &str, machine: bool, harm: impl FnOnce(&MemoryEnv)) -> Ending {
        let env = MemoryEnv::new(3);
        env.create_dir(Path::new(DIR)).unwrap();
        restore(&env, Path::new(DIR), &self.files);
        harm(&env);
        let mut store = Store::new(env, script::options(), Rng::new(1));
        store.model = self.model.clone();
        let noticed = |error: Error| {
            assert_eq!(error.class(), Class::Corruption, "{what}: {}", describe(&error));
            assert!(error.to_string().contains(DIR) && error.to_string().contains("offset"), "{what}: {error}");
        };
        if let Err(error) = store.open() {
            noticed(error);
            return Ending::Refused;
        }
        let seen = store.check_all_or_prefix(machine).and_then(|()| store.engine().verify());
        match seen {
            Err(error) => {
                noticed(error);
                Ending::Noticed
            }
            Ok(()) => Ending::Harmless,
        }
    }

    /// Cuts a file at every `step`th byte.
    fn cut(&self, path: &Path, len: usize, step: usize, machine: bool) -> Vec<Ending> {
        let cut = |at| {
            self.after(&format!("{} cut at {at}", path.display()), machine, |env| {
                env.cut(path, at as u64);
            })
        };
        (0..len).step_by(step).map(cut).collect()
    }

    /// Flips a bit in every `step`th byte of a file.
    fn flip(&self, path: &Path, bytes: impl Iterator<Item = usize>, machine: bool) -> Vec<Ending> {
        let flip = |at| {
            let bit = (at * 8 + at % 8) as u64;
            self.after(&format!("{} byte {at} flipped", path.display()), machine, |env| {
                assert!(env.flip_bit(path, bit));
            })
        };
        bytes.map(flip).collect()
    }
}

fn count(endings: &[Ending], wanted: Ending) -> usize {
    endings.iter().filter(|&&ending| ending == wanted).count()
}

#[test]
fn undamaged_it_is_whole() {
    for closed in [false, true] {
        assert_eq!(left(closed).after("nothing done", false, |_| {}), Ending::Harmless);
    }
}

#[test]
fn a_manifest_cut_anywhere_loses_nothing_in_silence() {
    for closed in [false, true] {
        let left = left(closed);
        for (path, len) in left.paths("MANIFEST") {
            let endings = left.cut(&path, len, 1, false);
            assert!(count(&endings, Ending::Refused) > 36, "{}", path.display());
        }
    }
}

#[test]
fn a_manifest_or_current_with_a_flipped_bit_loses_nothing_in_silence() {
    let left = left(false);
    for (path, len) in left.paths("MANIFEST").into_iter().chain(left.paths("CURRENT")) {
        let endings = left.flip(&path, 0..len, false);
        assert!(count(&endings, Ending::Refused) > len / 3, "{}", path.display());
    }
    for (path, len) in left.paths("CURRENT") {
        assert_eq!(count(&left.cut(&path, len, 1, false), Ending::Refused), len);
    }
}

#[test]
fn a_log_cut_anywhere_is_refused() {
    let left = left(true);
    for (path, len) in left.paths(".wal") {
        // Every byte of the header's page and of the first records; the rest is alike.
        for (from, to, step) in [(0, 5000.min(len), 1), (5000, len, 31)] {
            let endings = (from..to).step_by(step).map(|at| {
                left.after(&format!("{} cut at {at}", path.display()), false, |env| {
                    env.cut(&path, at as u64);
                })
            });
            assert!(endings.into_iter().all(|ending| ending == Ending::Refused), "{}", path.display());
        }
    }
}

#[test]
fn a_log_with_a_flipped_bit_loses_nothing_in_silence() {
    for closed in [false, true] {
        let left = left(closed);
        for (path, len) in left.paths(".wal") {
            left.flip(&path, (0..len).step_by(if closed { 13 } else { 11 }), false);
        }
    }
}

#[test]
fn a_log_buffer_cut_anywhere_loses_nothing_durable() {
    let left = left(false);
    let (path, len) = left.paths("LOGBUF").remove(0);
    left.cut(&path, 4200, 1, true);
    left.cut(&path, len, 1021, true);
}

#[test]
fn a_log_buffer_with_a_flipped_bit_loses_nothing_durable() {
    let left = left(false);
    let (path, len) = left.paths("LOGBUF").remove(0);
    left.flip(&path, (0..200).chain((200..len).step_by(61)), true);
}

#[test]
fn an_sst_cut_anywhere_is_refused() {
    let left = left(true);
    for (path, len) in left.paths(".sst") {
        let endings = left.cut(&path, len, if len > 30_000 { 61 } else { 11 }, false);
        assert_eq!(count(&endings, Ending::Harmless), 0, "{}", path.display());
    }
}

#[test]
fn an_sst_with_a_flipped_bit_is_noticed() {
    let left = left(true);
    for (path, len) in left.paths(".sst") {
        let endings = left.flip(&path, (0..len).step_by(if len > 30_000 { 41 } else { 5 }), false);
        assert_eq!(count(&endings, Ending::Harmless), 0, "{}", path.display());
    }
}

#[test]
fn a_missing_file_is_refused() {
    let left = left(true);
    for (path, _) in left.paths(".sst").into_iter().chain(left.paths("CURRENT")).chain(left.paths("MANIFEST")) {
        let ending = left.after(&format!("{} removed", path.display()), false, |env| env.remove(&path).unwrap());
        assert_eq!(ending, Ending::Refused, "{}", path.display());
    }
}
