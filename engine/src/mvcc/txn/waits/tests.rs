//! Circles are found, and nobody else is a victim: against an oracle that lets everybody run who can.

use std::collections::BTreeSet;

use super::*;
use crate::env::Env;
use crate::env::memory::MemoryEnv;

const OBJECTS: u64 = 4;

/// Chance that repeats.
struct Dice(std::sync::Arc<MemoryEnv>);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        self.0.random() % bound
    }
}

/// Transactions that can never go on: let everybody who runs end, again and again, and see who is left.
fn stuck(waits: &Waits, all: &[LocalTxn]) -> BTreeSet<LocalTxn> {
    let mut left: BTreeSet<_> = all.iter().copied().collect();
    loop {
        let free: Vec<_> =
            left.iter().copied().filter(|&who| waits.blockers(who).iter().all(|other| !left.contains(other))).collect();
        if free.is_empty() {
            return left;
        }
        for who in free {
            left.remove(&who);
        }
    }
}

struct World {
    waits: Waits,
    all: Vec<LocalTxn>,
    held: Vec<Vec<(LockObject, Modes)>>,
    victims: u64,
    reordered: u64,
}

impl World {
    fn new(count: u64) -> Self {
        let all: Vec<_> = (0..count).map(LocalTxn).collect();
        let mut waits = Waits::default();
        for &who in &all {
            waits.own(who, id(who));
        }
        Self { waits, held: vec![Vec::new(); all.len()], all, victims: 0, reordered: 0 }
    }

    fn end(&mut self, who: LocalTxn) {
        self.waits.cancel(who);
        self.waits.end_ids(&[id(who)]);
        let held: Vec<_> = (0..OBJECTS).map(|o| (LockObject(o), Modes(0xFF))).collect();
        self.waits.release(who, &held);
        self.held[who.0 as usize].clear();
        // Another transaction begins in its place.
        self.waits.own(who, id(who));
    }

    /// Everybody looks; each victim must be stuck, and afterwards nobody is.
    fn look(&mut self) {
        for who in self.all.clone() {
            if !self.waits.is_waiting(who) {
                continue;
            }
            let caught = stuck(&self.waits, &self.all);
            match self.waits.search(who) {
                Search::Free => {}
                Search::Reordered(_) => {
                    assert!(caught.contains(&who), "only a circle is a reason for another order");
                    self.reordered += 1;
                }
                Search::Deadlock(cycle) => {
                    assert!(caught.contains(&who), "a victim that was not stuck");
                    let closed = cycle.iter().zip(cycle.iter().cycle().skip(1)).all(|(a, b)| a.holder == b.waiter);
                    assert!(closed && cycle[0].waiter == self.waits.party(who), "{cycle:?}");
                    self.victims += 1;
                    self.end(who);
                }
            }
            self.waits.locks().check();
        }
        assert!(stuck(&self.waits, &self.all).is_empty(), "a deadlock was not found");
    }
}

fn id(who: LocalTxn) -> TxnId {
    TxnId(who.0 + 100)
}

fn random_step(world: &mut World, dice: &Dice) {
    let who = LocalTxn(dice.below(world.all.len() as u64));
    if world.waits.is_waiting(who) {
        if dice.below(8) == 0 {
            world.waits.cancel(who);
        }
        return;
    }
    match dice.below(8) {
        0 => world.end(who),
        1 | 2 => {
            let other = LocalTxn(dice.below(world.all.len() as u64));
            world.waits.wait_for(who, &[id(other)], || "a row".into());
        }
        _ => {
            let object = LockObject(dice.below(OBJECTS));
            let mode = LockMode::ALL[dice.below(8) as usize];
            world.waits.lock(who, object, mode);
        }
    }
}

#[test]
fn victims_are_stuck_and_nobody_else_stays_stuck() {
    let dice = Dice(MemoryEnv::new(7));
    let (mut victims, mut reordered) = (0, 0);
    for schedule in 0..100_000 {
        let mut world = World::new(2 + dice.below(9));
        for _ in 0..12 + dice.below(20) {
            random_step(&mut world, &dice);
            if schedule % 2 == 0 && dice.below(4) == 0 {
                world.look();
            }
        }
        world.look();
        victims += world.victims;
        reordered += world.reordered;
    }
    println!("100000 schedules: {victims} victims, all stuck; {reordered} circles ended by another order");
    assert!(victims > 10_000 && reordered > 100, "the schedules have become tame: {victims} {reordered}");
}

#[test]
fn circles_of_every_length_have_one_victim() {
    for count in 2..=10 {
        let mut world = World::new(count);
        for at in 0..count {
            world.waits.lock(LocalTxn(at), LockObject(10 + at), LockMode::AccessExclusive);
        }
        for at in 0..count {
            let next = (at + 1) % count;
            // Rows and tables by turns: one graph for both.
            if at % 2 == 0 {
                assert!(world.waits.wait_for(LocalTxn(at), &[id(LocalTxn(next))], || format!("row 'r{next}'")));
            } else {
                let outcome = world.waits.lock(LocalTxn(at), LockObject(10 + next), LockMode::RowShare);
                assert_eq!(outcome, Outcome::Queued);
            }
            if at + 1 < count {
                assert_eq!(world.waits.search(LocalTxn(at)), Search::Free);
            }
        }
        let Search::Deadlock(cycle) = world.waits.search(LocalTxn(count - 1)) else { panic!("{count} are stuck") };
        assert_eq!(cycle.len() as u64, count);
        world.end(LocalTxn(count - 1));
        for at in 0..count - 1 {
            assert_eq!(world.waits.search(LocalTxn(at)), Search::Free, "one circle, one victim");
        }
    }
}

#[test]
fn the_circle_is_told() {
    let mut waits = Waits::default();
    let [a, b, reader] = [1, 2, 3].map(LocalTxn);
    waits.own(a, TxnId(7));
    waits.own(b, TxnId(9));
    waits.lock(reader, LockObject(5), LockMode::AccessShare);
    assert!(waits.wait_for(a, &[TxnId(9)], || "row 'k'".into()));
    assert_eq!(waits.lock(b, LockObject(5), LockMode::AccessExclusive), Outcome::Queued);
    assert!(waits.wait_for(reader, &[TxnId(7)], || "row 'j'".into()));
    let Search::Deadlock(cycle) = waits.search(a) else { panic!("three are stuck") };
    let told: Vec<_> = cycle.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "transaction 7 waits for row 'k' held by transaction 9",
            "transaction 9 waits for access exclusive lock on object 5 held by reader 3",
            "reader 3 waits for row 'j' held by transaction 7",
        ]
    );
}

#[test]
fn all_that_a_waiter_named_have_to_end() {
    let mut waits = Waits::default();
    let [a, b, c] = [1, 2, 3].map(LocalTxn);
    for (owner, id) in [(a, 1), (b, 2), (b, 3), (c, 4)] {
        waits.own(owner, TxnId(id));
    }
    assert!(waits.wait_for(a, &[TxnId(1), TxnId(3), TxnId(4), TxnId(3), TxnId(77)], String::new));
    assert!(waits.end_ids(&[TxnId(3)]).is_empty(), "a savepoint of b was rolled back");
    assert_eq!(waits.end_ids(&[TxnId(4)]), [a]);
    assert!(
        !waits.wait_for(a, &[TxnId(1), TxnId(3)], String::new),
        "own ids and those that ended are nothing to wait for"
    );
}
