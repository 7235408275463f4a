//! One simulated life: operations, crashes and faults from a seed, checked against the model.

use std::path::Path;
use std::sync::Arc;

use ssd_engine::env::fault::FaultKind;
use ssd_engine::env::memory::{Crash, MemoryEnv};
use ssd_engine::{Engine, Error, Options, Snapshot, Tree, WriteBatch, WriteOptions};

use crate::rng::Rng;
use crate::sim::model::{Model, Op, State};
use crate::sim::options;
use crate::sim::workload::{self, NUMBER_KEY, TREES};

/// Where the simulated engine lives.
const DIR: &str = "/db";

/// Why a run failed: what was being done and what was wrong.
pub type Failure = String;

struct Open {
    engine: Engine,
    trees: Vec<Tree>,
    snapshots: Vec<(Snapshot, State)>,
}

struct Run {
    rng: Rng,
    env: Arc<MemoryEnv>,
    options: Options,
    model: Model,
    open: Option<Open>,
    /// Faults that were armed since the last open: errors are expected until the next.
    armed: Vec<FaultKind>,
}

/// Runs `steps` operations of `seed` in the world `env`; returns the fingerprint of everything that was asked of the disk.
fn run(mut rng: Rng, env: Arc<MemoryEnv>, steps: usize) -> Result<u64, Failure> {
    let mut options = options::random(&mut rng);
    options.env = Some(env.clone());
    let mut run = Run { rng, env, options, model: Model::default(), open: None, armed: Vec::new() };
    run.reopen(false)?;
    for step in 0..steps {
        run.step().map_err(|what| format!("step {step}: {what}"))?;
    }
    run.disarm();
    run.check_all().map_err(|what| format!("at the end: {what}"))?;
    run.crash(Crash::Power).map_err(|what| format!("last crash: {what}"))?;
    Ok(run.env.faults().fingerprint())
}

/// Runs `steps` operations of `seed`; returns the fingerprint of everything that was asked of the disk.
///
/// # Errors
/// The first disagreement with the model, an error that nothing explains, or a panic; then the last `trace` operations on
/// the disk.
pub fn attempt(seed: u64, steps: usize, trace: usize) -> Result<u64, Failure> {
    let mut rng = Rng::new(seed);
    let env = MemoryEnv::new(rng.next());
    env.faults().set_trace_len(trace);
    // A thread of its own: what the engine keeps per thread is then of this run alone, and the run repeats exactly.
    let ending = std::thread::scope(|scope| scope.spawn(|| run(rng, env.clone(), steps)).join());
    let outcome = ending.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned())
    });
    outcome.map_err(|what| env.faults().trace().into_iter().fold(what, |text, line| text + "\n    " + &line))
}

/// The smallest count of steps with which `seed` fails, given that it fails with `steps`.
#[must_use]
pub fn shrink(seed: u64, steps: usize) -> usize {
    let (mut passes, mut fails) = (0, steps);
    while fails - passes > 1 {
        let middle = passes.midpoint(fails);
        if attempt(seed, middle, 0).is_err() { fails = middle } else { passes = middle }
    }
    fails
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    text
}

impl Run {
    fn step(&mut self) -> Result<(), Failure> {
        let outcome = match self.rng.below(200) {
            0..130 => self.write(),
            130..155 => self.get(),
            155..165 => self.scan(),
            165..170 => self.snapshot(),
            170..175 => self.check_snapshot(),
            175..180 => self.engine().sync().map(|()| self.model.synced()),
            180..182 => self.engine().flush(),
            182..184 => self.engine().compact(),
            184..190 => self.jobs(),
            190..193 => return self.close_and_reopen(),
            193..195 => return self.crash(Crash::Process),
            195..197 => return self.crash(Crash::Power),
            _ => {
                self.arm();
                Ok(())
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if !self.armed.is_empty() => {
                // Nothing may be concluded from a failed operation but that it is allowed to have happened or not.
                let how = if self.rng.one_in(2) { Crash::Power } else { Crash::Process };
                self.crash(how).map_err(|what| format!("after \"{}\": {what}", describe(&error)))
            }
            Err(error) => Err(describe(&error)),
        }
    }

    fn engine(&self) -> &Engine {
        &self.open.as_ref().expect("open between steps").engine
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

    fn write(&mut self) -> Result<(), Error> {
        let ops = workload::batch(&mut self.rng, &self.model);
        let durable = self.rng.one_in(10);
        let open = self.open.as_ref().expect("open between steps");
        let mut batch = WriteBatch::new();
        for op in &ops {
            match op {
                Op::Put((tree, key), value) => batch.put(&open.trees[*tree], key, value),
                Op::Delete((tree, key)) => batch.delete(&open.trees[*tree], key),
                Op::DeleteRange(tree, start, end) => batch.delete_range(&open.trees[*tree], start, end),
            };
        }
        self.model.send(ops);
        let options = if durable { WriteOptions::SYNC } else { WriteOptions::default() };
        open.engine.write(&batch, options)?;
        self.model.acknowledge(durable);
        Ok(())
    }

    fn get(&mut self) -> Result<(), Error> {
        let key = workload::model_key(&mut self.rng);
        let open = self.open.as_ref().expect("open between steps");
        let found = open.trees[key.0].get(&key.1)?;
        assert_same(&format!("get {key:?}"), found.as_ref(), self.model.state().get(&key));
        let keys: Vec<_> = (0..self.rng.below(12)).map(|_| workload::key(&mut self.rng)).collect();
        let found = open.trees[0].multi_get(&keys)?;
        for (key, value) in keys.into_iter().zip(found) {
            let what = format!("multi_get {key:?}");
            assert_same(&what, value.as_ref(), self.model.state().get(&(0, key)));
        }
        Ok(())
    }

    fn scan(&mut self) -> Result<(), Error> {
        let tree = self.rng.below(TREES as u64) as usize;
        let (a, b) = (workload::key(&mut self.rng), workload::key(&mut self.rng));
        let (from, to) = if a <= b { (a, b) } else { (b, a) };
        let want: Vec<_> = self
            .model
            .state()
            .range((tree, from.clone())..(tree, to.clone()))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        let limit = self.rng.below(60) as usize;
        let open = self.open.as_ref().expect("open between steps");
        let forward: Vec<_> = open.trees[tree].scan(from.clone()..to.clone())?.take(limit).collect::<Result<_, _>>()?;
        assert_rows("scan", &forward, want.iter().take(limit));
        let backward: Vec<_> = open.trees[tree].scan_backward(from..to)?.take(limit).collect::<Result<_, _>>()?;
        assert_rows("backward scan", &backward, want.iter().rev().take(limit));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), Error> {
        let state = self.model.state().clone();
        let open = self.open.as_mut().expect("open between steps");
        if open.snapshots.len() == 3 {
            let at = self.rng.below(3) as usize;
            open.snapshots.swap_remove(at);
        }
        open.snapshots.push((open.engine.snapshot()?, state));
        Ok(())
    }

    fn check_snapshot(&mut self) -> Result<(), Error> {
        let open = self.open.as_ref().expect("open between steps");
        let Some((snapshot, state)) = open.snapshots.first() else { return Ok(()) };
        for tree in 0..TREES {
            let rows: Vec<_> = open.trees[tree].scan_at::<Vec<u8>>(.., snapshot)?.collect::<Result<_, _>>()?;
            assert_rows("snapshot", &rows, rows_of(state, tree).iter());
        }
        let key = workload::model_key(&mut self.rng);
        let found = open.trees[key.0].get_at(&key.1, snapshot)?;
        assert_same("get_at", found.as_ref(), state.get(&key));
        Ok(())
    }

    fn jobs(&mut self) -> Result<(), Error> {
        for _ in 0..self.rng.below(5) {
            if !self.engine().run_next_job()? {
                break;
            }
        }
        Ok(())
    }

    fn close_and_reopen(&mut self) -> Result<(), Failure> {
        let open = self.open.take().expect("open between steps");
        let Open { engine, trees, snapshots } = open;
        drop((trees, snapshots));
        match engine.close() {
            Ok(()) => self.model.synced(),
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
        self.open = None;
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
        let open = self.try_open().map_err(|error| format!("open: {}", describe(&error)))?;
        self.open = Some(open);
        self.check_prefix(machine_died)
    }

    fn try_open(&self) -> Result<Open, Error> {
        let engine = Engine::open(Path::new(DIR), self.options.clone())?;
        let trees = (0..TREES).map(|at| engine.tree(format!("tree {at}"))).collect::<Result<_, _>>()?;
        Ok(Open { engine, trees, snapshots: Vec::new() })
    }

    fn check_prefix(&mut self, machine_died: bool) -> Result<(), Failure> {
        let open = self.open.as_ref().expect("just opened");
        let number = open.trees[0].get(NUMBER_KEY).map_err(|error| describe(&error))?;
        let number: usize = match number {
            None => 0,
            Some(text) => String::from_utf8_lossy(&text).parse().map_err(|_| "batch number is garbage".to_owned())?,
        };
        let (least, most) = self.model.expected(machine_died);
        if !(least..=most).contains(&number) {
            return Err(format!("recovered batch {number}, expected {least} to {most} (machine died: {machine_died})"));
        }
        self.model.cut(number);
        self.check_all()
    }

    fn check_all(&self) -> Result<(), Failure> {
        let open = self.open.as_ref().expect("open between steps");
        for tree in 0..TREES {
            let want = rows_of(self.model.state(), tree);
            let rows = |scan: Result<ssd_engine::TreeScan, Error>| {
                scan.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|error| describe(&error))
            };
            assert_rows("whole tree", &rows(open.trees[tree].scan::<Vec<u8>>(..))?, want.iter());
            assert_rows(
                "whole tree backward",
                &rows(open.trees[tree].scan_backward::<Vec<u8>>(..))?,
                want.iter().rev(),
            );
        }
        Ok(())
    }
}

fn rows_of(state: &State, tree: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    state.iter().filter(|((t, _), _)| *t == tree).map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

fn assert_same(what: &str, found: Option<&Vec<u8>>, want: Option<&Vec<u8>>) {
    assert!(found == want, "{what}: found {}, expected {}", brief(found), brief(want));
}

fn brief(value: Option<&Vec<u8>>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |v| format!("{} bytes {:?}", v.len(), &v[..v.len().min(12)]))
}

fn assert_rows<'a>(
    what: &str,
    found: &[(Vec<u8>, Vec<u8>)],
    want: impl ExactSizeIterator<Item = &'a (Vec<u8>, Vec<u8>)> + Clone,
) {
    let differs = found.iter().zip(want.clone()).position(|(a, b)| a != b);
    assert!(
        differs.is_none() && found.len() == want.len(),
        "{what}: {} rows, expected {}; first difference at {differs:?}: {:?} instead of {:?}",
        found.len(),
        want.len(),
        differs.map(|at| &found[at].0),
        differs.and_then(|at| want.clone().nth(at).map(|row| row.0.clone())),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_exactly() {
        for seed in 1..5 {
            assert_eq!(attempt(seed, 200, 0), attempt(seed, 200, 0), "seed {seed}");
        }
    }
}
