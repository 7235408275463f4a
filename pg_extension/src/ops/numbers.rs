//! Places of new rows: handed out one after the other for a relation, never twice, across crashes and restarts.
//!
//! Blocks fill as the pages of a heap would, so that sampling by blocks, ranges of ctids, BRIN and the planner find what they are
//! used to; and no block takes more than 127 rows. Nothing is stored in such blocks.
//!
//! Where the next row goes is in shared memory. Blocks are *reserved* in the engine ahead of their use (an entry of the tree of
//! numbers, logged), so that after a crash the next row goes above every place that was ever handed out. A relation whose words had
//! to make room for another's is looked up in the engine again, and goes on above its reservation, too.

use std::sync::atomic::Ordering;

use ssd_engine::Result;
use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{Kind, full_key};
use ssd_engine::lsm::Lsm;

use super::tid::{BLOCK_MAX, Root, SLOTS};
use super::write::Batch;
use crate::error;
use crate::link::{self, NUMBER_TREE};
use crate::shmem::{self, Lock, NUMBER_LOCKS, NUMBER_SLOTS, NumberSlot};

/// Blocks reserved at first, and at most, at once.
const RESERVE_MIN: u64 = 8;
const RESERVE_MAX: u64 = 16_384;
/// Slots in which a relation's words may be.
const PROBES: usize = NUMBER_SLOTS / NUMBER_LOCKS;
/// Bytes of a heap's page that rows can take.
pub const PAGE_ROOM: u64 = 8192 - 24;

/// How far a relation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Blocks in which a row may be.
    pub blocks: u64,
    /// Rows that places were handed out for.
    pub rows: u64,
    /// Bytes that a heap takes for them.
    pub bytes: u64,
}

impl Extent {
    /// Pages that a heap takes for the rows. Fewer than blocks where rows are so short that more than 127 fit a page.
    #[must_use]
    pub fn heap_pages(&self) -> u64 {
        if self.rows == 0 {
            return self.blocks;
        }
        let each = self.bytes.div_ceil(self.rows).max(1);
        self.rows.div_ceil((PAGE_ROOM / each).max(1)).min(self.blocks)
    }
}

/// A row that wants a place.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bytes that a heap takes for it, with its line pointer.
    pub bytes: u64,
    /// Bytes that a heap's page keeps free for updates.
    pub keep_free: u64,
}

fn part(tree: TreeId) -> usize {
    (tree.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % NUMBER_LOCKS
}

/// The slots of a part.
fn slots(part: usize) -> &'static [NumberSlot] {
    &shmem::shared().numbers[part * PROBES..(part + 1) * PROBES]
}

/// What the engine knows: its blocks are the reserved ones.
fn stored(lsm: &Lsm, tree: TreeId) -> Result<Extent> {
    let key = full_key(NUMBER_TREE, &tree.0.to_be_bytes());
    let mut extent = Extent::default();
    lsm.visit_versions(&key, None, &mut Vec::new(), &mut |value| {
        let word = |at: usize| {
            value.get(8 * at..8 * at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        extent = Extent { blocks: word(0), rows: word(1), bytes: word(2) };
        Ok(std::ops::ControlFlow::Break(()))
    })?;
    Ok(extent)
}

fn store(lsm: &Lsm, tree: TreeId, Extent { blocks, rows, bytes }: Extent) -> Result<()> {
    let mut batch = Batch::default();
    let value = [blocks, rows, bytes].map(u64::to_le_bytes).concat();
    batch.op(Kind::Put, &full_key(NUMBER_TREE, &tree.0.to_be_bytes()), &value);
    batch.write(lsm, true)
}

impl NumberSlot {
    fn get(&self) -> (u64, u64, u64) {
        let load = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
        (load(&self.block), load(&self.slot), load(&self.free))
    }

    fn set(&self, (block, slot, free): (u64, u64, u64)) {
        self.block.store(block, Ordering::Relaxed);
        self.slot.store(slot, Ordering::Relaxed);
        self.free.store(free, Ordering::Relaxed);
    }

    fn extent(&self) -> Extent {
        let (block, slot, _) = self.get();
        let (rows, bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        Extent { blocks: block + u64::from(slot > 0), rows, bytes }
    }

    /// Begins at the first block after `extent`.
    fn begin(&self, extent: Extent) {
        self.set((extent.blocks, 0, PAGE_ROOM));
        self.reserved.store(extent.blocks, Ordering::Relaxed);
        self.rows.store(extent.rows, Ordering::Relaxed);
        self.bytes.store(extent.bytes, Ordering::Relaxed);
    }
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
    slot.begin(found);
    Ok(slot)
}

/// Hands out places for rows of these sizes.
///
/// # Errors
/// I/O of the engine.
pub fn take(lsm: &Lsm, tree: TreeId, sizes: impl Iterator<Item = Size>) -> Result<Vec<Root>> {
    let places = Lock::Numbers(part(tree)).with(|| -> Result<Vec<Root>> {
        let words = slot_of(lsm, tree)?;
        let (mut block, mut slot, mut free) = words.get();
        let mut places = Vec::new();
        let Extent { mut rows, bytes: mut total, .. } = words.extent();
        for Size { bytes, keep_free } in sizes {
            if slot == SLOTS || (slot > 0 && free < bytes + keep_free) {
                (block, slot, free) = (block + 1, 0, PAGE_ROOM);
            }
            places.push(Root { block: block as u32, slot: slot as u8 + 1 });
            (slot, rows, total) = (slot + 1, rows + 1, total + bytes);
            free = free.saturating_sub(bytes);
        }
        if block >= words.reserved.load(Ordering::Relaxed) {
            let upto = block + 1 + (block / 4).clamp(RESERVE_MIN, RESERVE_MAX);
            store(lsm, tree, Extent { blocks: upto, rows, bytes: total })?;
            words.reserved.store(upto, Ordering::Relaxed);
        }
        words.set((block, slot, free));
        words.rows.store(rows, Ordering::Relaxed);
        words.bytes.store(total, Ordering::Relaxed);
        Ok(places)
    })?;
    if places.last().is_some_and(|last| u64::from(last.block) >= BLOCK_MAX - RESERVE_MAX) {
        error::fail(
            pgrx::PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            "the table has used up its places for rows",
            "Rewrite it with VACUUM FULL.",
        );
    }
    Ok(places)
}

/// How far the relation has come.
///
/// # Errors
/// I/O of the engine.
pub fn extent(lsm: &Lsm, tree: TreeId) -> Result<Extent> {
    if link::in_recovery() {
        // Somebody else hands them out: only what is logged counts, and it moves on.
        return stored(lsm, tree);
    }
    Lock::Numbers(part(tree)).with(|| Ok(slot_of(lsm, tree)?.extent()))
}

/// Begins anew with a relation after `extent`: the default for one that has no rows and no index entries.
///
/// # Errors
/// I/O of the engine.
pub fn begin_at(lsm: &Lsm, tree: TreeId, extent: Extent) -> Result<()> {
    Lock::Numbers(part(tree)).with(|| {
        let words = slot_of(lsm, tree)?;
        if words.reserved.load(Ordering::Relaxed) != extent.blocks {
            store(lsm, tree, extent)?;
        }
        words.begin(extent);
        Ok(())
    })
}

/// Gives reserved blocks back at a shutdown, so that the next life goes on without a gap. Nobody takes places any more.
///
/// # Errors
/// I/O of the engine.
pub fn settle(lsm: &Lsm) -> Result<()> {
    for words in &shmem::shared().numbers {
        let tree = words.tree.load(Ordering::Relaxed);
        let extent = words.extent();
        if tree != 0 && extent.blocks < words.reserved.load(Ordering::Relaxed) {
            store(lsm, TreeId(tree), extent)?;
            words.reserved.store(extent.blocks, Ordering::Relaxed);
        }
    }
    Ok(())
}
