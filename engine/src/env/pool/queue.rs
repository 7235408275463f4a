//! Asynchronous operations on a bounded set of threads that all queues of an environment share.
//!
//! An operation goes from its queue into the workers' list, is run by a worker as a plain file call, and ends in the
//! queue's list of completions. Lock order: a queue's state before the workers' list.
//!
//! Invariants:
//! 1. Every pushed operation is in exactly one place: held in the queue's order, in the workers' list, with a worker, or
//!    in the queue's completions.
//! 2. Threads and operations under way belong to the process that made them; after a fork the child starts afresh.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::env::order::{Order, Sync};
use crate::env::{IoDone, IoOp, IoQueue, inherited_queue, sys};
use crate::error::{Error, Result};

/// An operation on its way to a worker.
struct Job {
    queue: Arc<Shared>,
    tag: u64,
    /// The number that the queue's order gave to a write.
    number: u64,
    op: IoOp,
}

#[derive(Default)]
struct WorkersState {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closing: bool,
}

struct Workers {
    limit: usize,
    state: Mutex<WorkersState>,
    work: Condvar,
}

impl Workers {
    fn add(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.idle <= state.jobs.len() && state.threads < self.limit {
            let this = Arc::clone(self);
            let builder = std::thread::Builder::new().name("ssd-io".to_owned());
            match sys::with_signals_blocked(|| builder.spawn(move || this.run())) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(error),
                Err(_) => {}
            }
        }
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    fn run(self: Arc<Self>) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job.run(&self);
                state = self.state.lock();
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

impl Job {
    fn run(self, workers: &Arc<Workers>) {
        let Self { queue, tag, number, op } = self;
        let (result, buf) = match op {
            IoOp::Read { file, offset, mut buf } => (file.read_at(&mut buf, offset), Some(buf)),
            IoOp::Write { file, offset, buf } => (file.write_at(&buf, offset).map(|()| buf.len()), Some(buf)),
            IoOp::Sync { file } => (file.sync().map(|()| 0), None),
        };
        queue.finish(number, IoDone { tag, result, buf }, workers);
    }
}

/// Owns the workers: the threads end when the environment and all its queues are gone.
pub(super) struct WorkersHandle {
    workers: Arc<Workers>,
    process: u32,
}

impl WorkersHandle {
    pub(super) fn new(limit: usize) -> Self {
        let workers = Arc::new(Workers { limit, state: Mutex::default(), work: Condvar::new() });
        Self { workers, process: std::process::id() }
    }

    pub(super) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for WorkersHandle {
    fn drop(&mut self) {
        // The lock may be held for ever by a thread that the fork did not copy.
        if self.is_of_this_process() {
            self.workers.state.lock().closing = true;
            self.workers.work.notify_all();
        }
    }
}

#[derive(Default)]
struct QueueState {
    order: Order,
    done: Vec<IoDone>,
}

/// The part of a queue that workers see.
#[derive(Default)]
struct Shared {
    state: Mutex<QueueState>,
    finished: Condvar,
}

impl Shared {
    /// Notes the end of an operation and starts the syncs that waited for it.
    fn finish(self: &Arc<Self>, number: u64, done: IoDone, workers: &Arc<Workers>) {
        let mut ready = Vec::new();
        let mut state = self.state.lock();
        if number != 0 {
            state.order.write_done(number, &mut ready);
        }
        state.done.push(done);
        for Sync { tag, file } in ready {
            let job = Job { queue: Arc::clone(self), tag, number: 0, op: IoOp::Sync { file } };
            // Adding fails only when no thread runs, and this is one.
            workers.add(job).expect("a worker runs");
        }
        drop(state);
        self.finished.notify_one();
    }
}

/// A queue of the pool world.
pub(super) struct PoolQueue {
    handle: Arc<WorkersHandle>,
    shared: Arc<Shared>,
    depth: usize,
    in_flight: usize,
}

impl PoolQueue {
    pub(super) fn new(handle: Arc<WorkersHandle>, depth: usize) -> Self {
        Self { handle, shared: Arc::default(), depth: depth.max(1), in_flight: 0 }
    }

    /// Starts afresh after a fork.
    fn settle_process(&mut self) -> Result<()> {
        if self.handle.is_of_this_process() {
            return Ok(());
        }
        if self.in_flight > 0 {
            return Err(inherited_queue());
        }
        self.handle = Arc::new(WorkersHandle::new(self.handle.workers.limit));
        self.shared = Arc::default();
        Ok(())
    }

    /// Waits until no more than `running` operations are unfinished.
    fn wait_until(&self, running: usize) -> parking_lot::MutexGuard<'_, QueueState> {
        let mut state = self.shared.state.lock();
        while self.in_flight - state.done.len() > running {
            self.shared.finished.wait(&mut state);
        }
        state
    }
}

impl IoQueue for PoolQueue {
    fn push(&mut self, tag: u64, op: IoOp) -> Result<()> {
        self.settle_process()?;
        let mut state = self.wait_until(self.depth - 1);
        let (number, op) = match op {
            IoOp::Read { .. } => (0, Some(op)),
            IoOp::Write { ref file, .. } => (state.order.write(file), Some(op)),
            IoOp::Sync { file } => (0, state.order.sync(Sync { tag, file }).map(|sync| IoOp::Sync { file: sync.file })),
        };
        drop(state);
        if let Some(op) = op {
            let job = Job { queue: Arc::clone(&self.shared), tag, number, op };
            let started = self.handle.workers.add(job);
            started.map_err(|error| Error::io(Path::new("ssd-io"), "start thread", error))?;
        }
        self.in_flight += 1;
        Ok(())
    }

    fn wait(&mut self, min: usize, out: &mut Vec<IoDone>) -> Result<()> {
        self.settle_process()?;
        let before = out.len();
        let mut state = self.wait_until(self.in_flight - min.min(self.in_flight));
        out.append(&mut state.done);
        drop(state);
        self.in_flight -= out.len() - before;
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for PoolQueue {
    fn drop(&mut self) {
        if self.handle.is_of_this_process() {
            drop(self.wait_until(0));
        }
    }
}
