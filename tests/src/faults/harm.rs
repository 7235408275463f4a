//! One run of the workload in which one operation on the disk fails, and what must be left of it.

use std::sync::Arc;

use ssd_engine::env::fault::FaultKind;
use ssd_engine::env::memory::{Crash, MemoryEnv};
use ssd_engine::{Class, Error};

use crate::faults::script::{self, Step};
use crate::sim::check::describe;
use crate::sim::store::Store;
use crate::simulator::Failure;

/// One operation that fails.
#[derive(Clone, Copy, Debug)]
pub struct Harm {
    /// How.
    pub kind: FaultKind,
    /// Which one, from 1; the first after it that can fail this way.
    pub nth: u64,
    /// What ends the run.
    pub then: Crash,
}

/// A store that has not been opened, in a world of its own.
#[must_use]
pub fn fresh() -> Store {
    let env = MemoryEnv::new(script::SEED);
    Store::new(env, script::options(), script::rng())
}

/// The operations on the disk that the workload takes when nothing fails and that can fail this way, by number.
///
/// # Errors
/// When it fails all the same.
pub fn operations(kind: FaultKind) -> Result<Vec<u64>, Failure> {
    let mut store = fresh();
    store.env.faults().set_trace_len(1 << 20);
    for step in script::steps() {
        (step.run)(&mut store).map_err(|error| format!("{}: {}", step.name, describe(&error)))?;
    }
    let words: &[&str] = match kind {
        FaultKind::Eio | FaultKind::Crash => &[""],
        FaultKind::ShortWrite => &["write"],
        FaultKind::SyncLost => &["sync /db/0", "sync /db/C", "sync /db/M", "sync /copy"],
        FaultKind::NoSpace => &["create", "write", "rename", "link", "set", "allocate", "map"],
    };
    // A line is the operation's number, its name and the path.
    let lines = store.env.faults().trace();
    let numbered = lines.iter().filter_map(|line| line.split_once(' '));
    let chosen = numbered.filter(|(_, what)| words.iter().any(|word| what.starts_with(word)));
    Ok(chosen.filter_map(|(number, _)| number.parse().ok()).collect())
}

/// Runs the workload with the harm done; `false` when it never came to that.
///
/// # Errors
/// An error of the wrong class or at the wrong time, a wrong row, or anything lost.
pub fn run(harm: Harm) -> Result<bool, Failure> {
    let mut store = fresh();
    let env = Arc::clone(&store.env);
    env.faults().fail_at(harm.nth, harm.kind);
    let (mut failed, mut struck_before) = (false, false);
    for step in script::steps() {
        // After a close that failed, or an open, the next open is the way on.
        if store.open.is_none() && !is_open(&step) && open(&mut store, harm).is_err() {
            continue;
        }
        let outcome = if is_open(&step) { open(&mut store, harm) } else { (step.run)(&mut store) };
        let struck = env.faults().op_count() >= harm.nth;
        if let Err(error) = outcome {
            let context = |what: &str| format!("step \"{}\", after \"{}\": {what}", step.name, describe(&error));
            if !struck {
                return Err(context("nothing had failed yet"));
            }
            judge(&error, harm).map_err(|what| context(&what))?;
            if step.reads && struck_before && failed && harm.kind != FaultKind::Crash && error.class() != Class::Closed
            {
                return Err(context("reads suffer from what failed before them"));
            }
            failed = true;
            if env.faults().is_crashed() {
                break;
            }
            store.settle().map_err(|what| context(&what))?;
        }
        struck_before = struck;
        if env.faults().is_crashed() {
            break;
        }
    }
    let struck = env.faults().op_count() >= harm.nth;
    store.crash(harm.then);
    env.faults().clear();
    afterwards(&mut store, harm)?;
    Ok(struck)
}

fn is_open(step: &Step) -> bool {
    step.name.starts_with("open")
}

/// Whether what the machine had not synced may be gone.
fn machine_died(harm: Harm) -> bool {
    harm.then == Crash::Power || harm.kind == FaultKind::SyncLost
}

/// Opens the engine, unless it is open, and checks what it has: the machine has not died, but a sync may have failed. An
/// engine that could not be read is closed again.
fn open(store: &mut Store, harm: Harm) -> Result<(), Error> {
    if store.open.is_some() {
        return Ok(());
    }
    store.open()?;
    store.check_all_or_prefix(harm.kind == FaultKind::SyncLost).inspect_err(|_| store.open = None)
}

/// The error must be of a class that a failing disk explains.
fn judge(error: &Error, harm: Harm) -> Result<(), String> {
    match error.class() {
        Class::Io if harm.kind == FaultKind::NoSpace && !error.is_no_space() => {
            Err("a full disk is reported as something else".to_owned())
        }
        Class::Io | Class::Closed => Ok(()),
        class => Err(format!("class {class:?}")),
    }
}

/// On a healthy disk all that had to survive is there, and the engine works.
fn afterwards(store: &mut Store, harm: Harm) -> Result<(), Failure> {
    let context = |what: &str, error: &Error| format!("afterwards, {what}: {}", describe(error));
    store.open().map_err(|error| context("open", &error))?;
    store.check_recovered(machine_died(harm)).map_err(|what| format!("afterwards: {what}"))?;
    store.engine().verify().map_err(|error| context("verify", &error))?;
    for _ in 0..3 {
        store.write().map_err(|error| context("write", &error))?;
    }
    store.engine().compact().map_err(|error| context("compact", &error))?;
    store.close().map_err(|error| context("close", &error))?;
    store.open().map_err(|error| context("open", &error))?;
    store.check_all().map_err(|error| context("read", &error))
}
