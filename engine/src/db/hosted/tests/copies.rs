//! Copies of the directory that are taken file by file while the engine works in it.

use std::collections::BTreeSet;

use super::*;
use crate::db::verify::verify;
use crate::env::{Env, OpenMode};
use crate::manifest::parse_manifest_name;

/// Copies drawn.
const SEEDS: u64 = 150;
const PAGE: usize = 4096;

/// An engine that works while it is copied.
struct Work {
    world: World,
    lsm: Arc<Lsm>,
    rows: u64,
}

impl Work {
    fn new(seed: u64) -> Self {
        let mut world = World::seeded(seed);
        world.options.target_file_bytes = 64 << 10;
        let lsm = world.open();
        let mut work = Self { world, lsm, rows: 0 };
        for _ in 0..20 {
            work.step();
        }
        work
    }

    fn below(&self, n: u64) -> u64 {
        self.world.env.random() % n
    }

    /// What an engine does in a moment.
    fn step(&mut self) {
        match self.below(6) {
            0 | 1 => {
                for _ in 0..self.below(200) {
                    // Rows are spread over the keys, so that files overlap and are merged.
                    let number = self.rows.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    self.lsm.write(&row(number, 2, 300), 1, crate::Durability::Process).unwrap();
                    self.rows += 1;
                }
            }
            2 => drop(self.lsm.flush_below(Lsn(u64::MAX)).unwrap()),
            3 | 4 => {
                for _ in 0..self.below(8) {
                    self.lsm.run_next_job().unwrap();
                }
            }
            _ => self.lsm.replace_manifest().unwrap(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.world.env.list(Path::new("db")).unwrap()
    }

    /// The file's bytes now; `None` when it is gone.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.world.env.open(&Path::new("db").join(name), OpenMode::READ).ok()?;
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        Some(bytes)
    }

    /// Makes of a file what a copy might have of it that began when the file had `from` bytes.
    fn tear(&self, name: &str, bytes: &mut Vec<u8>, from: Option<usize>) {
        if parse_manifest_name(name).is_some() {
            // As long as it was, or longer.
            let least = from.unwrap_or(0);
            let spread = (bytes.len() - least) as u64;
            let len = if self.below(2) == 0 { bytes.len() } else { least + self.below(spread + 1) as usize };
            bytes.truncate(len);
        } else if from.is_none() && self.below(2) == 0 && name.ends_with(".sst") {
            let page = self.below((bytes.len() / PAGE) as u64) as usize * PAGE;
            if self.below(2) == 0 {
                bytes.truncate(page);
            } else {
                bytes[page..page + PAGE].fill(0);
            }
        }
    }

    /// Copies the directory while the engine works on. What was logged below the result was in files when that began.
    ///
    /// Unless files are `kept`, some are lost, and none is torn, so that it is at the open that something is missing.
    fn copy(&mut self, kept: bool) -> u64 {
        let redo = self.world.log.next.load(Ordering::SeqCst);
        self.world.log.keeps.store(kept, Ordering::SeqCst);
        self.lsm.flush_for_checkpoint(Lsn(redo)).unwrap();
        self.step();
        let first: Vec<(String, usize)> =
            self.names().into_iter().map(|name| (name.clone(), self.read(&name).unwrap().len())).collect();
        let mut rest: Vec<String> = first.iter().map(|(name, _)| name.clone()).collect();
        let mut seen: BTreeSet<String> = rest.iter().cloned().collect();
        let to = Path::new("copy");
        self.world.env.create_dir(to).unwrap();
        while !rest.is_empty() {
            let at = self.below(rest.len() as u64) as usize;
            let name = rest.swap_remove(at);
            for _ in 0..self.below(3) {
                self.step();
            }
            if let Some(mut bytes) = self.read(&name) {
                let from = first.iter().find(|(known, _)| *known == name).map(|(_, len)| *len);
                if kept {
                    self.tear(&name, &mut bytes, from);
                }
                let file = self.world.env.open(&to.join(&name), OpenMode::CREATE).unwrap();
                file.write_at(&bytes, 0).unwrap();
                file.sync().unwrap();
            }
            // Whoever lists a directory while it changes may or may not see what is new.
            if self.below(4) == 0 {
                let new: Vec<_> = self.names().into_iter().filter(|name| !seen.contains(name)).collect();
                for name in new {
                    if self.below(2) == 0 {
                        rest.push(name.clone());
                    }
                    seen.insert(name);
                }
            }
        }
        self.world.env.sync_dir(to).unwrap();
        self.world.log.keeps.store(false, Ordering::SeqCst);
        redo
    }

    /// Opens the copy, replays the log from `redo` on, and checks that everything is there.
    fn restore(mut self, redo: u64) -> std::result::Result<(), String> {
        let text = |error: Error| error.to_string();
        drop(self.lsm);
        self.world.region = Region::anonymous(&layout(&self.world.options).0).unwrap();
        self.world.log.replayed.store(redo + 1, Ordering::SeqCst);
        let parts = HostParts { copied: Some(Lsn(redo)), ..self.world.parts() };
        let dir = Path::new("copy");
        let lsm = open_hosted(dir, self.world.options.clone(), self.world.region.clone(), parts).map_err(text)?;
        self.world.replay(&lsm, redo);
        assert_eq!(count(&lsm) as u64, self.rows);
        for number in 0..300 {
            lsm.write(&row(number, 2, 300), 1, crate::Durability::Process).map_err(text)?;
        }
        lsm.flush_below(Lsn(u64::MAX)).map_err(text)?;
        lsm.compact_all().map_err(text)?;
        let mut problems = Vec::new();
        verify(dir, &self.world.options, &mut |event| {
            // The log is the host's, not here.
            if let crate::VerifyEvent::Problem(problem) = event
                && problem.path != dir
            {
                problems.push(problem.to_string());
            }
        })
        .map_err(text)?;
        assert_eq!(problems, Vec::<String>::new());
        // What was written has other keys, but for the first row's.
        assert_eq!(count(&lsm) as u64, self.rows + 300 - u64::from(self.rows > 0));
        Ok(())
    }
}

#[test]
fn a_copy_taken_under_load_has_everything() {
    for seed in 0..SEEDS {
        let mut work = Work::new(seed);
        let redo = work.copy(true);
        if let Err(what) = work.restore(redo) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
fn a_copy_that_lost_files_is_refused() {
    let refused = (0..SEEDS).filter(|&seed| {
        let mut work = Work::new(seed);
        let redo = work.copy(false);
        work.restore(redo).is_err()
    });
    assert!(refused.count() > 0, "nothing was lost although nothing was kept: the test tests nothing");
}

#[test]
fn what_was_kept_goes_when_the_copy_is_done() {
    let mut work = Work::new(1);
    work.world.log.keeps.store(true, Ordering::SeqCst);
    for _ in 0..200 {
        work.step();
    }
    let (kept, live) = (work.names().len(), work.lsm.view().unwrap().files().count());
    assert!(kept > live + 2, "{kept} names, {live} files in the version");
    work.world.log.keeps.store(false, Ordering::SeqCst);
    while work.lsm.run_next_job().unwrap() {}
    // CURRENT and a manifest.
    let live = work.lsm.view().unwrap().files().count();
    assert_eq!(work.names().len(), live + 2, "{:?}", work.names());
}
