//! A queue of the simulation: operations happen at `wait`, in a seeded random order, and not one more than it draws.

use crate::env::order::{Order, Sync};
use crate::env::random::Random;
use crate::env::{IoDone, IoOp, IoQueue};
use crate::error::Result;

/// An operation that may happen any time.
struct Pending {
    tag: u64,
    /// The number that the order gave to a write.
    number: u64,
    op: IoOp,
}

/// A queue of the memory world.
pub(super) struct MemoryQueue {
    depth: usize,
    random: Random,
    pending: Vec<Pending>,
    order: Order,
    done: Vec<IoDone>,
}

impl MemoryQueue {
    pub(super) fn new(depth: usize, random: Random) -> Self {
        Self { depth: depth.max(1), random, pending: Vec::new(), order: Order::default(), done: Vec::new() }
    }

    /// Does one operation, whichever comes first by chance.
    fn step(&mut self) {
        let at = self.random.below(self.pending.len() as u64);
        let Pending { tag, number, op } = self.pending.swap_remove(usize::try_from(at).expect("an index"));
        let done = match op {
            IoOp::Read { file, offset, mut buf } => {
                IoDone { tag, result: file.read_at(&mut buf, offset), buf: Some(buf) }
            }
            IoOp::Write { file, offset, buf } => {
                IoDone { tag, result: file.write_at(&buf, offset).map(|()| buf.len()), buf: Some(buf) }
            }
            IoOp::Sync { file } => IoDone { tag, result: file.sync().map(|()| 0), buf: None },
        };
        self.done.push(done);
        if number != 0 {
            let mut ready = Vec::new();
            self.order.write_done(number, &mut ready);
            self.pending.extend(ready.into_iter().map(sync));
        }
    }
}

fn sync(sync: Sync) -> Pending {
    Pending { tag: sync.tag, number: 0, op: IoOp::Sync { file: sync.file } }
}

impl IoQueue for MemoryQueue {
    fn push(&mut self, tag: u64, op: IoOp) -> Result<()> {
        while self.pending.len() + self.order.held() >= self.depth {
            self.step();
        }
        match op {
            IoOp::Read { .. } => self.pending.push(Pending { tag, number: 0, op }),
            IoOp::Write { ref file, .. } => {
                let number = self.order.write(file);
                self.pending.push(Pending { tag, number, op });
            }
            IoOp::Sync { file } => self.pending.extend(self.order.sync(Sync { tag, file }).map(sync)),
        }
        Ok(())
    }

    fn wait(&mut self, min: usize, out: &mut Vec<IoDone>) -> Result<()> {
        while !self.pending.is_empty() && (self.done.len() < min || self.random.percent(50)) {
            self.step();
        }
        out.append(&mut self.done);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.pending.len() + self.order.held() + self.done.len()
    }
}

impl Drop for MemoryQueue {
    fn drop(&mut self) {
        while !self.pending.is_empty() {
            self.step();
        }
    }
}
