//! Which syncs of a queue must wait for which of its writes.
//!
//! A sync covers the writes pushed before it on the same queue for the same file, so it starts only when they have ended
//! (including the continuation of short writes, which is why the kernel's own links and drains do not suffice).
//!
//! Invariant: a held sync has at least one unfinished write of its file with a smaller number.

use std::sync::Arc;

use super::File;

/// A sync that is (or was) held back.
pub(super) struct Sync {
    /// The tag it was pushed with.
    pub(super) tag: u64,
    /// Its file.
    pub(super) file: Arc<dyn File>,
}

struct Held {
    number: u64,
    sync: Sync,
}

/// The unfinished writes of one queue and the syncs that wait for them.
#[derive(Default)]
pub(super) struct Order {
    next: u64,
    writes: Vec<(u64, usize)>,
    held: Vec<Held>,
}

/// Tells open files apart by their address; the operation keeps the file alive, so no other gets it meanwhile.
fn identity(file: &Arc<dyn File>) -> usize {
    Arc::as_ptr(file).cast::<()>().addr()
}

impl Order {
    /// Notes a write; the number it gets is handed back to [`write_done`](Self::write_done).
    pub(super) fn write(&mut self, file: &Arc<dyn File>) -> u64 {
        self.next += 1;
        self.writes.push((self.next, identity(file)));
        self.next
    }

    /// The sync, when it may start now; otherwise it is held.
    pub(super) fn sync(&mut self, sync: Sync) -> Option<Sync> {
        self.next += 1;
        let held = Held { number: self.next, sync };
        if self.must_wait(&held) {
            self.held.push(held);
            return None;
        }
        Some(held.sync)
    }

    /// Notes the end of write `number`, whatever its outcome, and appends the syncs that may now start.
    pub(super) fn write_done(&mut self, number: u64, ready: &mut Vec<Sync>) {
        if let Some(at) = self.writes.iter().position(|&(other, _)| other == number) {
            self.writes.swap_remove(at);
        }
        if self.held.is_empty() {
            return;
        }
        let (held, free) = std::mem::take(&mut self.held).into_iter().partition(|held| self.must_wait(held));
        self.held = held;
        ready.extend(free.into_iter().map(|held: Held| held.sync));
    }

    /// Syncs held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn must_wait(&self, held: &Held) -> bool {
        let file = identity(&held.sync.file);
        self.writes.iter().any(|&(number, other)| other == file && number < held.number)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::memory::MemoryEnv;
    use crate::env::{Env, OpenMode};

    #[test]
    fn syncs_wait_for_earlier_writes_of_their_file() {
        let env = MemoryEnv::new(1);
        let [a, b] = ["/a", "/b"].map(|name| env.open(Path::new(name), OpenMode::CREATE).unwrap());
        let sync = |tag, file: &Arc<dyn File>| Sync { tag, file: Arc::clone(file) };
        let mut order = Order::default();
        let mut ready = Vec::new();
        assert!(order.sync(sync(1, &a)).is_some(), "nothing to wait for");
        let first = order.write(&a);
        let second = order.write(&a);
        assert!(order.sync(sync(2, &b)).is_some(), "another file");
        assert!(order.sync(sync(3, &a)).is_none());
        let later = order.write(&a);
        assert!(order.sync(sync(4, &a)).is_none());
        assert_eq!(order.held(), 2);
        order.write_done(second, &mut ready);
        assert!(ready.is_empty());
        order.write_done(first, &mut ready);
        assert_eq!(ready.iter().map(|sync| sync.tag).collect::<Vec<_>>(), [3]);
        order.write_done(later, &mut ready);
        assert_eq!(ready.iter().map(|sync| sync.tag).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(order.held(), 0);
    }
}
