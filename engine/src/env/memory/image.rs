//! The bytes of a simulated file: pages that versions of the file share until one of them is written.
//!
//! Invariants:
//! 1. A missing page reads as zeros and takes no space.
//! 2. Bytes of a page at or behind the file's length are zero, and no page lies wholly behind it.

use std::sync::Arc;

/// Bytes of a page: the unit of sharing and of space.
pub(super) const PAGE: usize = 4096;
/// Bytes of a sector: the unit that a power failure writes or does not.
pub(super) const SECTOR: usize = 512;
/// Sectors of a page.
pub(super) const SECTORS: usize = PAGE / SECTOR;

/// One page.
pub(super) type Page = [u8; PAGE];

/// One version of a file's bytes.
#[derive(Clone, Default)]
pub(super) struct Image {
    len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

/// The pages that `len` bytes at `offset` touch, as (page, first byte in it, count of bytes).
pub(super) fn spans(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut at = to_index(offset);
    let end = at + len;
    std::iter::from_fn(move || {
        let start = at % PAGE;
        let count = (PAGE - start).min(end - at);
        let span = (at / PAGE, start, count);
        at += count;
        (count > 0).then_some(span)
    })
}

/// A position as an index: simulated files fit into memory.
pub(super) fn to_index(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files fit into memory")
}

impl Image {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Space taken, in bytes.
    pub(super) fn space(&self) -> u64 {
        (self.pages.iter().flatten().count() * PAGE) as u64
    }

    /// Reads up to the end of the file.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = buf.len().min(to_index(self.len.saturating_sub(offset)));
        let mut rest = &mut buf[..count];
        for (page, start, count) in spans(offset, count) {
            let (part, more) = rest.split_at_mut(count);
            match self.page(page) {
                Some(page) => part.copy_from_slice(&page[start..start + count]),
                None => part.fill(0),
            }
            rest = more;
        }
        count
    }

    /// Writes, extending the file when needed.
    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        let mut rest = buf;
        for (page, start, count) in spans(offset, buf.len()) {
            let (part, more) = rest.split_at(count);
            self.page_mut(page)[start..start + count].copy_from_slice(part);
            rest = more;
        }
        if !buf.is_empty() {
            self.len = self.len.max(offset + buf.len() as u64);
        }
    }

    /// Space that writing `len` bytes at `offset` would newly take.
    pub(super) fn space_to_write(&self, offset: u64, len: usize) -> u64 {
        (spans(offset, len).filter(|&(page, ..)| self.page(page).is_none()).count() * PAGE) as u64
    }

    /// Cuts or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        self.len = len;
        self.trim();
    }

    /// Restores invariant 2.
    fn trim(&mut self) {
        self.pages.truncate(to_index(self.len).div_ceil(PAGE));
        let tail = to_index(self.len) % PAGE;
        let last = to_index(self.len) / PAGE;
        if tail > 0 && self.page(last).is_some_and(|page| page[tail..].iter().any(|&byte| byte != 0)) {
            self.page_mut(last)[tail..].fill(0);
        }
    }

    /// Puts page `page` back to how it is in `other`, within this file's length.
    pub(super) fn revert_page(&mut self, page: usize, other: &Self) {
        if let Some(place) = self.pages.get_mut(page) {
            *place = other.page(page).cloned();
            self.trim();
        }
    }

    /// Gives every page of the first `len` bytes its space, and extends the file to them.
    pub(super) fn allocate(&mut self, len: u64) {
        let zeros = Arc::new([0; PAGE]);
        let count = to_index(len).div_ceil(PAGE);
        if self.pages.len() < count {
            self.pages.resize(count, None);
        }
        for page in self.pages[..count].iter_mut().filter(|page| page.is_none()) {
            *page = Some(Arc::clone(&zeros));
        }
        self.len = self.len.max(len);
    }

    /// A page, when it has space.
    pub(super) fn page(&self, page: usize) -> Option<&Arc<Page>> {
        self.pages.get(page)?.as_ref()
    }

    fn page_mut(&mut self, page: usize) -> &mut Page {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE])))
    }

    /// Puts other bytes in place of sector `sector` of page `page`, extending the file to at most `len` for them.
    pub(super) fn put_sector(&mut self, page: usize, sector: usize, from: &Page, len: u64) {
        let bytes = sector * SECTOR..(sector + 1) * SECTOR;
        let end = (page * PAGE + bytes.end) as u64;
        self.page_mut(page)[bytes.clone()].copy_from_slice(&from[bytes]);
        self.len = self.len.max(end.min(len));
    }

    /// As [`put_sector`](Self::put_sector) for all the sectors of `mask`; shares the page when that is all of them.
    pub(super) fn put_sectors(&mut self, page: usize, mask: u8, from: &Arc<Page>, len: u64) {
        if mask == u8::MAX {
            if self.pages.len() <= page {
                self.pages.resize(page + 1, None);
            }
            self.pages[page] = Some(Arc::clone(from));
            self.len = self.len.max((((page + 1) * PAGE) as u64).min(len));
            return;
        }
        for sector in (0..SECTORS).filter(|sector| mask & (1 << sector) != 0) {
            self.put_sector(page, sector, from, len);
        }
    }

    /// Inverts one bit, when the file has it.
    pub(super) fn flip_bit(&mut self, bit: u64) {
        if bit / 8 < self.len {
            let at = to_index(bit / 8);
            self.page_mut(at / PAGE)[at % PAGE] ^= 1 << (bit % 8);
        }
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; to_index(self.len)];
        self.read(&mut bytes, 0);
        bytes
    }
}
