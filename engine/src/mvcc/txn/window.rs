//! How far each transaction has come, for the recent ids: an array of atomics, asked for every version of a row.
//!
//! ```text
//!              begin(id)                                begin(id + size)
//!   slot 0.. ────────────► (id, in progress) ─ end ─► (id, ended) ─────────► (id + size, in progress)
//!                                   │ begin(id + size)
//!                                   ▼
//!                              straggler ─ end ─► (nothing: the tree knows)
//! ```
//! An id has the slot `id % size`. The word in it is the id and its state, so one load tells both whether the slot speaks of
//! this id and what it says. A second array of the same form remembers what the status tree has said of older ids.
//!
//! 1. A slot holds the largest id that has begun of those that share it.
//! 2. An id that runs is in its slot or among the stragglers: it is put there before its slot is taken from it.
//! 3. An id that has ended and is in neither array has its commit record in the status tree, or has none and is aborted:
//!    [`Window::end`] comes after the record.
//! 4. States that are final never change, so remembering one is always right.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::base::ids::TxnId;
use crate::mvcc::status::TxnState;

const IN_PROGRESS: u64 = 1;
const COMMITTED: u64 = 2;
const ABORTED: u64 = 3;

/// The states of recent ids.
#[derive(Debug)]
pub struct Window {
    slots: Box<[AtomicU64]>,
    /// Ended ids that the slots no longer hold; whoever came last.
    older: Box<[AtomicU64]>,
    stragglers: RwLock<BTreeSet<TxnId>>,
    straggler_count: AtomicUsize,
}

const fn word(id: TxnId, state: TxnState) -> u64 {
    let state = match state {
        TxnState::InProgress => IN_PROGRESS,
        TxnState::Committed => COMMITTED,
        TxnState::Aborted => ABORTED,
    };
    id.0 << 2 | state
}

#[inline]
fn state_in(slot: &AtomicU64, id: TxnId) -> Option<TxnState> {
    let word = slot.load(Ordering::Acquire);
    if word >> 2 != id.0 {
        return None;
    }
    match word & 3 {
        IN_PROGRESS => Some(TxnState::InProgress),
        COMMITTED => Some(TxnState::Committed),
        ABORTED => Some(TxnState::Aborted),
        _ => None,
    }
}

impl Window {
    /// A window over `size` ids, a power of two, that knows nobody yet.
    #[must_use]
    pub fn new(size: usize) -> Self {
        assert!(size.is_power_of_two(), "the size of a window is a power of two");
        let array = |len: usize| (0..len).map(|_| AtomicU64::new(0)).collect();
        Self {
            slots: array(size),
            older: array(size),
            stragglers: RwLock::default(),
            straggler_count: AtomicUsize::new(0),
        }
    }

    #[inline]
    fn slot_of(array: &[AtomicU64], id: TxnId) -> &AtomicU64 {
        &array[id.0 as usize & (array.len() - 1)]
    }

    /// Notes that `id` runs. Ids begin one after the other, in their order.
    pub fn begin(&self, id: TxnId) {
        let slot = Self::slot_of(&self.slots, id);
        let before = slot.load(Ordering::Relaxed);
        if before & 3 == IN_PROGRESS {
            self.resume(TxnId(before >> 2));
        }
        slot.store(word(id, TxnState::InProgress), Ordering::Release);
    }

    /// Notes that `id` runs, one that may be older than the window.
    pub fn resume(&self, id: TxnId) {
        let mut stragglers = self.stragglers.write();
        stragglers.insert(id);
        self.straggler_count.store(stragglers.len(), Ordering::Release);
    }

    /// Notes how `id` has ended; its commit record is written.
    pub fn end(&self, id: TxnId, state: TxnState) {
        let slot = Self::slot_of(&self.slots, id);
        let ended = word(id, state);
        // Nobody else writes this slot with this id; the next that shares it may take it at this moment.
        if slot.compare_exchange(word(id, TxnState::InProgress), ended, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return;
        }
        self.remember(id, state);
        let mut stragglers = self.stragglers.write();
        stragglers.remove(&id);
        self.straggler_count.store(stragglers.len(), Ordering::Release);
    }

    /// Remembers how `id` has ended.
    pub fn remember(&self, id: TxnId, state: TxnState) {
        debug_assert!(state != TxnState::InProgress, "only what is final is remembered");
        Self::slot_of(&self.older, id).store(word(id, state), Ordering::Release);
    }

    /// How far `id` has come; `None`: it has ended, and the status tree says how.
    #[inline]
    #[must_use]
    pub fn state(&self, id: TxnId) -> Option<TxnState> {
        state_in(Self::slot_of(&self.slots, id), id).or_else(|| self.state_of_older(id))
    }

    #[cold]
    fn state_of_older(&self, id: TxnId) -> Option<TxnState> {
        if let Some(state) = state_in(Self::slot_of(&self.older, id), id) {
            return Some(state);
        }
        let runs = self.straggler_count.load(Ordering::Acquire) > 0 && self.stragglers.read().contains(&id);
        runs.then_some(TxnState::InProgress)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        /// Ends the n-th of those that run.
        End(usize, bool),
        Remember(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Begin),
            2 => (any::<usize>(), any::<bool>()).prop_map(|(which, commit)| Step::End(which, commit)),
            1 => (1u64..200).prop_map(Step::Remember),
        ]
    }

    proptest! {
        #[test]
        fn a_window_says_what_a_table_says(steps in proptest::collection::vec(step(), 1..200), resumed in 0u64..5) {
            let window = Window::new(8);
            let mut table = BTreeMap::new();
            for id in 1..=resumed {
                window.resume(TxnId(id));
                table.insert(id, TxnState::InProgress);
            }
            let mut next = resumed + 1;
            for step in steps {
                match step {
                    Step::Begin => {
                        window.begin(TxnId(next));
                        table.insert(next, TxnState::InProgress);
                        next += 1;
                    }
                    Step::End(which, commit) => {
                        let running: Vec<_> =
                            table.iter().filter(|(_, s)| **s == TxnState::InProgress).map(|(&id, _)| id).collect();
                        if running.is_empty() { continue; }
                        let id = running[which % running.len()];
                        let state = if commit { TxnState::Committed } else { TxnState::Aborted };
                        window.end(TxnId(id), state);
                        table.insert(id, state);
                    }
                    Step::Remember(id) => {
                        if let Some(&state) = table.get(&id).filter(|s| **s != TxnState::InProgress) {
                            window.remember(TxnId(id), state);
                        }
                    }
                }
                for (&id, &state) in &table {
                    match window.state(TxnId(id)) {
                        // Only the ended may be forgotten, and of the last eight nobody is.
                        None => prop_assert!(state != TxnState::InProgress && id + 8 < next),
                        Some(said) => prop_assert_eq!(said, state),
                    }
                }
                prop_assert_eq!(window.state(TxnId(next)), None);
            }
        }
    }
}
