//! Who waits for whom, for the ends of transactions and for table locks alike, and who is caught in a circle. Values only.
//!
//! ```text
//!            wait_for, lock                        all have ended / granted
//!   runs ────────────────────► waits ─────────────────────────────────────► runs, and was woken
//!                                │ cancel (timeout, deadlock)
//!                                └──────────────► runs, and was not
//! ```
//! A waiter goes on when *all* it waits for are gone: the ids it named, or everybody in the way of its lock. So the waiting
//! are stuck exactly when the graph has a circle, and the last one to begin waiting is in every circle that came about. Who
//! has waited long enough looks for a circle through itself; when it finds one it is the victim, unless the circle hangs on
//! the order of a queue alone and another order has none.
//!
//! 1. A transaction waits for one thing at a time.
//! 2. An id is in `owners` from the moment it is handed out to the moment its end can be read; waiting for it is over when it
//!    leaves.
//! 3. A victim stops waiting before the lock over this structure is given up: a circle has one victim.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::base::ids::TxnId;
use crate::mvcc::txn::lock_mode::{LockMode, Modes};
use crate::mvcc::txn::lock_queue::{LockObject, LockQueues, Outcome};
use crate::mvcc::txn::running::LocalTxn;

/// A transaction as messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// It has an id.
    Id(TxnId),
    /// It has not written, so it has none.
    Reader(LocalTxn),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "transaction {id}"),
            Self::Reader(local) => write!(f, "reader {}", local.0),
        }
    }
}

/// One step of a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CycleStep {
    /// Who waits.
    pub waiter: Party,
    /// For what.
    pub what: String,
    /// Because of whom: the waiter of the next step.
    pub holder: Party,
}

impl fmt::Display for CycleStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {} held by {}", self.waiter, self.what, self.holder)
    }
}

/// What a look for circles has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Search {
    /// No circle.
    Free,
    /// One that went away with another order of a queue; who can go on now.
    Reordered(Vec<LocalTxn>),
    /// One that only a victim can end.
    Deadlock(Vec<CycleStep>),
}

#[derive(Debug)]
enum Need {
    Ends { ids: Vec<TxnId>, what: String },
    Lock { object: LockObject, mode: LockMode },
}

/// An edge of the graph.
#[derive(Clone, Copy, Debug)]
struct Edge {
    from: LocalTxn,
    to: LocalTxn,
    /// The queue whose order alone makes it.
    by_order: Option<LockObject>,
}

/// The waiting, and what they wait for.
#[derive(Debug, Default)]
pub struct Waits {
    owners: HashMap<TxnId, LocalTxn>,
    names: HashMap<LocalTxn, TxnId>,
    waiting: HashMap<LocalTxn, Need>,
    /// Who waits for the end of an id.
    by_id: HashMap<TxnId, Vec<LocalTxn>>,
    locks: LockQueues,
}

impl Waits {
    /// Notes that `id` belongs to `owner`.
    pub fn own(&mut self, owner: LocalTxn, id: TxnId) {
        self.owners.insert(id, owner);
        self.names.entry(owner).or_insert(id);
    }

    /// Those of `ids` that somebody other than `who` owns and that have not ended.
    #[must_use]
    pub fn running(&self, who: LocalTxn, ids: &[TxnId]) -> Vec<TxnId> {
        ids.iter().copied().filter(|id| self.owners.get(id).is_some_and(|&owner| owner != who)).collect()
    }

    /// `who` waits until `ids` have ended; whether it has to. `what` says for messages what they hold.
    pub fn wait_for(&mut self, who: LocalTxn, ids: &[TxnId], what: impl FnOnce() -> String) -> bool {
        let mut ids = self.running(who, ids);
        if ids.is_empty() {
            return false;
        }
        ids.sort_unstable();
        ids.dedup();
        for &id in &ids {
            self.by_id.entry(id).or_default().push(who);
        }
        let before = self.waiting.insert(who, Need::Ends { ids, what: what() });
        assert!(before.is_none(), "a transaction waits for one thing at a time");
        true
    }

    /// `who` asks for a table lock, and waits for it when it has to.
    pub fn lock(&mut self, who: LocalTxn, object: LockObject, mode: LockMode) -> Outcome {
        let outcome = self.locks.request(who, object, mode);
        if outcome == Outcome::Queued {
            let before = self.waiting.insert(who, Need::Lock { object, mode });
            assert!(before.is_none(), "a transaction waits for one thing at a time");
        }
        outcome
    }

    /// The table locks, to look at or to restore.
    pub const fn locks(&mut self) -> &mut LockQueues {
        &mut self.locks
    }

    /// Whether `who` waits.
    #[must_use]
    pub fn is_waiting(&self, who: LocalTxn) -> bool {
        self.waiting.contains_key(&who)
    }

    /// Everybody that waits.
    pub fn all_waiting(&self) -> impl Iterator<Item = LocalTxn> {
        self.waiting.keys().copied()
    }

    /// `who` waits no more; returns who can go on because of that.
    pub fn cancel(&mut self, who: LocalTxn) -> Vec<LocalTxn> {
        let mut woken = Vec::new();
        match self.waiting.remove(&who) {
            Some(Need::Ends { ids, .. }) => {
                for id in ids {
                    if let Some(waiters) = self.by_id.get_mut(&id) {
                        waiters.retain(|&waiter| waiter != who);
                        if waiters.is_empty() {
                            self.by_id.remove(&id);
                        }
                    }
                }
            }
            Some(Need::Lock { object, .. }) => self.locks.cancel(who, object, &mut woken),
            None => {}
        }
        self.granted(woken)
    }

    /// `ids` have ended, and that can be read; returns who can go on.
    pub fn end_ids(&mut self, ids: &[TxnId]) -> Vec<LocalTxn> {
        let mut woken = Vec::new();
        for id in ids {
            self.owners.remove(id);
            for waiter in self.by_id.remove(id).unwrap_or_default() {
                let Some(Need::Ends { ids: left, .. }) = self.waiting.get_mut(&waiter) else { continue };
                left.retain(|other| other != id);
                if left.is_empty() {
                    self.waiting.remove(&waiter);
                    woken.push(waiter);
                }
            }
        }
        woken
    }

    /// `who` gives up table locks; returns who can go on.
    pub fn release(&mut self, who: LocalTxn, locks: &[(LockObject, Modes)]) -> Vec<LocalTxn> {
        let mut woken = Vec::new();
        for &(object, modes) in locks {
            self.locks.release(who, object, modes, &mut woken);
        }
        self.granted(woken)
    }

    /// `who` is gone: it has no ids, no locks, and does not wait.
    pub fn forget(&mut self, who: LocalTxn) {
        debug_assert!(!self.is_waiting(who), "who waits has not ended");
        self.names.remove(&who);
    }

    fn granted(&mut self, woken: Vec<LocalTxn>) -> Vec<LocalTxn> {
        for who in &woken {
            self.waiting.remove(who);
        }
        woken
    }

    /// As messages name `who`.
    #[must_use]
    pub fn party(&self, who: LocalTxn) -> Party {
        self.names.get(&who).map_or(Party::Reader(who), |&id| Party::Id(id))
    }

    /// Whom `who` waits for.
    #[must_use]
    pub fn blockers(&self, who: LocalTxn) -> Vec<LocalTxn> {
        self.edges(who).into_iter().map(|edge| edge.to).collect()
    }

    fn edges(&self, from: LocalTxn) -> Vec<Edge> {
        match self.waiting.get(&from) {
            None => Vec::new(),
            Some(Need::Ends { ids, .. }) => {
                let owners = ids.iter().filter_map(|id| self.owners.get(id));
                owners.map(|&to| Edge { from, to, by_order: None }).collect()
            }
            Some(&Need::Lock { object, .. }) => {
                let blockers = self.locks.blockers(from, object).into_iter();
                blockers.map(|b| Edge { from, to: b.who, by_order: b.by_order.then_some(object) }).collect()
            }
        }
    }

    /// Looks for a circle through `who`, and ends one that hangs on the order of a queue alone.
    pub fn search(&mut self, who: LocalTxn) -> Search {
        let Some(circle) = self.find_circle(who) else { return Search::Free };
        for edge in &circle {
            let Some(object) = edge.by_order else { continue };
            let Some(order) = self.locks.move_before(edge.from, edge.to, object) else { continue };
            let clean = [who, edge.from, edge.to].iter().all(|&party| self.find_circle(party).is_none());
            if clean {
                let mut woken = Vec::new();
                self.locks.wake(object, &mut woken);
                return Search::Reordered(self.granted(woken));
            }
            self.locks.restore_order(order);
        }
        Search::Deadlock(circle.iter().map(|edge| self.step(*edge)).collect())
    }

    fn step(&self, edge: Edge) -> CycleStep {
        let what = match self.waiting.get(&edge.from) {
            Some(Need::Ends { what, .. }) => what.clone(),
            Some(Need::Lock { object, mode }) => format!("{mode} lock on object {}", object.0),
            None => String::new(),
        };
        CycleStep { waiter: self.party(edge.from), what, holder: self.party(edge.to) }
    }

    /// The edges of a circle through `start`. Looks at each transaction once.
    fn find_circle(&self, start: LocalTxn) -> Option<Vec<Edge>> {
        let mut seen = HashSet::from([start]);
        // The path so far: of each transaction on it, the edges not tried yet; the last one taken leads to the next.
        let mut untried = vec![self.edges(start)];
        let mut path: Vec<Edge> = Vec::new();
        while let Some(edges) = untried.last_mut() {
            let Some(edge) = edges.pop() else {
                untried.pop();
                path.pop();
                continue;
            };
            if edge.to == start {
                path.push(edge);
                return Some(path);
            }
            if seen.insert(edge.to) {
                path.push(edge);
                untried.push(self.edges(edge.to));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
