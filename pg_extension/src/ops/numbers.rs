//! Row numbers: handed out densely for a relation, never twice, across crashes and restarts.
//!
//! The next number of a relation is a word in shared memory. Numbers are *reserved* in the engine ahead of their use (an entry of
//! the tree of numbers, logged), so that after a crash counting goes on above everything that was ever handed out. A relation whose
//! word had to make room for another's is looked up in the engine again, and goes on above its reservation, too.

use std::sync::atomic::Ordering;

use ssd_engine::Result;
use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{Kind, full_key};
use ssd_engine::lsm::Lsm;

use super::tid::{BLOCK_MAX, SLOTS};
use super::write::Batch;
use crate::error;
use crate::ffi::externs;
use crate::link::NUMBER_TREE;
use crate::shmem::{self, Lock, NUMBER_LOCKS, NUMBER_SLOTS, NumberSlot};

/// Numbers reserved at first, and at most, at once.
const RESERVE_MIN: u64 = 8 * SLOTS;
const RESERVE_MAX: u64 = 16_384 * SLOTS;
/// Slots in which a relation's word may be.
const PROBES: usize = NUMBER_SLOTS / NUMBER_LOCKS;

/// How far a relation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The next row number.
    pub next: u64,
    /// Bytes that a heap would have taken.
    pub bytes: u64,
}

impl Extent {
    /// Blocks that row numbers have reached.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.next.div_ceil(SLOTS)
    }
}

fn part(tree: TreeId) -> usize {
    (tree.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % NUMBER_LOCKS
}

/// The slots of a part.
fn slots(part: usize) -> &'static [NumberSlot] {
    &shmem::shared().numbers[part * PROBES..(part + 1) * PROBES]
}

fn stored(lsm: &Lsm, tree: TreeId) -> Result<Extent> {
    let key = full_key(NUMBER_TREE, &tree.0.to_be_bytes());
    let mut extent = Extent::default();
    lsm.visit_versions(&key, None, &mut Vec::new(), &mut |value| {
        if let Some((next, rest)) = value.split_first_chunk::<8>() {
            extent.next = u64::from_le_bytes(*next);
            extent.bytes = rest.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        }
        Ok(std::ops::ControlFlow::Break(()))
    })?;
    Ok(extent)
}

fn store(lsm: &Lsm, tree: TreeId, extent: Extent) -> Result<()> {
    let mut batch = Batch::default();
    let mut value = extent.next.to_le_bytes().to_vec();
    value.extend_from_slice(&extent.bytes.to_le_bytes());
    batch.op(Kind::Put, &full_key(NUMBER_TREE, &tree.0.to_be_bytes()), &value);
    batch.write(lsm, true)
}

/// The relation's slot, filled from the engine when it had none. Under the part's lock.
fn slot_of(lsm: &Lsm, tree: TreeId) -> Result<&'static NumberSlot> {
    let slots = slots(part(tree));
    if let Some(slot) = slots.iter().find(|slot| slot.tree.load(Ordering::Relaxed) == tree.0) {
        return Ok(slot);
    }
    let found = stored(lsm, tree)?;
    let free = slots.iter().find(|slot| slot.tree.load(Ordering::Relaxed) == 0);
    // Any other will do: its relation goes on above its reservation.
    let slot = free.unwrap_or(&slots[tree.0 as usize % PROBES]);
    slot.tree.store(tree.0, Ordering::Relaxed);
    slot.next.store(found.next, Ordering::Relaxed);
    slot.reserved.store(found.next, Ordering::Relaxed);
    slot.bytes.store(found.bytes, Ordering::Relaxed);
    Ok(slot)
}

/// Hands out `count` numbers in a row for rows that take `bytes`; the first.
///
/// # Errors
/// I/O of the engine.
pub fn take(lsm: &Lsm, tree: TreeId, count: u64, bytes: u64) -> Result<u64> {
    let first = Lock::Numbers(part(tree)).with(|| -> Result<u64> {
        let slot = slot_of(lsm, tree)?;
        let first = slot.next.load(Ordering::Relaxed);
        let end = first + count;
        if end > slot.reserved.load(Ordering::Relaxed) {
            let ahead = (end / 4).clamp(RESERVE_MIN, RESERVE_MAX);
            let upto = end + ahead;
            store(lsm, tree, Extent { next: upto, bytes: slot.bytes.load(Ordering::Relaxed) + bytes })?;
            slot.reserved.store(upto, Ordering::Relaxed);
        }
        slot.next.store(end, Ordering::Relaxed);
        slot.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(first)
    })?;
    if first + count > SLOTS * BLOCK_MAX {
        error::fail(
            pgrx::PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            "the table has used up its row numbers",
            "Rewrite it with VACUUM FULL.",
        );
    }
    Ok(first)
}

/// How far the relation has come.
///
/// # Errors
/// I/O of the engine.
pub fn extent(lsm: &Lsm, tree: TreeId) -> Result<Extent> {
    // SAFETY: see the externs.
    if unsafe { externs::RecoveryInProgress() } {
        // Somebody else hands them out: only what is logged counts, and it moves on.
        return stored(lsm, tree);
    }
    Lock::Numbers(part(tree)).with(|| {
        let slot = slot_of(lsm, tree)?;
        Ok(Extent { next: slot.next.load(Ordering::Relaxed), bytes: slot.bytes.load(Ordering::Relaxed) })
    })
}

/// Begins anew with a relation that has no rows and no index entries.
///
/// # Errors
/// I/O of the engine.
pub fn restart(lsm: &Lsm, tree: TreeId) -> Result<()> {
    Lock::Numbers(part(tree)).with(|| {
        let slot = slot_of(lsm, tree)?;
        if slot.reserved.load(Ordering::Relaxed) > 0 {
            store(lsm, tree, Extent::default())?;
        }
        slot.next.store(0, Ordering::Relaxed);
        slot.reserved.store(0, Ordering::Relaxed);
        slot.bytes.store(0, Ordering::Relaxed);
        Ok(())
    })
}

/// Gives reserved numbers back at a shutdown, so that counting goes on without a gap. Nobody takes numbers any more.
///
/// # Errors
/// I/O of the engine.
pub fn settle(lsm: &Lsm) -> Result<()> {
    for slot in &shmem::shared().numbers {
        let tree = slot.tree.load(Ordering::Relaxed);
        let next = slot.next.load(Ordering::Relaxed);
        if tree != 0 && next < slot.reserved.load(Ordering::Relaxed) {
            store(lsm, TreeId(tree), Extent { next, bytes: slot.bytes.load(Ordering::Relaxed) })?;
            slot.reserved.store(next, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Begins with a relation that is a copy of one that has come as far as `extent`.
///
/// # Errors
/// I/O of the engine.
pub fn begin_at(lsm: &Lsm, tree: TreeId, extent: Extent) -> Result<()> {
    Lock::Numbers(part(tree)).with(|| {
        let slot = slot_of(lsm, tree)?;
        store(lsm, tree, extent)?;
        slot.next.store(extent.next, Ordering::Relaxed);
        slot.reserved.store(extent.next, Ordering::Relaxed);
        slot.bytes.store(extent.bytes, Ordering::Relaxed);
        Ok(())
    })
}
