//! Places of new rows: handed out one after the other for a relation, never twice, across crashes and restarts.
//!
//! Blocks fill as the pages of a heap would, so that sampling by blocks, ranges of ctids, BRIN and the planner find what they are
//! used to; and no block takes more than 127 rows. Nothing is stored in such blocks.
//!
//! Where the next row goes is in shared memory. Blocks are *reserved* in the engine ahead of their use (an entry of the tree of
//! numbers, logged), so that after a crash the next row goes above every place that was ever handed out. A relation whose words had
//! to make room for another's is looked up in the engine again, and goes on above its reservation, too.
//!
//! That entry is there from the first row on, and as long as the tree may have entries: it is how the engine knows a relation.
//!
//! Where a table's fillfactor keeps room in blocks, a row that an update moves stays in its block if it can, as in a heap: the
//! *room* of each block that was filled is an entry beside the relation's (its key goes on with the block), written before the place
//! is used. Other tables have no such entries.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{Kind, full_key, split_full_key};
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::merge::Direction;
use ssd_engine::lsm::scan::Scan;
use ssd_engine::lsm::versions::Expected;
use ssd_engine::{Error, Result};

use super::room::Room;
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
    /// Blocks whose rows everybody saw alike when VACUUM came last.
    pub visible: u64,
    /// Blocks when the server counted the rows last; 0 when it never has.
    pub counted: u64,
}

impl Extent {
    /// Pages that a heap takes for the rows, with `keep_free` bytes of each left free. Fewer than blocks where rows are so short
    /// that more than 127 fit a page.
    #[must_use]
    pub fn heap_pages(&self, keep_free: u64) -> u64 {
        if self.rows == 0 {
            return self.blocks;
        }
        let each = self.bytes.div_ceil(self.rows).max(1);
        let of_page = PAGE_ROOM.saturating_sub(keep_free) / each;
        self.rows.div_ceil(of_page.max(1)).min(self.blocks)
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

/// The key of a relation's entry; of its rooms it is a prefix.
pub(super) fn key_of(tree: TreeId) -> Vec<u8> {
    full_key(NUMBER_TREE, &tree.0.to_be_bytes())
}

/// The newest value at `key`.
pub(super) fn value_at(lsm: &Lsm, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    lsm.visit_versions(key, Expected::default(), &mut Vec::new(), &mut |value| {
        found = Some(value.to_vec());
        Ok(std::ops::ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// What the engine knows, if it knows the relation: its blocks are the reserved ones.
fn entry(lsm: &Lsm, tree: TreeId) -> Result<Option<Extent>> {
    Ok(value_at(lsm, &key_of(tree))?.map(|value| {
        let word = |at: usize| {
            value.get(8 * at..8 * at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        Extent { blocks: word(0), rows: word(1), bytes: word(2), visible: word(3), counted: word(4) }
    }))
}

fn stored(lsm: &Lsm, tree: TreeId) -> Result<Extent> {
    Ok(entry(lsm, tree)?.unwrap_or_default())
}

/// Whether the engine knows the relation: it does once a place was handed out.
///
/// # Errors
/// I/O of the engine.
pub fn is_known(lsm: &Lsm, tree: TreeId) -> Result<bool> {
    Ok(entry(lsm, tree)?.is_some())
}

fn store(lsm: &Lsm, tree: TreeId, Extent { blocks, rows, bytes, visible, counted }: Extent) -> Result<()> {
    let mut batch = Batch::default();
    let value = [blocks, rows, bytes, visible, counted].map(u64::to_le_bytes).concat();
    batch.op(Kind::Put, &key_of(tree), &value);
    batch.write(lsm, true)
}

/// Adds to `batch` the end of what is known of the relation.
///
/// # Errors
/// I/O of the engine.
pub fn forget(lsm: &Arc<Lsm>, batch: &mut Batch, tree: TreeId) -> Result<()> {
    batch.op(Kind::Delete, &key_of(tree), &[]);
    Room::end_all(lsm, batch, tree)
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
        let load = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
        Extent {
            blocks: block + u64::from(slot > 0),
            rows: load(&self.rows),
            bytes: load(&self.bytes),
            visible: load(&self.visible),
            counted: load(&self.counted),
        }
    }

    fn count(&self, rows: u64, bytes: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Begins at the first block after `extent`.
    fn begin(&self, extent: Extent) {
        self.set((extent.blocks, 0, PAGE_ROOM));
        self.reserved.store(extent.blocks, Ordering::Relaxed);
        self.count(extent.rows, extent.bytes);
        self.visible.store(extent.visible, Ordering::Relaxed);
        self.counted.store(extent.counted, Ordering::Relaxed);
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
        let Extent { mut rows, bytes: mut total, visible, counted, .. } = words.extent();
        let mut rooms = Batch::default();
        for Size { bytes, keep_free } in sizes {
            if slot == SLOTS || (slot > 0 && free < bytes + keep_free) {
                if keep_free > 0 {
                    Room::of(slot, free).write(&mut rooms, tree, block as u32);
                }
                (block, slot, free) = (block + 1, 0, PAGE_ROOM);
            }
            places.push(Root { block: block as u32, slot: slot as u8 + 1 });
            (slot, rows, total) = (slot + 1, rows + 1, total + bytes);
            free = free.saturating_sub(bytes);
        }
        if block >= words.reserved.load(Ordering::Relaxed) {
            let upto = block + 1 + (block / 4).clamp(RESERVE_MIN, RESERVE_MAX);
            store(lsm, tree, Extent { blocks: upto, rows, bytes: total, visible, counted })?;
            words.reserved.store(upto, Ordering::Relaxed);
        }
        rooms.write(lsm, true)?;
        words.set((block, slot, free));
        words.count(rows, total);
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

/// Hands out a place for the new version of the row at `near`: in its block, where fillfactor has kept room there, else as for a
/// new row.
///
/// # Errors
/// I/O of the engine.
pub fn take_near(lsm: &Lsm, tree: TreeId, near: Root, size: Size) -> Result<Root> {
    if size.keep_free > 0
        && let Some(place) = Lock::Numbers(part(tree)).with(|| place_in(lsm, tree, near.block, size.bytes))?
    {
        return Ok(place);
    }
    Ok(take(lsm, tree, std::iter::once(size))?[0])
}

/// A place in `block`, if there is room. Under the part's lock.
fn place_in(lsm: &Lsm, tree: TreeId, block: u32, bytes: u64) -> Result<Option<Root>> {
    let words = slot_of(lsm, tree)?;
    let (last, slot, free) = words.get();
    let taken = if u64::from(block) == last && slot > 0 {
        if slot == SLOTS || free < bytes {
            return Ok(None);
        }
        words.set((last, slot + 1, free - bytes));
        slot + 1
    } else {
        let Some(room) = Room::read(lsm, tree, block)? else { return Ok(None) };
        let Some(rest) = room.after(bytes) else { return Ok(None) };
        let mut batch = Batch::default();
        rest.write(&mut batch, tree, block);
        batch.write(lsm, true)?;
        rest.slots.into()
    };
    let extent = words.extent();
    words.count(extent.rows + 1, extent.bytes + bytes);
    Ok(Some(Root { block, slot: taken as u8 }))
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
pub fn begin_at(lsm: &Arc<Lsm>, tree: TreeId, extent: Extent) -> Result<()> {
    Lock::Numbers(part(tree)).with(|| {
        let words = slot_of(lsm, tree)?;
        if words.reserved.load(Ordering::Relaxed) != extent.blocks {
            let mut rooms = Batch::default();
            Room::end_all(lsm, &mut rooms, tree)?;
            rooms.write(lsm, true)?;
            store(lsm, tree, extent)?;
        }
        words.begin(extent);
        Ok(())
    })
}

/// Gives the words in shared memory of a relation that is gone to others.
pub fn release(tree: TreeId) {
    let part = part(tree);
    Lock::Numbers(part).with(|| {
        if let Some(words) = slots(part).iter().find(|words| words.tree.load(Ordering::Relaxed) == tree.0) {
            words.tree.store(0, Ordering::Relaxed);
        }
    });
}

/// Begins with `to` where `from` has come to, if the engine knows that.
///
/// # Errors
/// I/O of the engine.
pub fn copy(lsm: &Arc<Lsm>, from: TreeId, to: TreeId) -> Result<()> {
    let extent = extent(lsm, from)?;
    if !is_known(lsm, from)? {
        return begin_at(lsm, to, extent);
    }
    Lock::Numbers(part(to)).with(|| {
        let words = slot_of(lsm, to)?;
        store(lsm, to, extent)?;
        words.begin(extent);
        Ok(())
    })
}

/// Notes that the server counts the rows now, and, when VACUUM does, in how many blocks everybody sees them alike.
///
/// # Errors
/// I/O of the engine.
pub fn note_counted(lsm: &Lsm, tree: TreeId, visible: Option<u64>) -> Result<()> {
    Lock::Numbers(part(tree)).with(|| {
        let words = slot_of(lsm, tree)?;
        let (old, blocks) = (words.extent(), words.reserved.load(Ordering::Relaxed));
        let new = Extent { counted: old.blocks, visible: visible.unwrap_or(old.visible), ..old };
        if blocks == 0 || new == old {
            return Ok(());
        }
        words.visible.store(new.visible, Ordering::Relaxed);
        words.counted.store(new.counted, Ordering::Relaxed);
        store(lsm, tree, Extent { blocks, ..new })
    })
}

/// The relations in `range` that the engine knows.
///
/// # Errors
/// I/O, corruption.
pub fn known(lsm: &Arc<Lsm>, range: Range<TreeId>) -> Result<Vec<TreeId>> {
    let mut found = Vec::new();
    let mut next = key_of(range.start);
    let end = key_of(range.end);
    loop {
        let mut scan = Scan::unanchored(Arc::clone(lsm), next, Some(end.clone()), Direction::Forward);
        let Some((key, _)) = scan.next_row()? else { return Ok(found) };
        let tree = split_full_key(key)
            .and_then(|(_, rest)| rest.first_chunk::<8>())
            .map(|tree| TreeId(u64::from_be_bytes(*tree)))
            .ok_or_else(|| Error::corruption(Path::new(""), 0, "an entry of the tree of numbers without a tree"))?;
        found.push(tree);
        next = key_of(TreeId(tree.0 + 1));
    }
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
