//! Writing versions: building batches, and getting them into memtable and log.

use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{Kind, full_key, prefix_successor};
use ssd_engine::format::batch::{Op, push_op};
use ssd_engine::format::row_version::{RowKind, RowVersion, Stamp};
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::control::MemtableList;
use ssd_engine::lsm::hosted::Place;
use ssd_engine::{Error, Result};

use super::tid::{KEY_LEN, Root};
use crate::wal;
use crate::wal::note::Note;

/// Operations that are written together.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u64,
    value: Vec<u8>,
    /// What is logged with it for logical decoding; empty when nothing is.
    note: Vec<u8>,
}

/// What the payload of a version that moved its row says, besides where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where the row lives on; `None` when that is another table, or not known any more.
    pub to: Option<Root>,
    /// A column that foreign keys may refer to has changed.
    pub key_changed: bool,
    /// The row went to another partition.
    pub other_partition: bool,
}

/// Bits of the first byte of a move.
const KEY_CHANGED: u8 = 1;
const OTHER_PARTITION: u8 = 2;
/// A combined command comes before the place.
const HAS_COMBINED: u8 = 4;

impl Moved {
    /// The end of a row that is written as a move to nowhere.
    pub const NOWHERE: Self = Self { to: None, key_changed: true, other_partition: false };

    fn encode(self, combined: Option<u32>) -> Vec<u8> {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let mut out = vec![
            flag(self.key_changed, KEY_CHANGED)
                | flag(self.other_partition, OTHER_PARTITION)
                | flag(combined.is_some(), HAS_COMBINED),
        ];
        if let Some(command) = combined {
            out.extend_from_slice(&command.to_le_bytes());
        }
        if let Some(root) = self.to {
            out.extend_from_slice(&root.key());
        }
        out
    }

    /// Reads the payload of a moved version.
    ///
    /// # Errors
    /// Corruption-like, for bytes that [`Batch::moved`] does not write.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        Ok(Self::decode_combined(payload)?.0)
    }

    /// Reads the payload of a moved version, and its combined command.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_combined(payload: &[u8]) -> Result<(Self, Option<u32>)> {
        let bad = || Error::corruption(std::path::Path::new(""), 0, "a moved row does not say where to");
        let (&flags, mut key) = payload.split_first().ok_or_else(bad)?;
        let mut combined = None;
        if flags & HAS_COMBINED != 0 {
            let (command, rest) = key.split_first_chunk::<4>().ok_or_else(bad)?;
            (combined, key) = (Some(u32::from_le_bytes(*command)), rest);
        }
        let to = match key.len() {
            0 => None,
            KEY_LEN => Some(Root::from_key(key).ok_or_else(bad)?),
            _ => return Err(bad()),
        };
        let moved = Self { to, key_changed: flags & KEY_CHANGED != 0, other_partition: flags & OTHER_PARTITION != 0 };
        Ok((moved, combined))
    }
}

impl Batch {
    /// The count of operations.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.note.clear();
        self.count = 0;
    }

    /// Says what the batch means for logical decoding.
    pub fn note(&mut self, note: &Note<'_>) {
        note.encode(&mut self.note);
    }

    /// Adds any operation.
    pub fn op(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        push_op(&mut self.bytes, Op { kind, key, value });
        self.count += 1;
    }

    /// Adds a version.
    pub fn version(&mut self, full: &[u8], version: &RowVersion<'_>) {
        self.value.clear();
        version.encode(&mut self.value);
        push_op(&mut self.bytes, Op { kind: Kind::Put, key: full, value: &self.value });
        self.count += 1;
    }

    /// Adds version `number` of a row.
    pub fn put(&mut self, full: &[u8], number: u16, stamp: Stamp, payload: &[u8]) {
        self.version(full, &RowVersion { kind: RowKind::Put, number, stamp: Some(stamp), payload });
    }

    /// Adds the end of a row.
    pub fn tombstone(&mut self, full: &[u8], stamp: Stamp) {
        self.version(full, &RowVersion { kind: RowKind::Tombstone, number: 0, stamp: Some(stamp), payload: &[] });
    }

    /// Adds the move of a row.
    pub fn moved(&mut self, full: &[u8], stamp: Stamp, moved: Moved) {
        self.moved_combined(full, stamp, moved, None);
    }

    /// Adds the move of a row, with the command that its old version shows (see [`commands`](super::commands)).
    pub fn moved_combined(&mut self, full: &[u8], stamp: Stamp, moved: Moved, combined: Option<u32>) {
        let payload = moved.encode(combined);
        self.version(full, &RowVersion { kind: RowKind::Moved, number: 0, stamp: Some(stamp), payload: &payload });
    }

    /// Adds the end of everything in `tree`.
    pub fn delete_tree(&mut self, tree: TreeId) {
        let from = full_key(tree, &[]);
        let to = prefix_successor(&from).expect("a tree prefix starts with a byte below 9");
        self.op(Kind::RangeDelete, &from, &to);
    }

    /// Writes it, waiting for room; not under a latch. With `logged` it is in the server's log, too.
    ///
    /// # Errors
    /// A full disk, closed.
    pub fn write(&self, lsm: &Lsm, logged: bool) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let placed = lsm.place(&self.bytes, self.count)?;
        if logged {
            wal::log_and_insert(placed, &self.note);
        } else {
            placed.insert();
        }
        Ok(())
    }

    /// As [`write`](Self::write), logged, and also when writes are refused for want of space: for what makes space.
    ///
    /// # Errors
    /// A disk so full that memory cannot be flushed; closed.
    pub fn write_to_free(&self, lsm: &Lsm) -> Result<()> {
        while let Err(full) = self.try_write(lsm, true)? {
            lsm.rotate(full)?;
        }
        Ok(())
    }

    /// Writes it if there is room at once: for callers that hold a latch. Otherwise says which memtable is full: to be rotated
    /// without the latch.
    ///
    /// # Errors
    /// Closed.
    pub fn try_write(&self, lsm: &Lsm, logged: bool) -> Result<std::result::Result<(), MemtableList>> {
        Ok(match lsm.try_place(&self.bytes, self.count)? {
            Place::Full(list) => Err(list),
            Place::Placed(placed) => {
                if logged {
                    wal::log_and_insert(placed, &self.note);
                } else {
                    placed.insert();
                }
                Ok(())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_read_as_they_were_written() {
        let root = Root { block: 7, slot: 127 };
        for to in [None, Some(root)] {
            for combined in [None, Some(0), Some(u32::MAX)] {
                for (key_changed, other_partition) in [(false, false), (true, false), (true, true)] {
                    let moved = Moved { to, key_changed, other_partition };
                    let bytes = moved.encode(combined);
                    assert_eq!(Moved::decode_combined(&bytes).unwrap(), (moved, combined));
                    assert_eq!(Moved::decode(&bytes).unwrap(), moved);
                    let cut = &bytes[..bytes.len() - 1];
                    assert!(Moved::decode(cut).is_err() || to.is_none(), "{bytes:?}");
                }
            }
        }
    }
}
