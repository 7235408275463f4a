//! Where a version of a row is said to be: block and offset of a ctid, row key and version number of the engine.
//!
//! A row's *root* is (block, slot) with slots 1 to 127: the only form in indexes. Version n of the row has offset
//! n × 128 + slot; version 0 is the root itself.
//!
//! 1. Offsets above 0xFF7F are never made: the server gives meanings of its own to some of them.
//! 2. Any ctid that a user makes up decodes to a place or to none; there is just no row there.

use std::ops::Deref;

use pgrx::pg_sys::{self, ItemPointerData};
use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{TREE_PREFIX_LEN_MAX, tree_prefix};

/// Rows of a block.
pub const SLOTS: u64 = 127;
/// The largest version number.
pub const NUMBER_MAX: u16 = 510;
/// Bytes of a row's key in its tree.
pub const KEY_LEN: usize = 5;
/// The last block that a ctid can name.
pub const BLOCK_MAX: u64 = 0xFFFF_FFFE;

/// A row's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root {
    /// The block.
    pub block: u32,
    /// The slot, 1 to 127.
    pub slot: u8,
}

/// A version's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tid {
    /// The row's.
    pub root: Root,
    /// The version's number.
    pub number: u16,
}

impl Root {
    /// The row's key in its tree.
    #[must_use]
    pub const fn key(self) -> [u8; KEY_LEN] {
        let [a, b, c, d] = self.block.to_be_bytes();
        [a, b, c, d, self.slot]
    }

    /// The place whose key this is; `None` for other bytes.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (block, rest) = key.split_first_chunk::<4>()?;
        let &[slot @ 1..=127] = rest else { return None };
        Some(Self { block: u32::from_be_bytes(*block), slot })
    }

    /// The key in the engine.
    #[must_use]
    pub fn full_key(self, tree: TreeId) -> FullKey {
        let (prefix, start) = tree_prefix(tree);
        let mut bytes = [0; _];
        bytes[..TREE_PREFIX_LEN_MAX].copy_from_slice(&prefix);
        bytes[start..start + KEY_LEN].copy_from_slice(&self.key());
        FullKey { bytes, len: start + KEY_LEN }
    }
}

/// The bytes of a row's key in the engine. They are made several times for each change, so they are not allocated.
#[derive(Clone, Copy)]
pub struct FullKey {
    bytes: [u8; TREE_PREFIX_LEN_MAX + KEY_LEN],
    len: usize,
}

impl Deref for FullKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Tid {
    /// Version 0 of the row.
    #[must_use]
    pub const fn of_root(root: Root) -> Self {
        Self { root, number: 0 }
    }

    /// The place that `pointer` names, if it can be one.
    #[must_use]
    pub fn decode(pointer: &ItemPointerData) -> Option<Self> {
        let block = (u32::from(pointer.ip_blkid.bi_hi) << 16) | u32::from(pointer.ip_blkid.bi_lo);
        let slot = (pointer.ip_posid & 0x7F) as u8;
        let number = pointer.ip_posid >> 7;
        if slot == 0 || number > NUMBER_MAX || block == u32::MAX {
            return None;
        }
        Some(Self { root: Root { block, slot }, number })
    }

    /// The server's form.
    #[must_use]
    pub fn encode(self) -> ItemPointerData {
        debug_assert!(self.number <= NUMBER_MAX, "a version number beyond the last");
        let block = self.root.block;
        ItemPointerData {
            ip_blkid: pg_sys::BlockIdData { bi_hi: (block >> 16) as u16, bi_lo: block as u16 },
            ip_posid: (self.number << 7) | u16::from(self.root.slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_ctids_agree() {
        for (block, slot) in [(0, 1), (0, 127), (1, 1), (1_000_000, 64), (BLOCK_MAX as u32, SLOTS as u8)] {
            let root = Root { block, slot };
            assert_eq!(Root::from_key(&root.key()), Some(root));
            for version in [0, 1, 255, NUMBER_MAX] {
                let tid = Tid { root, number: version };
                let pointer = tid.encode();
                assert_eq!(Tid::decode(&pointer), Some(tid));
                assert!(pointer.ip_posid <= 0xFF7F);
            }
        }
        assert!(Root { block: 0, slot: 127 }.key() < Root { block: 1, slot: 1 }.key());
        assert_eq!(Root::from_key(&[0, 0, 0, 0, 0]), None);
        assert_eq!(Root::from_key(&[0, 0, 0, 0]), None);
    }

    #[test]
    fn ctids_that_users_make_up_are_no_places() {
        for posid in [0, 128, 0xFF80, 0xFFFF, 0xFFFD] {
            let pointer = ItemPointerData { ip_blkid: pg_sys::BlockIdData { bi_hi: 0, bi_lo: 1 }, ip_posid: posid };
            assert_eq!(Tid::decode(&pointer), None, "{posid}");
        }
    }
}
