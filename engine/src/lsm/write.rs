//! The write path: room in the memtable, a record in the log, entries in the list, visible in order.
//!
//! ```text
//! pin as writer ─► make room ─► log.append ─► insert ─► publish ─► unpin ─► (durable: log.flush)
//! ```
//! After room is made nothing can fail but the log; a failed append leaves unused arena bytes and nothing else.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::ids::{Lsn, SeqNo};
use crate::error::{Error, Result};
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::hosted::Wait;
use crate::lsm::memtable::{Memtable, Room, space_needed};
use crate::lsm::stats::Counter;
use crate::mem::pins::Pin;
use crate::mem::skiplist::Splice;
use crate::options::Durability;

thread_local! {
    /// Where this thread last inserted: sequential writers find their place without a search.
    static SPLICE: RefCell<Splice> = RefCell::new(Splice::default());
}

/// Runs `work` with the place of this thread's last insert.
pub(crate) fn with_splice(work: impl FnOnce(&mut Splice)) {
    SPLICE.with_borrow_mut(work);
}

/// A pin as writer on a memtable with room, or the list whose active memtable is full.
type Tried<'l> = std::result::Result<(Pin<'l>, &'l Memtable, Room), MemtableList>;

impl Lsm {
    /// Writes `batch` (`format::batch` bytes of `count` operations) atomically.
    ///
    /// # Errors
    /// I/O (the log, a full disk), closed.
    pub fn write(&self, batch: &[u8], count: u64, durability: Durability) -> Result<()> {
        if count == 0 {
            return self.check_not_closed();
        }
        if let Some(host) = self.host.get() {
            return host.write(self.place(batch, count)?);
        }
        let end = self.write_unsynced(batch, count)?;
        if durability == Durability::Machine {
            self.log().flush(end)?;
        }
        Ok(())
    }

    fn write_unsynced(&self, batch: &[u8], count: u64) -> Result<Lsn> {
        self.admit(batch.len())?;
        if space_needed(batch, 0) > self.options.memtable_bytes / 2 {
            return self.write_large(batch, count);
        }
        let (pin, table, room) = self.room_for(batch)?;
        let appended = self.log().append(batch, count)?;
        SPLICE.with_borrow_mut(|splice| table.insert(room, batch, appended.first, splice));
        let end = appended.first.plus(count);
        self.publish().finish(appended.ticket, end, &self.control().visible);
        self.await_visible(SeqNo(end.0 - 1))?;
        drop(pin);
        self.stats().add(Counter::BatchesWritten, 1);
        self.stats().add(Counter::BytesWritten, batch.len() as u64);
        Ok(appended.end)
    }

    /// Applies a batch that is in the log already, with the sequence numbers it has there.
    pub(crate) fn replay(&self, batch: &[u8], first: SeqNo) -> Result<()> {
        if space_needed(batch, 0) > self.options.memtable_bytes / 2 {
            return self.ingest(batch, first);
        }
        let (pin, table, room) = self.room_for(batch)?;
        SPLICE.with_borrow_mut(|splice| table.insert(room, batch, first, splice));
        drop(pin);
        Ok(())
    }

    /// Pins as a writer and makes room in the active memtable, rotating as often as it takes.
    fn room_for(&self, batch: &[u8]) -> Result<(Pin<'_>, &Memtable, Room)> {
        loop {
            match self.try_room_for(batch)? {
                Ok(found) => return Ok(found),
                Err(list) => self.rotate(list)?,
            }
        }
    }

    /// Pins as a writer and makes room in the active memtable, or says which list's active one is full.
    pub(crate) fn try_room_for(&self, batch: &[u8]) -> Result<Tried<'_>> {
        let pin = self.pin_writer()?;
        let list = self.memtable_list();
        let table = self.memtables.get(list.active());
        // Any number without a pattern will do; the fill level of the arena differs from batch to batch.
        let seed = (table.used() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Ok(table.make_room(batch, seed).map(|room| (pin, table, room)).ok_or(list))
    }

    /// Pins as a writer, waiting while a rotation drains the writers of the old memtable.
    fn pin_writer(&self) -> Result<Pin<'_>> {
        let control = self.control();
        loop {
            let seen = control.progress.current();
            let pin = self.pins.pin(&control.generation, true);
            // After a failure no record may follow what is unfinished in the log: so it is looked at under the pin.
            self.check_open()?;
            if control.writers_blocked.load(Ordering::SeqCst) == 0 {
                return Ok(pin);
            }
            drop(pin);
            control.progress.wait(seen, Duration::from_millis(10));
        }
    }

    /// Waits for slower writers with smaller sequence numbers. They hold no lock and wait for nothing but their insert.
    fn await_visible(&self, seqno: SeqNo) -> Result<()> {
        let mut turns = 0u32;
        while self.visible() < seqno {
            turns += 1;
            if turns < 200 {
                std::hint::spin_loop();
                continue;
            }
            std::thread::yield_now();
            if turns.is_multiple_of(10_000) {
                self.check_open()?;
                if self.pins.reap_dead().writers > 0 {
                    self.control().poison();
                    return Err(super::closed_by_death());
                }
            }
        }
        Ok(())
    }

    /// Decides whether a write of `bytes` may start, and slows it when compaction is behind.
    pub(crate) fn admit(&self, bytes: usize) -> Result<()> {
        self.check_open()?;
        self.check_space()?;
        let rate = self.control().write_rate.load(Ordering::Relaxed);
        if rate != 0 {
            let wait = self.throttle().take(bytes as u64, rate, self.env.now());
            if !wait.is_zero() {
                self.stats().add(Counter::StallMicros, wait.as_micros() as u64);
                self.sleep_checking(wait)?;
            }
        }
        Ok(())
    }

    /// Fails while writes are refused for want of space.
    pub(crate) fn check_space(&self) -> Result<()> {
        if self.control().disk_full.load(Ordering::Relaxed) != 0 {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::io(&self.dir, "write: the disk is nearly full; free space under", source));
        }
        Ok(())
    }

    /// Sleeps, asking the host now and then whether to go on.
    fn sleep_checking(&self, mut left: Duration) -> Result<()> {
        while !left.is_zero() {
            let slice = left.min(SLEEP_SLICE);
            self.waiting(Wait::Turn, || self.env.sleep(slice));
            left -= slice;
            self.check_host_interrupts()?;
        }
        Ok(())
    }
}

/// Longest sleep between two looks at interrupts.
const SLEEP_SLICE: Duration = Duration::from_millis(20);
