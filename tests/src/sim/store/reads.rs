//! Reads, each compared with the model: of keys, of ranges, through snapshots, and by scans that stay open.

use ssd_engine::Error;

use super::{LongScan, Store};
use crate::sim::check::{assert_rows, assert_same, rows_of};
use crate::sim::workload::{self, TREES};

/// Scans that are kept open at once, and snapshots.
const KEPT: usize = 3;

impl Store {
    /// Reads some keys.
    ///
    /// # Errors
    /// What the engine says.
    pub fn get(&mut self) -> Result<(), Error> {
        let key = workload::model_key(&mut self.rng);
        let keys: Vec<_> = (0..self.rng.below(12)).map(|_| workload::key(&mut self.rng)).collect();
        let open = self.opened();
        let found = open.trees[key.0].get(&key.1)?;
        assert_same(&format!("get {key:?}"), found.as_ref(), self.model.state().get(&key));
        let many = open.trees[0].multi_get(&keys)?;
        for (key, value) in keys.into_iter().zip(&many) {
            let what = format!("multi_get {key:?}");
            assert_same(&what, value.as_ref(), self.model.state().get(&(0, key)));
        }
        self.digest.add_values(many.iter().chain([&found]));
        Ok(())
    }

    /// Scans a random range both ways.
    ///
    /// # Errors
    /// What the engine says.
    pub fn scan(&mut self) -> Result<(), Error> {
        let tree = self.rng.below(TREES as u64) as usize;
        let (a, b) = (workload::key(&mut self.rng), workload::key(&mut self.rng));
        let (from, to) = if a <= b { (a, b) } else { (b, a) };
        let limit = self.rng.below(60) as usize;
        let range = (tree, from.clone())..(tree, to.clone());
        let state = self.model.state().range(range);
        let want: Vec<_> = state.map(|((_, key), value)| (key.clone(), value.clone())).collect();
        let open = self.opened();
        let forward: Vec<_> = open.trees[tree].scan(from.clone()..to.clone())?.take(limit).collect::<Result<_, _>>()?;
        assert_rows("scan", &forward, want.iter().take(limit));
        let backward: Vec<_> = open.trees[tree].scan_backward(from..to)?.take(limit).collect::<Result<_, _>>()?;
        assert_rows("backward scan", &backward, want.iter().rev().take(limit));
        self.digest.add(forward.iter().chain(&backward));
        Ok(())
    }

    /// Opens a scan that stays open, in place of another when there are many.
    ///
    /// # Errors
    /// What the engine says.
    pub fn start_scan(&mut self, backward: bool) -> Result<(), Error> {
        let (tree, replaced) = (self.rng.below(TREES as u64) as usize, self.rng.below(KEPT as u64) as usize);
        let mut rows = rows_of(self.model.state(), tree);
        if backward {
            rows.reverse();
        }
        let open = self.open.as_mut().expect("open between steps");
        if open.scans.len() == KEPT {
            open.scans.swap_remove(replaced);
        }
        let tree = &open.trees[tree];
        let scan = if backward { tree.scan_backward::<Vec<u8>>(..)? } else { tree.scan::<Vec<u8>>(..)? };
        open.scans.push(LongScan { scan, rest: rows.into_iter() });
        Ok(())
    }

    /// Reads on, up to `rows` rows, in one of the scans that stay open.
    ///
    /// # Errors
    /// What the engine says.
    pub fn continue_scan(&mut self, rows: usize) -> Result<(), Error> {
        let draw = self.rng.next() as usize;
        let open = self.open.as_mut().expect("open between steps");
        if open.scans.is_empty() {
            return Ok(());
        }
        let at = draw % open.scans.len();
        for _ in 0..rows {
            let long = &mut open.scans[at];
            let (found, want) = (long.scan.next().transpose()?, long.rest.next());
            assert_rows("a scan that stayed open", found.as_slice(), want.as_slice().iter());
            self.digest.add(&found);
            if found.is_none() {
                open.scans.swap_remove(at);
                break;
            }
        }
        Ok(())
    }

    /// Takes a snapshot, in place of another when there are many.
    ///
    /// # Errors
    /// What the engine says.
    pub fn snapshot(&mut self) -> Result<(), Error> {
        let (state, replaced) = (self.model.state().clone(), self.rng.below(KEPT as u64) as usize);
        let open = self.open.as_mut().expect("open between steps");
        if open.snapshots.len() == KEPT {
            open.snapshots.swap_remove(replaced);
        }
        open.snapshots.push((open.engine.snapshot()?, state));
        Ok(())
    }

    /// Reads through the oldest snapshot.
    ///
    /// # Errors
    /// What the engine says.
    pub fn check_snapshot(&mut self) -> Result<(), Error> {
        let key = workload::model_key(&mut self.rng);
        let open = self.open.as_ref().expect("open between steps");
        let Some((snapshot, state)) = open.snapshots.first() else { return Ok(()) };
        for (at, tree) in open.trees.iter().enumerate() {
            let rows: Vec<_> = tree.scan_at::<Vec<u8>>(.., snapshot)?.collect::<Result<_, _>>()?;
            assert_rows("snapshot", &rows, rows_of(state, at).iter());
            self.digest.add(&rows);
        }
        let found = open.trees[key.0].get_at(&key.1, snapshot)?;
        assert_same("get_at", found.as_ref(), state.get(&key));
        Ok(())
    }
}
