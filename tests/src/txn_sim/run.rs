//! One simulated life: transactions, crashes and faults from a seed, checked against the oracle.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ssd_engine::env::fault::FaultKind;
use ssd_engine::env::memory::{Crash, MemoryEnv};
use ssd_engine::{Durability, Engine, Error, Isolation, Options, RowTree, Transaction};

use crate::isolation::act::{act, random, refusal, unwaiting};
use crate::isolation::oracle::{Answer, Command, Key, Number, Oracle, Refusal, Rows};
use crate::rng::Rng;
use crate::sim::check::describe;
use crate::sim::options;
use crate::sim::workload;
use crate::simulator::{Failure, Simulator};
use crate::txn_sim::events::{Event, Events, difference};

/// Where the simulated engine lives.
const DIR: &str = "/db";
/// Transactions that are open at once.
const OPEN_MAX: usize = 4;
/// Transactions that are prepared at once.
const PREPARED_MAX: usize = 3;

/// What ended a step: an error of the engine, or a wrong answer.
enum Stop {
    Engine(Error),
    Wrong(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

struct Live {
    engine: Engine,
    tree: RowTree,
    open: BTreeMap<Number, Transaction>,
}

struct Run {
    rng: Rng,
    env: Arc<MemoryEnv>,
    options: Options,
    /// The keys of this life.
    keys: Vec<Key>,
    oracle: Oracle,
    events: Events,
    prepared: Vec<Number>,
    begun: Number,
    live: Option<Live>,
    /// Faults that were armed since the last open: errors are expected until the next.
    armed: Vec<FaultKind>,
}

/// Histories of transactions at all levels over one tree of rows.
pub const SIMULATOR: Simulator = Simulator {
    command: "cargo xtask sim --transactions",
    seeds: include_str!("seeds.txt"),
    steps: 400,
    live: |_, rng, env, steps| run(rng, env, steps),
};

/// Runs `steps` operations in the world `env`; returns the fingerprint of everything that was asked of the disk.
fn run(mut rng: Rng, env: Arc<MemoryEnv>, steps: usize) -> Result<u64, Failure> {
    let mut options = options::random(&mut rng);
    options.env = Some(env.clone());
    options.deadlock_timeout = Duration::ZERO;
    let count = rng.pick(&[4, 12, 60]);
    let keys = (0..count).map(|_| workload::key(&mut rng)).collect();
    let mut run = Run {
        rng,
        env,
        options,
        keys,
        oracle: Oracle::default(),
        events: Events::default(),
        prepared: Vec::new(),
        begun: 0,
        live: None,
        armed: Vec::new(),
    };
    run.reopen(false)?;
    for step in 0..steps {
        run.step().map_err(|what| format!("step {step}: {what}"))?;
    }
    run.disarm();
    run.check_rows().map_err(|what| format!("at the end: {what}"))?;
    run.crash(Crash::Power).map_err(|what| format!("last crash: {what}"))?;
    Ok(run.env.faults().fingerprint())
}

/// The name of a prepared transaction.
fn name(number: Number) -> Vec<u8> {
    format!("p{number}").into_bytes()
}

impl Run {
    fn step(&mut self) -> Result<(), Failure> {
        let outcome = match self.rng.below(200) {
            0..20 => self.begin(),
            20..130 => self.statement(),
            130..146 => self.commit(),
            146..149 => self.abort(),
            149..154 => self.prepare(),
            154..158 => self.end_prepared(),
            158..161 => self.engine().sync().map(|()| self.events.synced()).map_err(Stop::from),
            161..165 => self.engine().flush().map_err(Stop::from),
            165..168 => self.engine().compact().map_err(Stop::from),
            168..172 => self.engine().vacuum().map_err(Stop::from),
            172..180 => self.engine().run_next_job().map(drop).map_err(Stop::from),
            180..183 => self.check_rows().map_err(Stop::Wrong),
            183..185 => self.close_and_reopen().map_err(Stop::Wrong),
            185..188 => self.crash(Crash::Process).map_err(Stop::Wrong),
            188..191 => self.crash(Crash::Power).map_err(Stop::Wrong),
            _ => {
                self.arm();
                Ok(())
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(Stop::Engine(error)) if !self.armed.is_empty() => {
                // Nothing may be concluded from a failed operation but that it is allowed to have happened or not.
                let how = if self.rng.one_in(2) { Crash::Power } else { Crash::Process };
                self.crash(how).map_err(|what| format!("after \"{}\": {what}", describe(&error)))
            }
            Err(Stop::Engine(error)) => Err(describe(&error)),
            Err(Stop::Wrong(what)) => Err(what),
        }
    }

    fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("open between steps")
    }

    fn engine(&mut self) -> &Engine {
        &self.live().engine
    }

    fn arm(&mut self) {
        let kinds = [FaultKind::Eio, FaultKind::NoSpace, FaultKind::ShortWrite, FaultKind::SyncLost, FaultKind::Crash];
        let kind = self.rng.pick(&kinds);
        self.env.faults().fail_at(self.rng.below(60), kind);
        self.armed.push(kind);
    }

    fn disarm(&mut self) {
        self.env.faults().clear();
        self.armed.clear();
    }

    fn durability(&mut self) -> Durability {
        if self.rng.one_in(5) { Durability::Machine } else { Durability::Process }
    }

    /// One of the open transactions.
    fn pick(&mut self) -> Option<Number> {
        let names: Vec<_> = self.live().open.keys().copied().collect();
        if names.is_empty() { None } else { Some(self.rng.pick(&names)) }
    }

    /// Begins a transaction, and sets the row of its own, which is below all keys.
    fn begin(&mut self) -> Result<(), Stop> {
        if self.live().open.len() == OPEN_MAX {
            return Ok(());
        }
        let levels = [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
        let level = self.rng.pick(&levels);
        self.begun += 1;
        let number = self.begun;
        let txn = self.engine().begin_with(unwaiting(level, false))?;
        self.live().open.insert(number, txn);
        self.oracle.begin(number, level, false);
        self.compare(number, &Command::Put(format!("!{number:08}").into_bytes(), vec![b'x']))
    }

    fn statement(&mut self) -> Result<(), Stop> {
        let Some(number) = self.pick() else { return self.begin() };
        let keys = &self.keys;
        let mut key = |rng: &mut Rng| keys[rng.below(keys.len() as u64) as usize].clone();
        let command = random(&mut self.rng, self.oracle.txn(number), &mut key, &mut workload::value);
        let blocked = self.oracle.expect(number, &command) == Answer::Refused(Refusal::Blocked);
        if blocked && !self.rng.one_in(6) { Ok(()) } else { self.compare(number, &command) }
    }

    fn compare(&mut self, number: Number, command: &Command) -> Result<(), Stop> {
        self.oracle.look(number, command);
        let want = self.oracle.expect(number, command);
        let live = self.live.as_mut().expect("open between steps");
        let got = act(live.open.get_mut(&number).expect("it is open"), &live.tree, command)?;
        let level = self.oracle.txn(number).isolation();
        let dependencies = got == Answer::Refused(Refusal::Dependencies);
        if got != want && !(dependencies && level == Isolation::Serializable) {
            return Err(Stop::Wrong(format!(
                "transaction {number} ({level:?}): {command:?} answered {got:?}, expected {want:?}"
            )));
        }
        self.oracle.apply(number, command, &got);
        if dependencies {
            live.open.remove(&number).expect("it is open").abort();
            self.oracle.abort(number);
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Stop> {
        let Some(number) = self.pick() else { return Ok(()) };
        self.live().open.remove(&number).expect("it is open").abort();
        self.oracle.abort(number);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Stop> {
        let Some(number) = self.pick() else { return Ok(()) };
        let durability = self.durability();
        let txn = self.live().open.remove(&number).expect("it is open");
        self.events.send(Event::Commit(self.oracle.txn(number).log().to_vec()));
        let outcome = txn.commit(durability);
        if self.has_ended_well(number, outcome, durability == Durability::Machine)? {
            self.oracle.commit(number);
        }
        Ok(())
    }

    /// Whether an end went through; notes it, and what a refusal means.
    fn has_ended_well(&mut self, number: Number, outcome: Result<(), Error>, durable: bool) -> Result<bool, Stop> {
        let failed = self.oracle.txn(number).is_failed();
        match outcome {
            Ok(()) if failed => Err(Stop::Wrong(format!("transaction {number} had failed and has committed"))),
            Ok(()) => {
                self.events.acknowledge(durable);
                Ok(true)
            }
            Err(error) => {
                let right = match refusal(&error) {
                    Some(Refusal::Failed) => failed,
                    Some(Refusal::Dependencies) => self.oracle.txn(number).isolation() == Isolation::Serializable,
                    _ => return Err(error.into()),
                };
                self.events.take_back();
                self.oracle.abort(number);
                if right { Ok(false) } else { Err(Stop::Wrong(format!("end of transaction {number}: {error}"))) }
            }
        }
    }

    fn prepare(&mut self) -> Result<(), Stop> {
        if self.prepared.len() == PREPARED_MAX {
            return Ok(());
        }
        let Some(number) = self.pick() else { return Ok(()) };
        let txn = self.live().open.remove(&number).expect("it is open");
        let log = self.oracle.txn(number).log().to_vec();
        self.events.send(Event::Prepare(number, log.clone()));
        let outcome = txn.prepare(&name(number));
        if self.has_ended_well(number, outcome, true)? {
            self.oracle.abort(number);
            self.oracle.restore(number, log);
            self.prepared.push(number);
        }
        Ok(())
    }

    fn end_prepared(&mut self) -> Result<(), Stop> {
        if self.prepared.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.prepared.len() as u64) as usize;
        let number = self.prepared[at];
        let durability = self.durability();
        let commits = self.rng.one_in(2);
        if commits {
            self.events.send(Event::CommitPrepared(number));
            self.engine().commit_prepared(&name(number), durability)?;
            self.oracle.commit(number);
        } else {
            self.events.send(Event::RollbackPrepared(number));
            self.engine().rollback_prepared(&name(number), durability)?;
            self.oracle.abort(number);
        }
        self.prepared.swap_remove(at);
        self.events.acknowledge(durability == Durability::Machine);
        Ok(())
    }

    fn close_and_reopen(&mut self) -> Result<(), Failure> {
        let Live { engine, tree, open } = self.live.take().expect("open between steps");
        let outcome = engine.close();
        drop((tree, open));
        match outcome {
            Ok(()) => self.events.synced(),
            Err(_) if !self.armed.is_empty() => {
                // As after any failed operation: only a crash tells what is left.
                self.disarm();
                self.env.crash(Crash::Power);
                return self.reopen(true);
            }
            Err(error) => return Err(format!("close: {}", describe(&error))),
        }
        self.disarm();
        self.reopen(false)
    }

    fn crash(&mut self, how: Crash) -> Result<(), Failure> {
        // The handles of a dead process are never dropped in order; here they must be, but against a dead disk.
        // A failed sync drops what the kernel held: as far as those bytes go, the machine died.
        let machine_died = how == Crash::Power || self.armed.contains(&FaultKind::SyncLost);
        self.env.crash(how);
        self.live = None;
        self.disarm();
        self.reopen(machine_died)
    }

    /// Opens the engine, sometimes failing it half way first, and checks what it recovered.
    fn reopen(&mut self, machine_died: bool) -> Result<(), Failure> {
        let mut machine_died = machine_died;
        if self.rng.one_in(4) {
            self.env.faults().fail_at(self.rng.below(80), FaultKind::Crash);
            drop(self.try_open());
            self.env.crash(Crash::Power);
            machine_died = true;
            self.disarm();
        }
        let live = self.try_open().map_err(|error| format!("open: {}", describe(&error)))?;
        self.live = Some(live);
        let rows = self.rows().map_err(|error| describe(&error))?;
        let found = self.engine().prepared().map_err(|error| describe(&error))?;
        let number = |name: &[u8]| String::from_utf8_lossy(&name[1..]).parse().unwrap_or(0);
        let mut found: Vec<_> = found.iter().map(|prepared| number(&prepared.name)).collect();
        found.sort_unstable();
        let state = self.events.recover(&rows, &found, machine_died)?;
        self.oracle = state.oracle;
        self.prepared = found;
        Ok(())
    }

    fn try_open(&self) -> Result<Live, Error> {
        let engine = Engine::open(Path::new(DIR), self.options.clone())?;
        let tree = engine.row_tree("rows")?;
        Ok(Live { engine, tree, open: BTreeMap::new() })
    }

    fn rows(&mut self) -> Result<Rows, Error> {
        let live = self.live();
        let mut txn = live.engine.begin(Isolation::RepeatableRead)?;
        txn.scan::<Key>(&live.tree, ..)?.collect()
    }

    fn check_rows(&mut self) -> Result<(), Failure> {
        let rows = match self.rows() {
            Ok(rows) => rows,
            Err(_) if !self.armed.is_empty() => return self.crash(Crash::Power),
            Err(error) => return Err(describe(&error)),
        };
        let want = self.oracle.committed();
        if rows == want { Ok(()) } else { Err(difference(&rows, &want)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_exactly() {
        for seed in 1..4 {
            let attempt = || SIMULATOR.attempt(seed, 200, 0);
            assert_eq!(attempt(), attempt(), "seed {seed}");
        }
    }

    #[test]
    fn three_hundred_seeds() {
        let seeds = SIMULATOR.known().chain(1..=300);
        let failed: Vec<_> = seeds.filter_map(|seed| SIMULATOR.attempt(seed, SIMULATOR.steps, 0).err()).collect();
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    }
}
