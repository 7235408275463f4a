//! Random schedules of a few transactions over a handful of rows, one thread, against the oracle.
//!
//! Transactions never wait here: a statement that would have to is mostly put off, as if its transaction waited, and sometimes
//! done, to see that it is refused. Between the statements flushes, compactions and vacuums run. When all transactions of a
//! round are serializable, those that committed must have an order.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ssd_engine::env::memory::MemoryEnv;
use ssd_engine::{Durability, Engine, Error, Isolation, Options, RowTree, Transaction};

use crate::isolation::act::{act, random, refusal, unwaiting};
use crate::isolation::oracle::{Answer, Command, Number, Oracle, Refusal};
use crate::isolation::serial::{History, is_serializable};
use crate::rng::Rng;

/// What was wrong.
pub type Failure = String;

/// Transactions that a round begins.
const ROUND: u64 = 7;
/// Times that a schedule looks for a statement that need not wait.
const TRIES: usize = 4;

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rounds.
    pub rounds: u64,
    /// Statements that were done and compared.
    pub statements: u64,
    /// Transactions that committed.
    pub commits: u64,
    /// Statements and commits that were refused for dependencies.
    pub dependencies: u64,
}

struct Schedule {
    rng: Rng,
    engine: Engine,
    tree: RowTree,
    oracle: Oracle,
    open: BTreeMap<Number, Transaction>,
    begun: Number,
    committed: Vec<History>,
    counts: Counts,
}

/// Runs `rounds` schedules of `seed` on one engine.
///
/// # Errors
/// The first answer that differs from the oracle's, or a round without an order.
pub fn attempt(seed: u64, rounds: u64) -> Result<Counts, Failure> {
    let mut rng = Rng::new(seed);
    let options = Options {
        env: Some(MemoryEnv::new(rng.next())),
        memtable_bytes: 64 << 10,
        cache_bytes: 64 << 10,
        log_segment_bytes: 64 << 10,
        log_ring_bytes: 64 << 10,
        background_threads: 0,
        deadlock_timeout: Duration::ZERO,
        ..Options::default()
    };
    let engine = Engine::open(Path::new("/db"), options).map_err(|error| error.to_string())?;
    let tree = engine.row_tree("t").map_err(|error| error.to_string())?;
    let (oracle, open, committed) = (Oracle::default(), BTreeMap::new(), Vec::new());
    let mut schedule = Schedule { rng, engine, tree, oracle, open, begun: 0, committed, counts: Counts::default() };
    for round in 0..rounds {
        schedule.round().map_err(|what| format!("seed {seed}, round {round}: {what}"))?;
    }
    Ok(schedule.counts)
}

impl Schedule {
    fn round(&mut self) -> Result<(), Failure> {
        let levels = [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
        let level = self.rng.pick(&[Some(levels[0]), Some(levels[1]), Some(levels[2]), Some(levels[2]), None]);
        let keys = 2 + self.rng.below(4);
        let most = 2 + self.rng.below(4) as usize;
        let before = self.oracle.committed();
        let end = self.begun + ROUND;
        self.committed.clear();
        while self.begun < end || !self.open.is_empty() {
            if self.begun < end && self.open.len() < most && (self.open.is_empty() || self.rng.one_in(4)) {
                self.begun += 1;
                let level = level.unwrap_or_else(|| self.rng.pick(&levels));
                let read_only = self.rng.one_in(6);
                let txn = self.engine.begin_with(unwaiting(level, read_only)).map_err(|error| error.to_string())?;
                self.open.insert(self.begun, txn);
                self.oracle.begin(self.begun, level, read_only);
            }
            let names: Vec<_> = self.open.keys().copied().collect();
            let number = self.rng.pick(&names);
            match self.rng.below(100) {
                0..5 => self.upkeep().map_err(|error| error.to_string())?,
                5..15 => self.commit(number)?,
                15..18 => {
                    self.open.remove(&number).expect("it is open").abort();
                    self.oracle.abort(number);
                }
                _ => self.statement(number, keys)?,
            }
        }
        self.counts.rounds += 1;
        let after = self.oracle.committed();
        if level == Some(Isolation::Serializable) && !is_serializable(&before, &self.committed, &after) {
            let histories = self.committed.iter().map(|history| format!("\n    {history:?}")).collect::<String>();
            return Err(format!("no order explains, from {before:?} to {after:?}: {histories}"));
        }
        Ok(())
    }

    fn upkeep(&mut self) -> Result<(), Error> {
        match self.rng.below(4) {
            0 => self.engine.flush(),
            1 => self.engine.compact(),
            2 => self.engine.vacuum(),
            _ => self.engine.run_next_job().map(drop),
        }
    }

    fn statement(&mut self, number: Number, keys: u64) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let statement = self.counts.statements;
            let mut key = |rng: &mut Rng| format!("k{}", rng.below(keys)).into_bytes();
            let mut value = |_: &mut Rng| format!("{number}.{statement}").into_bytes();
            let command = random(&mut self.rng, self.oracle.txn(number), &mut key, &mut value);
            if self.oracle.expect(number, &command) != Answer::Refused(Refusal::Blocked) || self.rng.one_in(8) {
                return self.compare(number, &command);
            }
        }
        Ok(())
    }

    fn compare(&mut self, number: Number, command: &Command) -> Result<(), Failure> {
        self.oracle.look(number, command);
        let want = self.oracle.expect(number, command);
        let txn = self.open.get_mut(&number).expect("it is open");
        let got = act(txn, &self.tree, command).map_err(|error| format!("{command:?}: {error}"))?;
        let dependencies = got == Answer::Refused(Refusal::Dependencies);
        let may_refuse = self.oracle.txn(number).isolation() == Isolation::Serializable;
        if got != want && !(dependencies && may_refuse) {
            let open = self.oracle.txn(number);
            return Err(format!(
                "transaction {number} ({:?}): {command:?} answered {got:?}, expected {want:?}, after {:?}",
                open.isolation(),
                open.history()
            ));
        }
        self.counts.statements += 1;
        self.counts.dependencies += u64::from(dependencies);
        self.oracle.apply(number, command, &got);
        if dependencies { self.after_refusal(number) } else { Ok(()) }
    }

    /// What a refused write has left may stand in the way, so it is taken back at once: wholly, or to a savepoint, after which
    /// the transaction still cannot commit.
    fn after_refusal(&mut self, number: Number) -> Result<(), Failure> {
        let depth = self.oracle.txn(number).depth() as u64;
        if depth == 0 || self.rng.one_in(2) {
            self.open.remove(&number).expect("it is open").abort();
            self.oracle.abort(number);
            return Ok(());
        }
        let command = Command::RollbackTo(self.rng.below(depth) as usize + 1);
        self.compare(number, &command)
    }

    fn commit(&mut self, number: Number) -> Result<(), Failure> {
        let txn = self.open.remove(&number).expect("it is open");
        let open = self.oracle.txn(number);
        let (failed, doomed, level) = (open.is_failed(), open.is_doomed(), open.isolation());
        match txn.commit(Durability::Process) {
            Ok(()) if !failed && !doomed => {
                self.counts.commits += 1;
                self.committed.push(self.oracle.commit(number).history().to_vec());
            }
            Ok(()) => return Err(format!("transaction {number} has committed although it was refused")),
            Err(error) => {
                let why = refusal(&error);
                let right = if failed {
                    why == Some(Refusal::Failed)
                } else {
                    why == Some(Refusal::Dependencies) && level == Isolation::Serializable
                };
                if !right {
                    return Err(format!("commit of transaction {number} ({level:?}): {error}"));
                }
                self.counts.dependencies += u64::from(!failed);
                self.oracle.abort(number);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_answer_as_the_oracle() {
        let mut refused = 0;
        for seed in 0..200 {
            let counts = attempt(seed, 25).unwrap();
            assert_eq!(counts.rounds, 25);
            refused += counts.dependencies;
        }
        assert!(refused > 100, "serializable transactions meet");
    }
}
