//! Table locks: who holds what, and who waits in which order. Values only; whoever blocks does so elsewhere.
//!
//! ```text
//!             nothing in the way                      release, cancel
//!   request ────────────────────► held ──────────────────────────────► gone
//!      │ a holder or an earlier      ▲
//!      ▼ waiter is in the way        │ grant: nothing in the way any more
//!    waits ──────────────────────────┘
//! ```
//! An object has holders and a queue. A request is in the way of later ones as a held lock is, so that a stream of weak locks
//! does not starve a strong one. As in Postgres there is one exception: who holds something on the object that a waiter wants
//! gone stands before this waiter, since the other order could only be a deadlock.
//!
//! 1. No two transactions hold modes that exclude each other.
//! 2. For each waiter there is a holder or an earlier waiter in its way: nobody waits for nothing.
//! 3. A transaction waits in one queue at a time, once. Who holds a mode is not in the queue for it.

use std::collections::{BTreeMap, HashMap};

use crate::mvcc::txn::lock_mode::{LockMode, Modes};
use crate::mvcc::txn::running::LocalTxn;

/// What can be locked: a tree's id, or any number the host gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockObject(pub u64);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was held already.
    Held,
    /// It is held now.
    Granted,
    /// It waits in the queue.
    Queued,
}

/// Somebody in the way of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Who.
    pub who: LocalTxn,
    /// Only because it stands before in the queue.
    pub by_order: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    who: LocalTxn,
    mode: LockMode,
}

#[derive(Clone, Debug, Default)]
struct Object {
    holders: BTreeMap<LocalTxn, Modes>,
    queue: Vec<Request>,
}

impl Object {
    fn held_by(&self, who: LocalTxn) -> Modes {
        self.holders.get(&who).copied().unwrap_or_default()
    }

    /// Whether others hold nothing that excludes the mode.
    fn is_free_for(&self, request: Request) -> bool {
        let others = self.holders.iter().filter(|&(&who, _)| who != request.who);
        others.map(|(_, &modes)| modes).all(|modes| request.mode.conflicts().excludes(modes))
    }

    /// Whether nobody before `end` in the queue wants what excludes the mode.
    fn is_free_before(&self, request: Request, end: usize) -> bool {
        self.queue[..end].iter().all(|earlier| !request.mode.conflicts().has(earlier.mode))
    }

    /// Where in the queue a request belongs: before the first that waits for its owner, otherwise last.
    fn place_of(&self, request: Request) -> usize {
        let held = self.held_by(request.who);
        let waits_for_owner = |waiter: &Request| !waiter.mode.conflicts().excludes(held);
        self.queue.iter().position(waits_for_owner).unwrap_or(self.queue.len())
    }

    fn grant(&mut self, request: Request) {
        self.holders.entry(request.who).or_default().add(request.mode);
    }

    /// Grants what nothing is in the way of any more, in the order of the queue.
    fn wake(&mut self, woken: &mut Vec<LocalTxn>) {
        let mut at = 0;
        while let Some(&request) = self.queue.get(at) {
            if self.is_free_before(request, at) && self.is_free_for(request) {
                self.queue.remove(at);
                self.grant(request);
                woken.push(request.who);
            } else {
                at += 1;
            }
        }
    }
}

/// All table locks.
#[derive(Debug, Default)]
pub struct LockQueues {
    objects: HashMap<LockObject, Object>,
}

impl LockQueues {
    /// Whether `who` could have the mode now, without waiting. Changes nothing.
    #[must_use]
    pub fn would_grant(&self, who: LocalTxn, object: LockObject, mode: LockMode) -> bool {
        let Some(object) = self.objects.get(&object) else { return true };
        let request = Request { who, mode };
        object.held_by(who).has(mode)
            || (object.is_free_before(request, object.place_of(request)) && object.is_free_for(request))
    }

    /// `who` asks for a lock; queued when it has to wait.
    pub fn request(&mut self, who: LocalTxn, object: LockObject, mode: LockMode) -> Outcome {
        let object = self.objects.entry(object).or_default();
        let request = Request { who, mode };
        if object.held_by(who).has(mode) {
            return Outcome::Held;
        }
        let place = object.place_of(request);
        if object.is_free_before(request, place) && object.is_free_for(request) {
            object.grant(request);
            return Outcome::Granted;
        }
        object.queue.insert(place, request);
        Outcome::Queued
    }

    /// Gives `who` a lock that it held in an earlier life of the engine.
    pub fn restore(&mut self, who: LocalTxn, object: LockObject, modes: Modes) {
        let holders = &mut self.objects.entry(object).or_default().holders;
        let held = holders.entry(who).or_default();
        held.0 |= modes.0;
    }

    /// What `who` holds on `object`.
    #[must_use]
    pub fn held(&self, who: LocalTxn, object: LockObject) -> Modes {
        self.objects.get(&object).map_or(Modes(0), |o| o.held_by(who))
    }

    /// Takes the request of `who` out of the queue; those who can go on now are added to `woken`.
    pub fn cancel(&mut self, who: LocalTxn, object: LockObject, woken: &mut Vec<LocalTxn>) {
        self.change(object, woken, |object| object.queue.retain(|request| request.who != who));
    }

    /// `who` gives up modes on an object; those who can go on now are added to `woken`.
    pub fn release(&mut self, who: LocalTxn, object: LockObject, modes: Modes, woken: &mut Vec<LocalTxn>) {
        self.change(object, woken, |object| {
            if let Some(held) = object.holders.get_mut(&who) {
                held.0 &= !modes.0;
                if held.0 == 0 {
                    object.holders.remove(&who);
                }
            }
        });
    }

    fn change(&mut self, object: LockObject, woken: &mut Vec<LocalTxn>, change: impl FnOnce(&mut Object)) {
        let Some(state) = self.objects.get_mut(&object) else { return };
        change(state);
        state.wake(woken);
        if state.holders.is_empty() && state.queue.is_empty() {
            self.objects.remove(&object);
        }
    }

    /// Who is in the way of the request of `who`, holders first.
    #[must_use]
    pub fn blockers(&self, who: LocalTxn, object: LockObject) -> Vec<Blocker> {
        let Some(object) = self.objects.get(&object) else { return Vec::new() };
        let Some(at) = object.queue.iter().position(|request| request.who == who) else { return Vec::new() };
        let conflicts = object.queue[at].mode.conflicts();
        let holders = object.holders.iter().filter(|&(&other, &modes)| other != who && !conflicts.excludes(modes));
        let holders = holders.map(|(&who, _)| Blocker { who, by_order: false });
        let earlier = object.queue[..at].iter().filter(|request| conflicts.has(request.mode));
        holders.chain(earlier.map(|request| Blocker { who: request.who, by_order: true })).collect()
    }

    /// Who would be in the way of a request that is not made.
    #[must_use]
    pub fn obstacles(&self, who: LocalTxn, object: LockObject, mode: LockMode) -> Vec<LocalTxn> {
        let Some(object) = self.objects.get(&object) else { return Vec::new() };
        let place = object.place_of(Request { who, mode });
        let holders = object.holders.iter().filter(|&(&other, &held)| other != who && !mode.conflicts().excludes(held));
        let earlier = object.queue[..place].iter().filter(|request| mode.conflicts().has(request.mode));
        holders.map(|(&other, _)| other).chain(earlier.map(|request| request.who)).collect()
    }

    /// Moves the request of `who` before that of `other`; returns what [`restore_order`](Self::restore_order) undoes it with.
    pub fn move_before(&mut self, who: LocalTxn, other: LocalTxn, object: LockObject) -> Option<Order> {
        let queue = &mut self.objects.get_mut(&object)?.queue;
        let order = Order { object, queue: queue.clone() };
        let from = queue.iter().position(|request| request.who == who)?;
        let to = queue.iter().position(|request| request.who == other).filter(|&to| to < from)?;
        let request = queue.remove(from);
        queue.insert(to, request);
        Some(order)
    }

    /// Puts a queue back into an order that it had.
    pub fn restore_order(&mut self, order: Order) {
        if let Some(object) = self.objects.get_mut(&order.object) {
            object.queue = order.queue;
        }
    }

    /// Grants what can be granted after a change of the order.
    pub fn wake(&mut self, object: LockObject, woken: &mut Vec<LocalTxn>) {
        self.change(object, woken, |_| {});
    }

    /// The invariants.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut waiting = std::collections::BTreeSet::new();
        for object in self.objects.values() {
            for (who, modes) in &object.holders {
                assert!(modes.0 != 0);
                assert!(modes.iter().all(|mode| object.is_free_for(Request { who: *who, mode })), "1");
            }
            for (at, &request) in object.queue.iter().enumerate() {
                assert!(!(object.is_free_before(request, at) && object.is_free_for(request)), "2");
                assert!(waiting.insert(request.who) && !object.held_by(request.who).has(request.mode), "3");
            }
        }
    }
}

/// The order of a queue, to go back to.
#[derive(Debug)]
pub struct Order {
    object: LockObject,
    queue: Vec<Request>,
}

#[cfg(test)]
mod tests;
