//! What the log does besides appending and flushing: segments made ahead of need, archived, and given up.

use std::sync::atomic::Ordering;

use super::{FileLog, block_floor};
use crate::error::Result;
use crate::wal::Log;
use crate::wal::archive::archive;
use crate::wal::segments::Origin;
use crate::wal::shared::Failure;

/// Who syncs more often than once in so many bytes of the log has writers that wait for it. Flushes of memtables alone sync
/// once in several MiB.
const SYNCED_OFTEN: u64 = 1 << 20;

impl FileLog {
    /// Creates what is missing of the segments up to `last`. The caller holds the claim.
    pub(super) fn create_segments(&self, last: u64) -> Result<()> {
        let shared = self.shared();
        loop {
            let number = shared.next_segment.load(Ordering::Relaxed);
            if number > last {
                return Ok(());
            }
            let origin = match self.place.create_segment(number) {
                Ok(origin) => origin,
                // Nothing that was logged is touched by this: it may be tried again when there is space.
                Err(error) if error.is_no_space() => return Err(error),
                Err(error) => return Err(self.fail(Failure::Create, number, error)),
            };
            let counter = if origin == Origin::Fresh { &shared.created } else { &shared.recycled };
            counter.fetch_add(1, Ordering::Relaxed);
            shared.next_segment.store(number + 1, Ordering::Release);
        }
    }

    /// Whether another segment should be made before the log gets to its end.
    pub(super) fn wants_segment(&self) -> bool {
        let next = self.place.segment_start(self.shared().next_segment.load(Ordering::Acquire));
        next.since(self.position()) < self.place.options.segment_bytes / 2
    }

    /// Whether a finished segment has not been archived.
    pub(super) fn wants_archive(&self) -> bool {
        self.place.options.archive_dir.is_some()
            && self.shared().archived_below.load(Ordering::Acquire) < self.place.segment_of(self.durable())
    }

    /// Archives the finished segments below `number`. The caller holds `trim`.
    pub(super) fn archive_below(&self, number: u64) -> Result<()> {
        let Some(dir) = &self.place.options.archive_dir else { return Ok(()) };
        let shared = self.shared();
        let number = number.min(self.place.segment_of(self.durable()));
        let done = shared.archived_below.load(Ordering::Acquire);
        for segment in self.place.segments()?.into_iter().filter(|segment| (done..number).contains(segment)) {
            if archive(&self.place, segment, dir)? {
                shared.archived.fetch_add(1, Ordering::Relaxed);
            }
        }
        shared.archived_below.fetch_max(number, Ordering::Release);
        Ok(())
    }

    /// Writes out whole blocks, prepares the next segment, archives: whatever of these is to be done.
    pub(super) fn work_ahead(&self) -> Result<bool> {
        let shared = self.shared();
        let mut busy = false;
        // Whole blocks only: a partial one would be written again.
        let target = block_floor(self.position());
        if self.written() < target
            && let Some(held) = shared.claim.try_lock()
        {
            busy = true;
            self.with_claim(held, |writer| self.write_to(writer, target))?;
        }
        if let Some(failure) = shared.failure() {
            return Err(failure);
        }
        if self.wants_segment() || self.wants_archive() {
            let Some(_held) = shared.trim.try_lock() else { return Ok(busy) };
            self.prepare_segment()?;
            self.archive_below(u64::MAX)?;
            busy = true;
        }
        Ok(busy)
    }

    /// Makes the next segment before it is needed, from a spare that is made for it if there is none: so the claim is held
    /// only for a moment. The caller holds `trim`.
    fn prepare_segment(&self) -> Result<()> {
        if !self.wants_segment() {
            return Ok(());
        }
        let shared = self.shared();
        let number = shared.next_segment.load(Ordering::Acquire);
        if self.place.spares()?.is_empty() {
            self.place.make_spare(number, self.is_synced_often())?;
        }
        let held = self.lock_claim()?;
        self.with_claim(held, |_| if self.wants_segment() { self.create_segments(number) } else { Ok(()) })
    }

    /// Whether writers wait for the device, so that what a sync costs matters more than what is written beside it.
    fn is_synced_often(&self) -> bool {
        let shared = self.shared();
        shared.written_bytes.load(Ordering::Relaxed) / SYNCED_OFTEN < shared.syncs.load(Ordering::Relaxed)
    }

    /// Takes segments below `number` out of the log: to the spares as long as there are few, away otherwise.
    pub(super) fn retire_below(&self, number: u64) -> Result<()> {
        let old: Vec<_> = self.place.segments()?.into_iter().filter(|&segment| segment < number).collect();
        if old.is_empty() {
            return Ok(());
        }
        let held = self.lock_claim()?;
        self.with_claim(held, |writer| {
            writer.files.retain(|&(open, _)| open >= number);
            let mut room = self.place.options.recycle.saturating_sub(self.place.spares()?.len());
            for segment in old {
                if room > 0 {
                    self.place.retire_segment(segment)?;
                    room -= 1;
                } else {
                    self.place.env.remove(&self.place.segment_path(segment))?;
                }
            }
            // Before a spare's header is overwritten, its name as a segment must be gone for good.
            self.place.env.sync_dir(&self.place.dir)
        })
    }
}
