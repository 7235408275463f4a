//! Who runs: hands out ids, takes snapshots, and knows the oldest of everything. One short lock for all of it.
//!
//! 1. An id runs from the moment it is handed out: in `running` and in the window, both under the lock, before the caller
//!    knows it.
//! 2. An end marks all ids of the transaction in the window and takes them out of `running` under the lock. Whoever has seen
//!    one of them committed and takes a snapshot then finds all of them committed in it.
//! 3. Every snapshot in use is registered. [`Running::horizon`] takes `now` and the list under one lock, so a snapshot that
//!    is not listed is younger than `now`, which is what `mvcc::garbage` asks for.
//! 4. Commits are numbered in the order in which they leave; a snapshot's number is that of the last commit that it counts.
//!
//! Nothing under the lock waits, writes or reads a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::ids::{CommandId, TxnId};
use crate::mvcc::garbage::Horizon;
use crate::mvcc::snapshot::TxnSnapshot;
use crate::mvcc::status::TxnState;
use crate::mvcc::txn::window::Window;

/// Names a transaction of this process, whether it has an id or not. They rise, and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTxn(pub u64);

/// Position in the order of commits. Zero is before all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitNo(pub u64);

/// Names a registered snapshot: its oldest id and when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotKey(TxnId, u64);

#[derive(Debug)]
struct State {
    /// The next id.
    next: TxnId,
    /// Ids from here on may not be handed out yet.
    limit: TxnId,
    /// Ascending.
    running: Vec<TxnId>,
    /// The same, as snapshots share it; `None` after it has changed.
    shared: Option<Arc<[TxnId]>>,
    snapshots: BTreeMap<SnapshotKey, TxnSnapshot>,
    /// Transactions that may still read.
    readers: BTreeSet<LocalTxn>,
    /// Counts transactions and snapshots.
    serial: u64,
    commits: CommitNo,
}

/// The set of running transactions.
#[derive(Debug)]
pub struct Running {
    window: Window,
    state: Mutex<State>,
}

impl State {
    fn oldest(&self) -> TxnId {
        self.running.first().copied().unwrap_or(self.next)
    }

    fn now(&mut self, command: CommandId) -> TxnSnapshot {
        let running = self.shared.get_or_insert_with(|| self.running.as_slice().into());
        let running = Arc::clone(running);
        TxnSnapshot { oldest: self.oldest(), next: self.next, running, command }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

impl Running {
    /// Nobody runs; ids start at `next`, but none may be handed out before [`raise_limit`](Self::raise_limit).
    #[must_use]
    pub fn new(next: TxnId, window: Window) -> Self {
        let state = State {
            next,
            limit: next,
            running: Vec::new(),
            shared: None,
            snapshots: BTreeMap::new(),
            readers: BTreeSet::new(),
            serial: 0,
            commits: CommitNo(0),
        };
        Self { window, state: Mutex::new(state) }
    }

    /// The states of recent ids.
    #[inline]
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// A transaction begins to read.
    pub fn start(&self) -> LocalTxn {
        let mut state = self.state.lock();
        let local = LocalTxn(state.next_serial());
        state.readers.insert(local);
        local
    }

    /// A transaction reads no more.
    pub fn stop(&self, local: LocalTxn) {
        self.state.lock().readers.remove(&local);
    }

    /// The next id, which runs from now on; `None` when the limit is reached.
    pub fn allocate(&self) -> Option<TxnId> {
        let mut state = self.state.lock();
        let id = state.next;
        if id >= state.limit {
            return None;
        }
        state.next = TxnId(id.0 + 1);
        state.running.push(id);
        state.shared = None;
        self.window.begin(id);
        Some(id)
    }

    /// The number from which on no id may be handed out yet.
    #[must_use]
    pub fn limit(&self) -> TxnId {
        self.state.lock().limit
    }

    /// Allows ids below `limit`: it is written down that they may be in use.
    pub fn raise_limit(&self, limit: TxnId) {
        let mut state = self.state.lock();
        state.limit = state.limit.max(limit);
    }

    /// `ids`, ascending and from an earlier life of the engine, run on.
    pub fn resume(&self, ids: &[TxnId]) {
        let mut state = self.state.lock();
        for &id in ids {
            self.window.resume(id);
            if let Err(at) = state.running.binary_search(&id) {
                state.running.insert(at, id);
            }
        }
        state.shared = None;
    }

    /// `ids`, ascending, have ended. When that is a commit it is the one with the returned number.
    pub fn leave(&self, ids: &[TxnId], end: TxnState) -> CommitNo {
        let mut state = self.state.lock();
        for &id in ids {
            self.window.end(id, end);
        }
        match ids {
            [] => {}
            [id] => {
                if let Ok(at) = state.running.binary_search(id) {
                    state.running.remove(at);
                }
            }
            _ => state.running.retain(|id| ids.binary_search(id).is_err()),
        }
        if !ids.is_empty() {
            state.shared = None;
        }
        if end == TxnState::Committed {
            state.commits.0 += 1;
        }
        state.commits
    }

    /// Takes and registers a snapshot; with the number of the last commit that it counts.
    pub fn take_snapshot(&self, command: CommandId) -> (TxnSnapshot, SnapshotKey, CommitNo) {
        let mut state = self.state.lock();
        let snapshot = state.now(command);
        let key = SnapshotKey(snapshot.oldest, state.next_serial());
        state.snapshots.insert(key, snapshot.clone());
        (snapshot, key, state.commits)
    }

    /// Nobody reads with this snapshot any more.
    pub fn release_snapshot(&self, key: SnapshotKey) {
        self.state.lock().snapshots.remove(&key);
    }

    /// Who may still read old versions.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        let mut state = self.state.lock();
        let now = state.now(CommandId(0));
        let oldest = state.snapshots.first_key_value().map_or(now.oldest, |(key, _)| key.0.min(now.oldest));
        Horizon { now, oldest, snapshots: Some(state.snapshots.values().cloned().collect()) }
    }

    /// The oldest id that runs; the next one when nobody does.
    #[must_use]
    pub fn oldest(&self) -> TxnId {
        self.state.lock().oldest()
    }

    /// Whether `id` was ever handed out.
    #[must_use]
    pub fn has_begun(&self, id: TxnId) -> bool {
        id < self.state.lock().next
    }

    /// A mark of now, for [`all_readers_after`](Self::all_readers_after).
    pub fn mark(&self) -> u64 {
        self.state.lock().next_serial()
    }

    /// Whether every transaction that may still read, and every snapshot in use, is younger than `mark`.
    #[must_use]
    pub fn all_readers_after(&self, mark: u64) -> bool {
        let state = self.state.lock();
        let readers = state.readers.first().is_none_or(|local| local.0 > mark);
        readers && state.snapshots.keys().all(|key| key.1 > mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Running {
        let running = Running::new(TxnId(1), Window::new(8));
        running.raise_limit(TxnId(100));
        running
    }

    #[test]
    fn a_snapshot_counts_who_had_ended() {
        let running = running();
        let ids: Vec<_> = (0..4).map(|_| running.allocate().unwrap()).collect();
        running.leave(&ids[1..2], TxnState::Committed);
        let (snapshot, key, number) = running.take_snapshot(CommandId(0));
        assert_eq!(number, CommitNo(1));
        assert_eq!((snapshot.oldest, snapshot.next), (TxnId(1), TxnId(5)));
        assert_eq!(snapshot.running.as_ref(), [TxnId(1), TxnId(3), TxnId(4)]);
        running.leave(&[TxnId(1), TxnId(4)], TxnState::Committed);
        let horizon = running.horizon();
        assert_eq!(horizon.oldest, TxnId(1));
        assert_eq!(horizon.now.running.as_ref(), [TxnId(3)]);
        assert_eq!(horizon.snapshots.unwrap(), [snapshot]);
        running.release_snapshot(key);
        assert_eq!(running.horizon().oldest, TxnId(3));
    }

    #[test]
    fn ids_wait_for_their_limit() {
        let running = Running::new(TxnId(7), Window::new(8));
        assert_eq!(running.allocate(), None);
        running.raise_limit(TxnId(8));
        assert_eq!(running.allocate(), Some(TxnId(7)));
        assert_eq!(running.allocate(), None);
    }

    #[test]
    fn readers_are_older_than_marks_until_they_stop() {
        let running = running();
        let reader = running.start();
        let (_, key, _) = running.take_snapshot(CommandId(0));
        let mark = running.mark();
        running.start();
        assert!(!running.all_readers_after(mark));
        running.stop(reader);
        assert!(!running.all_readers_after(mark));
        running.release_snapshot(key);
        assert!(running.all_readers_after(mark));
    }
}
