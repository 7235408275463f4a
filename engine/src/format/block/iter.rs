//! Point lookup, seek and walk within the payload of one data block.
//!
//! Seeking compares entries without rebuilding their keys: while it walks, it knows how many bytes `m` of the wanted key
//! the last entry (which is smaller) begins with. An entry that shares more than `m` with it is smaller too; any other
//! entry shares its prefix with the wanted key, so only its own bytes need a look. That also rebuilds the key of the entry
//! found: a prefix of the wanted key and the entry's own bytes.

use std::cmp::Ordering;
use std::ops::Deref;

use crate::base::key::{Trailer, common_prefix_len};
use crate::format::Decoded;

use super::entry::{Entry, decode};
use super::{BUCKET_COLLISION, BUCKET_EMPTY, COUNTS_LEN, RESTART_LEN, bucket_of};

const DAMAGED: &str = "block entry reaches beyond the block or shares more than there is";

/// Where the parts of a payload are.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    /// Keys end, and values begin, here.
    keys_end: usize,
    /// Values end, and restarts begin, here.
    values_end: usize,
    restarts: usize,
    buckets: usize,
    count: u32,
}

/// Offsets of an entry's two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    key: usize,
    value: usize,
}

/// An entry that a search ended at.
struct Found {
    place: Place,
    entry: Entry,
    /// The entry's key is the wanted one.
    equal: bool,
}

impl Layout {
    #[inline]
    fn parse(payload: &[u8]) -> Decoded<Self> {
        const TOO_LONG: &str = "block counts exceed the block";
        let (rest, counts) = payload.split_last_chunk::<COUNTS_LEN>().ok_or("block is shorter than its counts")?;
        let &[k0, k1, k2, k3, r0, r1, b0, b1, c0, c1, c2, c3] = counts;
        let keys_end = u32::from_le_bytes([k0, k1, k2, k3]) as usize;
        let restarts = usize::from(u16::from_le_bytes([r0, r1]));
        let buckets = usize::from(u16::from_le_bytes([b0, b1]));
        let values_end = rest.len().checked_sub(RESTART_LEN * restarts + buckets).ok_or(TOO_LONG)?;
        if keys_end > values_end {
            return Err(TOO_LONG);
        }
        if restarts == 0 && values_end != 0 {
            return Err("block has entries but no restart");
        }
        Ok(Self { keys_end, values_end, restarts, buckets, count: u32::from_le_bytes([c0, c1, c2, c3]) })
    }

    /// Where restart `index` points.
    #[inline]
    fn restart(&self, payload: &[u8], index: usize) -> Decoded<Place> {
        let at = self.values_end + RESTART_LEN * index;
        let bytes = payload.get(at..).and_then(|b| b.first_chunk()).ok_or(DAMAGED)?;
        let both = u32::from_le_bytes(*bytes) as usize;
        Ok(Place { key: both & 0xFFFF, value: self.keys_end + (both >> 16) })
    }

    /// Where the keys of the interval of restart `index` end.
    #[inline]
    fn interval_end(&self, payload: &[u8], index: usize) -> Decoded<usize> {
        if index + 1 < self.restarts { Ok(self.restart(payload, index + 1)?.key) } else { Ok(self.keys_end) }
    }

    #[inline]
    fn entry(&self, payload: &[u8], at: usize) -> Decoded<Entry> {
        decode(payload, at, self.keys_end).ok_or(DAMAGED)
    }

    /// Where the value of `entry`, whose halves are at `place`, ends.
    #[inline]
    fn value_end(&self, place: Place, entry: &Entry) -> Decoded<usize> {
        let end = place.value + entry.value_len;
        if end <= self.values_end { Ok(end) } else { Err(DAMAGED) }
    }

    /// The last restart whose entry is before (`key`, `bound`); 0 when there is none.
    fn restart_before(&self, payload: &[u8], key: &[u8], bound: Trailer) -> Decoded<usize> {
        let (mut low, mut high) = (0, self.restarts);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let entry = self.entry(payload, self.restart(payload, middle)?.key)?;
            let own = payload.get(entry.suffix..entry.end).ok_or(DAMAGED)?;
            let before = match own.cmp(key) {
                Ordering::Less => true,
                Ordering::Equal => entry.trailer > bound,
                Ordering::Greater => false,
            };
            *(if before { &mut low } else { &mut high }) = middle;
        }
        Ok(low)
    }

    /// The first entry at or behind (`key`, `bound`) among those from `place` (a restart) whose keys are before `end`.
    #[inline]
    fn search(&self, payload: &[u8], start: Place, end: usize, key: &[u8], bound: Trailer) -> Decoded<Option<Found>> {
        let (mut place, mut matched) = (start, 0);
        while place.key < end {
            let entry = self.entry(payload, place.key)?;
            if entry.shared <= matched {
                let own = payload.get(entry.suffix..entry.end).ok_or(DAMAGED)?;
                let wanted = &key[entry.shared..];
                // Mostly the first byte decides, and then there is nothing to count.
                let common = if own.first() == wanted.first() { common_prefix_len(own, wanted) } else { 0 };
                matched = entry.shared + common;
                let order = own.get(common).cmp(&wanted.get(common));
                if order == Ordering::Greater || (order == Ordering::Equal && entry.trailer <= bound) {
                    return Ok(Some(Found { place, entry, equal: order == Ordering::Equal }));
                }
            }
            place = Place { key: entry.end, value: place.value + entry.value_len };
        }
        Ok(None)
    }
}

/// The newest version of `key` that is not above `bound`, and its value. `hash` is the key's hash.
///
/// # Errors
/// The reason when the payload is not one.
#[inline]
pub fn block_get<'a>(payload: &'a [u8], key: &[u8], hash: u64, bound: Trailer) -> Decoded<Option<(Trailer, &'a [u8])>> {
    let layout = Layout::parse(payload)?;
    if layout.restarts == 0 {
        return Ok(None);
    }
    let interval = match layout.buckets {
        0 => BUCKET_COLLISION,
        buckets => {
            let at = layout.values_end + RESTART_LEN * layout.restarts + bucket_of(hash, buckets);
            *payload.get(at).ok_or(DAMAGED)?
        }
    };
    let (start, end) = match interval {
        BUCKET_EMPTY => return Ok(None),
        BUCKET_COLLISION => {
            let interval = layout.restart_before(payload, key, bound)?;
            (layout.restart(payload, interval)?, layout.keys_end)
        }
        interval if usize::from(interval) < layout.restarts => {
            let interval = usize::from(interval);
            (layout.restart(payload, interval)?, layout.interval_end(payload, interval)?)
        }
        _ => return Err("block bucket names no restart"),
    };
    match layout.search(payload, start, end, key, bound)? {
        Some(Found { place, entry, equal: true }) => {
            let value = payload.get(place.value..layout.value_end(place, &entry)?).ok_or(DAMAGED)?;
            Ok(Some((entry.trailer, value)))
        }
        _ => Ok(None),
    }
}

/// Walks the entries of a payload: `BlockIter<&[u8]>` over borrowed bytes, `BlockIter<Vec<u8>>` over its own.
///
/// A move returns whether the iterator is at an entry afterwards; after an error it is at none.
#[derive(Clone, Debug)]
pub struct BlockIter<B> {
    payload: B,
    layout: Layout,
    key: Vec<u8>,
    trailer: Trailer,
    at: Place,
    next: Place,
    valid: bool,
}

impl<B: Deref<Target = [u8]> + Default> Default for BlockIter<B> {
    /// An iterator over nothing; [`reload`](BlockIter::reload) gives it a payload.
    fn default() -> Self {
        Self::over(B::default(), Layout::default())
    }
}

impl<B: Deref<Target = [u8]>> BlockIter<B> {
    const fn over(payload: B, layout: Layout) -> Self {
        const START: Place = Place { key: 0, value: 0 };
        Self { payload, layout, key: Vec::new(), trailer: Trailer(0), at: START, next: START, valid: false }
    }

    /// An iterator at no entry.
    ///
    /// # Errors
    /// The reason when the payload's counts do not fit it.
    pub fn new(payload: B) -> Decoded<Self> {
        let layout = Layout::parse(&payload)?;
        Ok(Self::over(payload, layout))
    }

    /// Changes the payload with `change` (which may reuse its memory); the iterator is then at no entry.
    ///
    /// # Errors
    /// What `change` returned; inside, the reason when the new payload's counts do not fit it. The iterator is then empty.
    pub fn reload<E>(&mut self, change: impl FnOnce(&mut B) -> Result<(), E>) -> Result<Decoded<()>, E> {
        self.valid = false;
        self.layout = Layout::default();
        change(&mut self.payload)?;
        Ok(Layout::parse(&self.payload).map(|layout| self.layout = layout))
    }

    /// The same position over `change` of the payload, which must be the same bytes elsewhere, or be replaced by them
    /// before the iterator moves or its value is looked at.
    #[must_use]
    pub fn moved<C: Deref<Target = [u8]>>(self, change: impl FnOnce(B) -> C) -> BlockIter<C> {
        let Self { payload, layout, key, trailer, at, next, valid } = self;
        BlockIter { payload: change(payload), layout, key, trailer, at, next, valid }
    }

    /// Puts `payload`, the same bytes as before, in the place of the payload.
    pub fn replace_payload(&mut self, payload: B) {
        self.payload = payload;
    }

    /// To no entry.
    pub const fn invalidate(&mut self) {
        self.valid = false;
    }

    /// Whether the iterator is at an entry.
    #[inline]
    #[must_use]
    pub const fn valid(&self) -> bool {
        self.valid
    }

    /// The entry's full key. Meaningless unless [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The entry's trailer. Meaningless unless [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub const fn trailer(&self) -> Trailer {
        self.trailer
    }

    /// The entry's value. Empty unless [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        if self.valid { self.payload.get(self.at.value..self.next.value).unwrap_or_default() } else { &[] }
    }

    /// Entries that the block says it has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.layout.count
    }

    /// The payload.
    #[must_use]
    pub const fn payload(&self) -> &B {
        &self.payload
    }

    /// Takes the entry at `place`, whose key begins with the first bytes of `self.key`.
    #[inline]
    fn load(&mut self, place: Place) -> Decoded<bool> {
        self.valid = false;
        if place.key >= self.layout.keys_end {
            return Ok(false);
        }
        let entry = self.layout.entry(&self.payload, place.key)?;
        if entry.shared > self.key.len() {
            return Err(DAMAGED);
        }
        self.key.truncate(entry.shared);
        self.take(place, &entry)
    }

    #[inline]
    fn take(&mut self, place: Place, entry: &Entry) -> Decoded<bool> {
        self.key.extend_from_slice(self.payload.get(entry.suffix..entry.end).ok_or(DAMAGED)?);
        self.trailer = entry.trailer;
        self.next = Place { key: entry.end, value: self.layout.value_end(place, entry)? };
        (self.at, self.valid) = (place, true);
        Ok(true)
    }

    /// To the first entry.
    ///
    /// # Errors
    /// The reason when the block is damaged; so for every move.
    pub fn first(&mut self) -> Decoded<bool> {
        self.key.clear();
        self.load(Place { key: 0, value: self.layout.keys_end })
    }

    /// To the last entry.
    pub fn last(&mut self) -> Decoded<bool> {
        self.last_before(self.layout.keys_end)
    }

    /// To the next entry. Nowhere when the iterator is at none.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a move, like `prev`; entries are lent, not yielded")]
    pub fn next(&mut self) -> Decoded<bool> {
        if !self.valid {
            return Ok(false);
        }
        self.load(self.next)
    }

    /// To the entry before. Nowhere when the iterator is at none.
    pub fn prev(&mut self) -> Decoded<bool> {
        if !self.valid {
            return Ok(false);
        }
        self.last_before(self.at.key)
    }

    /// To the entry whose key half ends at `end`: walks there from the closest restart.
    fn last_before(&mut self, end: usize) -> Decoded<bool> {
        self.valid = false;
        if end == 0 {
            return Ok(false);
        }
        let (mut low, mut high) = (0, self.layout.restarts);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let before = self.layout.restart(&self.payload, middle)?.key < end;
            *(if before { &mut low } else { &mut high }) = middle;
        }
        self.key.clear();
        let start = self.layout.restart(&self.payload, low)?;
        let mut valid = self.load(start)?;
        while valid && self.next.key < end {
            valid = self.load(self.next)?;
        }
        if valid && self.next.key != end {
            self.valid = false;
            return Err("block restart points into an entry");
        }
        Ok(valid)
    }

    /// To the first entry at or behind (`key`, `bound`): of `key` itself, the newest version that is not above `bound`.
    pub fn seek(&mut self, key: &[u8], bound: Trailer) -> Decoded<bool> {
        self.valid = false;
        if self.layout.restarts == 0 {
            return Ok(false);
        }
        let interval = self.layout.restart_before(&self.payload, key, bound)?;
        let start = self.layout.restart(&self.payload, interval)?;
        let Some(found) = self.layout.search(&self.payload, start, self.layout.keys_end, key, bound)? else {
            return Ok(false);
        };
        self.key.clear();
        self.key.extend_from_slice(&key[..found.entry.shared]);
        self.take(found.place, &found.entry)
    }

    /// To the last entry at or before (`key`, `bound`) in the order of entries. With bound `Trailer(0)` that is behind all
    /// versions of `key`.
    pub fn seek_for_prev(&mut self, key: &[u8], bound: Trailer) -> Decoded<bool> {
        if !self.seek(key, bound)? {
            return self.last();
        }
        if self.trailer() == bound && self.key == key {
            return Ok(true);
        }
        self.prev()
    }
}

/// Checks everything about a payload: order, restarts, buckets and counts. `hash` gives the hash of a key.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_block(payload: &[u8], hash: impl Fn(&[u8]) -> u64) -> Decoded<()> {
    let mut iter = BlockIter::new(payload)?;
    let layout = iter.layout;
    let (mut previous, mut count, mut restart) = (None::<(Vec<u8>, Trailer)>, 0u32, 0);
    let mut valid = iter.first()?;
    while valid {
        count += 1;
        if restart < layout.restarts && layout.restart(payload, restart)? == iter.at {
            if layout.entry(payload, iter.at.key)?.shared != 0 {
                return Err("block restart shares a prefix");
            }
            restart += 1;
        }
        let here = (iter.key(), iter.trailer());
        match &mut previous {
            Some((key, trailer)) => {
                if crate::base::key::compare((key, *trailer), here) != Ordering::Less {
                    return Err("block entries do not rise");
                }
                key.clear();
                key.extend_from_slice(here.0);
                *trailer = here.1;
            }
            None => previous = Some((here.0.to_vec(), here.1)),
        }
        if here.1.kind().is_none() {
            return Err("block entry has an unknown kind");
        }
        if block_get(payload, here.0, hash(here.0), here.1)?.is_none_or(|(trailer, _)| trailer != here.1) {
            return Err("block entry is not found through its bucket");
        }
        valid = iter.next()?;
    }
    let values_end = if count == 0 { layout.keys_end } else { iter.next.value };
    if values_end != layout.values_end {
        return Err("block has bytes between its values and its restarts");
    }
    if count != layout.count || restart != layout.restarts {
        return Err("block counts do not match its entries");
    }
    Ok(())
}
