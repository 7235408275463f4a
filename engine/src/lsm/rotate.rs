//! Switching the active memtable.
//!
//! The rotation blocks new writers, waits for those of the old table, and only then makes the new one active. The wait is
//! as short as an insert; in return every sequence number of a newer table is larger than every one of an older table, which
//! point lookups rely on, and the log position noted in the new table is exact.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::key::{TREE_PREFIX_LEN_MAX, common_prefix_len};
use crate::error::{Error, Result};
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::memtable::Memtable;
use crate::lsm::stats::Counter;

/// Most bytes of a common prefix that a memtable remembers.
const COMMON_MAX: usize = 32;

impl Lsm {
    /// Makes a fresh memtable active in place of the one that `full` has; returns at once when that has happened already.
    /// Waits for a flush when no memtable is free.
    ///
    /// # Errors
    /// Closed; I/O when the wait exceeds option `stall_timeout`, or when background work is the caller's and fails.
    pub fn rotate(&self, full: MemtableList) -> Result<()> {
        let started = self.env.now();
        loop {
            self.check_open()?;
            let seen = self.control().progress.current();
            {
                let _turn = self.hold(|| self.control().rotation.lock())?;
                let list = self.memtable_list();
                if !list.is_empty() && list.active() != full.active() {
                    return Ok(());
                }
                let oldest_pin = self.pins.oldest();
                if let Some(free) = self.memtables.find_free(list.indices(), oldest_pin) {
                    return self.activate(free, list);
                }
            }
            self.await_progress(seen)?;
            if self.host.get().is_some_and(|host| !host.flushes_itself()) {
                // No flush will make room until space returns.
                self.check_space()?;
            }
            let waited = self.env.now().saturating_sub(started);
            if self.options.stall_timeout.is_some_and(|limit| waited > limit) {
                let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(Error::io(&self.dir, "write: flushes are too slow for option stall_timeout in", source));
            }
            self.stats().add(Counter::MemtableWaits, 1);
        }
    }

    /// Makes memtable `free` active. The caller holds the rotation lock (or is alone, at open).
    pub(crate) fn activate(&self, free: usize, list: MemtableList) -> Result<()> {
        let control = self.control();
        control.writers_blocked.store(1, Ordering::SeqCst);
        let drained = self.drain_writers();
        if drained.is_ok() {
            let common = if list.is_empty() { Vec::new() } else { common_prefix(self.memtables.get(list.active())) };
            let start = self.log.get().map_or_else(|| self.replay_position(), |log| log.position());
            self.memtables.get(free).reset(start, &common);
            // A flush may take the oldest entry off at the same time.
            let _ = control
                .memtables
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| Some(MemtableList(word).with_active(free).0));
            control.advance_generation();
        }
        control.writers_blocked.store(0, Ordering::SeqCst);
        control.progress.notify();
        control.work.notify();
        drained
    }

    /// Waits until no writer is pinned. New ones are blocked, and those under way wait for nothing but the log.
    pub(crate) fn drain_writers(&self) -> Result<()> {
        let mut turns = 0u32;
        while self.pins.oldest_writer().is_some() {
            turns += 1;
            if turns < 1000 {
                std::thread::yield_now();
                continue;
            }
            self.check_open()?;
            if self.pins.reap_dead().writers > 0 {
                self.control().poison();
                return Err(super::closed_by_death());
            }
            self.env.sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}

/// What the keys of a memtable share, as a guess at what those of the next one will share.
fn common_prefix(table: &Memtable) -> Vec<u8> {
    let mut iter = table.iter();
    Memtable::seek_first(&mut iter);
    if !iter.valid() {
        return Vec::new();
    }
    let first = iter.key().to_vec();
    iter.last();
    let shared = common_prefix_len(&first, iter.key());
    first[..shared.min(COMMON_MAX)].to_vec()
}

const _: () = assert!(COMMON_MAX > TREE_PREFIX_LEN_MAX);

#[cfg(all(test, feature = "shuttle"))]
mod models;
