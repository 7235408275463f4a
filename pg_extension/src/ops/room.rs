//! The room that a table's fillfactor has left in a block: an entry of the tree of numbers, beside the relation's own.

use std::sync::Arc;

use ssd_engine::Result;
use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{Kind, prefix_successor};
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::merge::Direction;
use ssd_engine::lsm::scan::Scan;

use super::numbers::{key_of, value_at};
use super::tid::SLOTS;
use super::write::Batch;

/// Bytes of the shortest row, with its line pointer.
const ROW_MIN: u16 = 24 + 4;

/// What is left of a block that was filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Slots that were handed out.
    pub(super) slots: u8,
    /// Bytes that a heap's page would have free.
    free: u16,
}

impl Room {
    fn key(tree: TreeId, block: u32) -> Vec<u8> {
        let mut key = key_of(tree);
        key.extend_from_slice(&block.to_be_bytes());
        key
    }

    /// What is left once `slots` were handed out.
    pub(super) fn of(slots: u64, free: u64) -> Self {
        Self { slots: slots as u8, free: free as u16 }
    }

    /// Adds it to `batch`; its end when nothing fits any more.
    pub(super) fn write(self, batch: &mut Batch, tree: TreeId, block: u32) {
        let key = Self::key(tree, block);
        if u64::from(self.slots) < SLOTS && self.free > ROW_MIN {
            let [a, b] = self.free.to_le_bytes();
            batch.op(Kind::Put, &key, &[self.slots, a, b]);
        } else {
            batch.op(Kind::Delete, &key, &[]);
        }
    }

    /// The room of `block`, if there is any.
    ///
    /// # Errors
    /// I/O of the engine.
    pub(super) fn read(lsm: &Lsm, tree: TreeId, block: u32) -> Result<Option<Self>> {
        let value = value_at(lsm, &Self::key(tree, block))?;
        Ok(value.and_then(|value| match value[..] {
            [slots, a, b] => Some(Self { slots, free: u16::from_le_bytes([a, b]) }),
            _ => None,
        }))
    }

    /// Adds the end of all rooms of the relation to `batch`.
    ///
    /// # Errors
    /// I/O of the engine.
    pub(super) fn end_all(lsm: &Arc<Lsm>, batch: &mut Batch, tree: TreeId) -> Result<()> {
        let entry = key_of(tree);
        let to = prefix_successor(&entry).expect("a tree prefix starts with a byte below 9");
        let mut from = entry;
        from.push(0);
        let mut scan = Scan::unanchored(Arc::clone(lsm), from.clone(), Some(to.clone()), Direction::Forward);
        // Few relations have any, and a deleted range costs every reader something.
        if scan.next_row()?.is_some() {
            batch.op(Kind::RangeDelete, &from, &to);
        }
        Ok(())
    }

    /// What is left after another row of `bytes`; `None` when it does not fit.
    pub(super) fn after(self, bytes: u64) -> Option<Self> {
        let free = u64::from(self.free).checked_sub(bytes)?;
        (u64::from(self.slots) < SLOTS).then(|| Self::of(u64::from(self.slots) + 1, free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_until_bytes_or_slots_are_used_up() {
        let room = Room::of(1, 100);
        assert_eq!(room.after(60), Some(Room::of(2, 40)));
        assert_eq!(room.after(100), Some(Room::of(2, 0)));
        assert_eq!(room.after(101), None);
        assert_eq!(Room::of(SLOTS, 100).after(10), None);
        assert_eq!(Room::of(SLOTS - 1, 100).after(10), Some(Room::of(SLOTS, 90)));
    }
}
