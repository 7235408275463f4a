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

impl Moved {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![u8::from(self.key_changed) | u8::from(self.other_partition) << 1];
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
        let bad = || Error::corruption(std::path::Path::new(""), 0, "a moved row does not say where to");
        let (&flags, key) = payload.split_first().ok_or_else(bad)?;
        let to = match key.len() {
            0 => None,
            KEY_LEN => Some(Root::from_key(key).ok_or_else(bad)?),
            _ => return Err(bad()),
        };
        Ok(Self { to, key_changed: flags & 1 != 0, other_partition: flags & 2 != 0 })
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
        let payload = moved.encode();
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
