//! Switching the active memtable.
//!
//! The rotation blocks new writers, waits for those of the old table, and only then makes the new one active. The wait is
//! as short as an insert; in return every sequence number of a newer table is larger than every one of an older table, which
//! point lookups rely on, and the log position noted in the new table is exact.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::key::{TREE_PREFIX_LEN_MAX, Trailer, common_prefix_len, prefix_successor, split_full_key};
use crate::error::{Error, Result};
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::memtable::Memtable;
use crate::lsm::stats::Counter;
use crate::mem::skiplist::fingerprint::{PREFIX_LEN_MAX, PREFIXES_MAX};

/// Trees of a memtable that are looked at.
const TREES_MAX: usize = 4 * PREFIXES_MAX;

impl Lsm {
    /// Makes a fresh memtable active in place of the one that `full` has; returns at once when that has happened already.
    /// Waits for a flush when no memtable is free.
    ///
    /// # Errors
    /// Closed; I/O when the wait exceeds option `stall_timeout`, or when background work is the caller's and fails.
    pub fn rotate(&self, full: MemtableList) -> Result<()> {
        let started = self.env.now();
        loop {
            self.check_open()?;
            let seen = self.control().progress.current();
            {
                let _turn = self.hold(|| self.control().rotation.lock())?;
                let list = self.memtable_list();
                if !list.is_empty() && list.active() != full.active() {
                    return Ok(());
                }
                let oldest_pin = self.pins.oldest();
                if let Some(free) = self.memtables.find_free(list.indices(), oldest_pin) {
                    return self.activate(free, list);
                }
            }
            self.await_progress(seen)?;
            if self.host.get().is_some_and(|host| !host.flushes_itself()) {
                // No flush will make room until space returns.
                self.check_space()?;
            }
            let waited = self.env.now().saturating_sub(started);
            if self.options.stall_timeout.is_some_and(|limit| waited > limit) {
                let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(Error::io(&self.dir, "write: flushes are too slow for option stall_timeout in", source));
            }
            self.stats().add(Counter::MemtableWaits, 1);
        }
    }

    /// Makes memtable `free` active. The caller holds the rotation lock (or is alone, at open).
    pub(crate) fn activate(&self, free: usize, list: MemtableList) -> Result<()> {
        let control = self.control();
        // While writers go on in the old one.
        self.memtables.get(free).empty(&self.expected_prefixes(list)?);
        control.writers_blocked.store(1, Ordering::SeqCst);
        let drained = self.drain_writers();
        if drained.is_ok() {
            let start = self.log.get().map_or_else(|| self.replay_position(), |log| log.position());
            self.memtables.get(free).begin(start);
            // A flush may take the oldest entry off at the same time.
            let _ = control
                .memtables
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| Some(MemtableList(word).with_active(free).0));
            control.advance_generation();
        }
        control.writers_blocked.store(0, Ordering::SeqCst);
        control.progress.notify();
        control.work.notify();
        drained
    }

    /// What the keys of the next memtable are expected to begin with: where the active one of `list` and the files have keys.
    fn expected_prefixes(&self, list: MemtableList) -> Result<Vec<Vec<u8>>> {
        let view = self.view()?;
        let edges = view.files().flat_map(|(_, file)| [file.meta.smallest.clone(), file.meta.largest.clone()]);
        let written = if list.is_empty() { Vec::new() } else { edges_of_trees(self.memtables.get(list.active())) };
        Ok(prefixes(written.into_iter().chain(edges)))
    }

    /// Waits until no writer is pinned. New ones are blocked, and those under way wait for nothing but the log.
    pub(crate) fn drain_writers(&self) -> Result<()> {
        let mut turns = 0u32;
        while self.pins.oldest_writer().is_some() {
            turns += 1;
            if turns < 1000 {
                std::thread::yield_now();
                continue;
            }
            self.check_open()?;
            if self.pins.reap_dead().writers > 0 {
                self.control().poison();
                return Err(super::closed_by_death());
            }
            self.env.sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}

/// The first and the last key of each tree that a memtable has entries of, up to a number of trees.
fn edges_of_trees(table: &Memtable) -> Vec<Vec<u8>> {
    let mut edges = Vec::new();
    let mut iter = table.iter();
    Memtable::seek_first(&mut iter);
    while iter.valid() && edges.len() < 2 * TREES_MAX {
        edges.push(iter.key().to_vec());
        let Some(end) = tree_prefix(iter.key()).and_then(prefix_successor) else { break };
        iter.seek_before(&end, Trailer::MAX);
        edges.push(iter.key().to_vec());
        iter.next();
    }
    edges
}

/// What names the tree of a full key.
fn tree_prefix(key: &[u8]) -> Option<&[u8]> {
    split_full_key(key).map(|(_, rest)| &key[..key.len() - rest.len()])
}

/// What the keys of each tree have in common, in the order of trees, for as many trees as a list takes; the first that come count.
fn prefixes(keys: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    // By the trees' prefixes: a key, and how much of it all others have; a single one tells nothing but its tree.
    let mut trees: BTreeMap<Vec<u8>, (Vec<u8>, Option<usize>)> = BTreeMap::new();
    for key in keys {
        let Some(tree) = tree_prefix(&key) else { continue };
        let has_room = trees.len() < PREFIXES_MAX;
        match trees.get_mut(tree) {
            Some((first, common)) if *first != key => {
                let shared = common_prefix_len(first, &key);
                *common = Some(common.map_or(shared, |common| shared.min(common)));
            }
            None if has_room => {
                trees.insert(tree.to_vec(), (key, None));
            }
            _ => {}
        }
    }
    let cut = |(tree, (mut first, common)): (Vec<u8>, (Vec<u8>, Option<usize>))| {
        first.truncate(common.unwrap_or(tree.len()).min(PREFIX_LEN_MAX));
        first
    };
    trees.into_iter().map(cut).collect()
}

const _: () = assert!(PREFIX_LEN_MAX > TREE_PREFIX_LEN_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TreeId;
    use crate::base::key::full_key;

    #[test]
    fn what_trees_have_in_common_is_expected() {
        let key = |tree: u64, row: u32| full_key(TreeId(tree), &row.to_be_bytes());
        let keys = [key(700, 0x0102_0300), key(700, 0x0102_0301), key(3, 9), key(3, 9), key(700, 0x0105_0000)];
        let expected = [full_key(TreeId(3), &[]), full_key(TreeId(700), &[1])];
        assert_eq!(prefixes(keys.into_iter()), expected);
        let many = prefixes((0..1000).flat_map(|tree| [key(tree, 0), key(tree, 1)]));
        assert_eq!(many.len(), PREFIXES_MAX);
        assert!(many.is_sorted() && many[1] == full_key(TreeId(1), &[0, 0, 0]));
        assert!(prefixes([vec![0xFF; 3]].into_iter()).is_empty(), "no full key");
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod models;
