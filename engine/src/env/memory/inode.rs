//! A simulated file: what reads see, what is stable, and the unsynced changes between the two, in order.
//!
//! Map words hold the file's bytes in the machine's own order, as a mapping does.
//!
//! Invariants:
//! 1. `stable` plus all of `pending`, in order, is `current`, except for bytes that a lost sync took (those are in `current`
//!    alone and nothing ever makes them stable).
//! 2. While a map is alive its words are the newest bytes of their range; `absorb` brings `current` up to date with them,
//!    and every method that looks at `current` calls it first.
//! 3. A pending page change holds whole sectors as they were after the change, as a page cache does: a later version of a
//!    sector contains the earlier changes to it.

#![expect(clippy::host_endian_bytes, reason = "a mapping shows bytes in the machine's own order")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::image::{Image, PAGE, Page, SECTOR, SECTORS, spans, to_index};
use crate::env::SharedMap;
use crate::env::map::HeapWords;
use crate::env::random::Random;

/// One unsynced change.
enum Change {
    /// New contents for the sectors of `mask` in a page; the file was `len` bytes long after it.
    Sectors { page: usize, mask: u8, bytes: Arc<Page>, len: u64 },
    /// The file became this long.
    Extend(u64),
    /// The file was cut to this length.
    Cut(u64),
    /// Space was reserved for this many bytes.
    Allocate(u64),
}

/// A simulated file.
#[derive(Default)]
pub(super) struct Inode {
    current: Image,
    stable: Image,
    pending: Vec<Change>,
    map: Option<HeapWords>,
    /// Open handles and names; without any the space is free.
    pub(super) handles: usize,
    pub(super) names: usize,
}

/// The sectors of a page that `count` bytes from `start` touch, one bit each.
fn mask_of(start: usize, count: usize) -> u8 {
    (start / SECTOR..(start + count).div_ceil(SECTOR)).fold(0, |mask, sector| mask | 1 << sector)
}

impl Inode {
    /// Brings `current` up to date with what was stored through maps.
    fn absorb(&mut self) {
        let Some(map) = self.map.clone() else { return };
        for (page, words) in map.words().chunks(PAGE / 8).enumerate() {
            let mut bytes = [0; PAGE];
            for (word, place) in words.iter().zip(bytes.chunks_exact_mut(8)) {
                place.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
            }
            let zeros = [0; PAGE];
            let old = self.current.page(page).map_or(&zeros, |page| page);
            let differs = |sector: &usize| {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                old[range.clone()] != bytes[range]
            };
            let mask = (0..SECTORS).filter(differs).fold(0, |mask, sector| mask | 1 << sector);
            if mask != 0 {
                self.current.write(&bytes[..words.len() * 8], (page * PAGE) as u64);
                self.note_page(page, mask);
            }
        }
    }

    /// Notes that sectors of a page have changed.
    fn note_page(&mut self, page: usize, mask: u8) {
        let bytes = Arc::clone(self.current.page(page).expect("the page was just written"));
        self.pending.push(Change::Sectors { page, mask, bytes, len: self.current.len() });
    }

    pub(super) fn len(&self) -> u64 {
        self.current.len()
    }

    /// Space taken, in bytes.
    pub(super) fn space(&self) -> u64 {
        self.current.space()
    }

    /// Space that a write would newly take.
    pub(super) fn space_to_write(&self, offset: u64, len: usize) -> u64 {
        self.current.space_to_write(offset, len)
    }

    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64) -> usize {
        self.absorb();
        self.current.read(buf, offset)
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        self.absorb();
        let old_len = self.current.len();
        self.current.write(buf, offset);
        for (page, start, count) in spans(offset, buf.len()) {
            self.note_page(page, mask_of(start, count));
        }
        if self.current.len() > old_len {
            self.pending.push(Change::Extend(self.current.len()));
        }
        self.show_in_map(offset, buf.len());
    }

    /// Stores a changed range of `current` into the words of a live map.
    fn show_in_map(&self, offset: u64, len: usize) {
        let Some(map) = &self.map else { return };
        let first = to_index(offset) / 8;
        let last = (to_index(offset) + len).div_ceil(8).min(map.words().len());
        for (at, word) in map.words().iter().enumerate().take(last).skip(first) {
            let mut bytes = [0; 8];
            self.current.read(&mut bytes, (at * 8) as u64);
            word.store(u64::from_ne_bytes(bytes), Ordering::Release);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.absorb();
        let old_len = self.current.len();
        self.current.set_len(len);
        self.pending.push(if len < old_len { Change::Cut(len) } else { Change::Extend(len) });
        let (from, to) = (len.min(old_len), len.max(old_len));
        self.show_in_map(from, to_index(to - from));
    }

    pub(super) fn allocate(&mut self, len: u64) {
        self.current.allocate(len);
        self.pending.push(Change::Allocate(len));
    }

    /// Makes everything stable.
    pub(super) fn sync(&mut self) {
        self.absorb();
        for change in self.pending.drain(..) {
            apply(&mut self.stable, &change);
        }
    }

    /// Makes a range stable, with the lengths and reservations that it takes to read it back.
    pub(super) fn sync_range(&mut self, offset: u64, len: usize) {
        self.absorb();
        if self.pending.iter().any(|change| matches!(change, Change::Cut(_))) {
            return self.sync();
        }
        let touched: Vec<(usize, u8)> =
            spans(offset, len).map(|(page, start, count)| (page, mask_of(start, count))).collect();
        let (Some(&(first, _)), Some(&(last, _))) = (touched.first(), touched.last()) else { return };
        let stable = &mut self.stable;
        self.pending.retain_mut(|change| match change {
            Change::Sectors { page, mask, bytes, len } if (first..=last).contains(page) => {
                let wanted = *mask & touched[*page - first].1;
                if wanted != 0 {
                    stable.put_sectors(*page, wanted, bytes, *len);
                    *mask &= !wanted;
                }
                *mask != 0
            }
            Change::Sectors { .. } => true,
            change => {
                apply(stable, change);
                false
            }
        });
    }

    /// A failed sync: nothing unsynced will ever be stable. The page cache may have dropped it, or still show it.
    pub(super) fn lose_unsynced(&mut self, random: &mut Random) {
        self.absorb();
        for change in std::mem::take(&mut self.pending) {
            if let Change::Sectors { page, .. } = change
                && random.percent(50)
            {
                self.current.revert_page(page, &self.stable);
            }
        }
        self.show_in_map(0, to_index(self.current.len()));
    }

    /// A power failure: each unsynced change happened or not, with `percent` in a hundred; large ones sector by sector.
    pub(super) fn lose_power(&mut self, random: &mut Random, percent: u64) {
        self.absorb();
        for change in self.pending.drain(..) {
            match change {
                Change::Sectors { page, mask, ref bytes, len } => {
                    let kept = (0..SECTORS)
                        .filter(|sector| mask & (1 << sector) != 0 && random.percent(percent))
                        .fold(0, |kept, sector| kept | 1 << sector);
                    self.stable.put_sectors(page, kept, bytes, len);
                }
                change if random.percent(percent) => apply(&mut self.stable, &change),
                _ => {}
            }
        }
        self.current = self.stable.clone();
        self.forget_users();
    }

    /// The death of all processes: the page cache lives on.
    pub(super) fn lose_processes(&mut self) {
        self.absorb();
        self.forget_users();
    }

    fn forget_users(&mut self) {
        self.map = None;
        self.handles = 0;
    }

    /// A map of the first `len` bytes, which the file must have. `None` when a shorter map is alive.
    pub(super) fn map(&mut self, len: usize) -> Option<SharedMap> {
        self.absorb();
        let count = len / 8;
        if self.map.as_ref().is_none_or(|map| map.words().len() < count) {
            if self.map.as_ref().is_some_and(HeapWords::is_mapped) {
                return None;
            }
            self.map = Some(HeapWords::new(count));
            self.show_in_map(0, len);
        }
        self.map.as_ref().map(|map| map.map(count))
    }

    /// Inverts a bit, also of what is stable.
    pub(super) fn flip_bit(&mut self, bit: u64) {
        self.absorb();
        self.current.flip_bit(bit);
        self.stable.flip_bit(bit);
        self.show_in_map(bit / 8, 1);
    }

    /// Makes everything stable and cuts the file to at most `len` bytes, stable too.
    pub(super) fn cut(&mut self, len: u64) {
        self.sync();
        self.current.set_len(len.min(self.current.len()));
        self.stable.set_len(len.min(self.stable.len()));
    }

    /// Replaces all bytes, stable at once.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        self.set_len(0);
        self.write(bytes, 0);
        self.sync();
        self.stable = self.current.clone();
    }

    /// All bytes, as reads see them.
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        self.absorb();
        self.current.bytes()
    }
}

/// Does a change to the stable image.
fn apply(stable: &mut Image, change: &Change) {
    match *change {
        Change::Sectors { page, mask, ref bytes, len } => stable.put_sectors(page, mask, bytes, len),
        Change::Extend(len) => stable.set_len(len.max(stable.len())),
        Change::Cut(len) => stable.set_len(len.min(stable.len())),
        Change::Allocate(len) => stable.allocate(len),
    }
}
