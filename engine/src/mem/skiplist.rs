//! The memtable's core: an ordered, insert-only map over raw bytes of the region, shared by threads and processes.
//!
//! A skip list whose links carry, beside the successor's offset, a *fingerprint* of the successor's key. Most comparisons
//! of a search are decided by the link alone, so a search touches only the nodes it walks over, not those it stops at.
//!
//! A link is one word: the complement of the fingerprint in the upper half, the offset in the lower. The end of a level is
//! 0, which reads as "largest fingerprint, no node", so zeroed memory is an empty list. How a fingerprint is made of a key, so that a
//! smaller key has a smaller or equal one, is in [`fingerprint`].
//!
//! A node at offset `n` (a multiple of 8), with a tower of `h` links:
//!
//! ```text
//! n - 8(h-1)   links of levels h-1 … 1                 8 bytes each
//! n            link of level 0                         8
//! n +  8       trailer                                 8
//! n + 16       value length, key length, height        4 + 2 + 2
//! n + 24       previous node, a hint                   4
//! n + 28       tail: an older version of the key, or 0 4
//! n + 32       key, then value, padded to 8
//! ```
//!
//! Link, trailer, lengths and the start of the key thus lie in one or two cache lines. The head is a tower at the front of
//! the arena.
//!
//! Invariants:
//! 1. A node is complete before its offset is stored in a link (release); whoever loads the link (acquire) sees all of it.
//!    Afterwards only its links and its hint change.
//! 2. Nodes are linked from level 0 upwards and never unlinked: who is on level `l` is on all levels below, and the links
//!    of a node up to the level on which it was reached are set.
//! 3. Each level is sorted by (key ascending, trailer descending), without duplicates.
//! 4. The hint of a node names the head or a node before it. It need not be the one directly before.
//! 5. The tail of a node is the oldest version of its key that was there when the node was linked in. Older ones may have come since,
//!    next to it. So whoever wants no older versions passes over any number of them in one step.
//! 6. A process that dies at any instruction leaves a valid list: at worst lost bytes, or a node that misses upper links.
//!
//! Any number of threads and processes insert and read at once. What a read returns points into the arena and is valid
//! until [`Skiplist::reset`], which is for when nobody else uses the list: readers hold a pin as long as they use a result.
//!
//! After W. Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees" (1990), with the splice of RocksDB's
//! InlineSkipList. Ours differs in the fingerprints, therefore in p, in the backward hints, and in the tails.

use std::cmp;
use std::sync::atomic::AtomicU64 as ProcessCounter;

use super::arena::{Arena, ArenaParts, UNIT};
use super::key_index::Relation;
use super::region::{Layout, Part, Region};
use super::sync::{AtomicU64, Ordering};
use crate::base::key::{Trailer, compare};
use crate::base::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::shared_struct;

pub mod fingerprint;
mod iter;
mod splice;
#[cfg(test)]
mod tests;

pub use super::arena::Reservation;
use fingerprint::{FingerprintParts, Fingerprints};
pub use iter::Iter;
pub use splice::Splice;

/// Tallest tower: with every second node one level up, enough for 2²⁰ entries; a 64 MiB arena holds half of that at a
/// hundred bytes each, and beyond it the top level only gets longer.
pub const HEIGHT_MAX: usize = 20;

/// A node of one level is on the next with probability p = 2⁻ᵇ.
///
/// Since only the nodes walked over cost a cache miss, and not those stopped at, what counts is their expected number,
/// (1-p)/p · log n / log (1/p): 19 at p = 1/2 and 29 at p = 1/4 for 600 000 entries. The price is 5 bytes of links per entry.
const BRANCHING_BITS: u32 = 1;

/// Versions that are walked over from a key's newest one, after which a search is cheaper.
const FROM_STEPS_MAX: usize = 16;

const TRAILER: u32 = 8;
const LENGTHS: u32 = 16;
const PREVIOUS: u32 = 24;
const TAIL: u32 = 28;
const KEY: u32 = 32;

/// The head's tower fills the front of the arena; its level 0 comes last, as in every node.
const FRONT: usize = HEIGHT_MAX * UNIT;
const HEAD: u32 = (FRONT - UNIT) as u32;

const _: () = assert!(KEY_LEN_MAX + 16 <= u16::MAX as usize && VALUE_LEN_MAX <= u32::MAX as usize);

/// Counters of entries: threads spread over them, so that they do not all write one line.
const COUNTERS: usize = 8;

shared_struct! {
    /// How many entries some of the threads inserted.
    #[repr(align(64))]
    struct EntryCounter {
        entries: AtomicU64,
    }
}

/// Place of a list in the region.
#[derive(Clone, Copy)]
pub struct SkiplistParts {
    fingerprints: FingerprintParts,
    counters: Part<EntryCounter>,
    arena: ArenaParts,
}

/// A process-local handle of a list. Clones are cheap and equal.
#[derive(Clone)]
pub struct Skiplist {
    arena: Arena,
    region: Region,
    fingerprints: Fingerprints,
    counters: Part<EntryCounter>,
    /// Tells handles of different lists apart, also of lists at the same address one after the other.
    id: u64,
}

/// An entry of the list. Its bytes lie in the arena; see the module's header for how long they may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The full key.
    pub key: &'a [u8],
    /// Sequence number and kind.
    pub trailer: Trailer,
    /// The value.
    pub value: &'a [u8],
}

/// What a search looks for, with the two link words between which fingerprints say nothing.
#[derive(Clone, Copy)]
struct Target<'a> {
    key: &'a [u8],
    trailer: Trailer,
    /// Links above this lead to smaller keys.
    above: u64,
    /// Links below this lead to larger keys, or nowhere.
    below: u64,
}

/// Where a search stopped on one level: the last node before the target, and the link it has there.
#[derive(Clone, Copy)]
struct Stop {
    before: u32,
    link: u64,
    /// Whether the link leads to an entry equal to the target.
    found: bool,
}

#[inline]
const fn node_of(link: u64) -> u32 {
    link as u32
}

impl Target<'_> {
    #[inline]
    const fn link_to(&self, node: u32) -> u64 {
        self.below | node as u64
    }
}

/// Bytes that an entry takes in the arena.
#[inline]
#[must_use]
pub const fn entry_size(key_len: usize, value_len: usize, height: u8) -> usize {
    ((height as usize - 1) * UNIT + KEY as usize + key_len + value_len).next_multiple_of(UNIT)
}

/// The height of entry number `index` of a list whose towers follow from `seed`: 1 to [`HEIGHT_MAX`], the same everywhere.
#[inline]
#[must_use]
pub const fn height(seed: u64, index: u64) -> u8 {
    // The finaliser of splitmix64: every input bit reaches every output bit.
    let mut bits = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    let climbs = (bits | 1 << (BRANCHING_BITS * (HEIGHT_MAX as u32 - 1))).trailing_zeros() / BRANCHING_BITS;
    1 + climbs as u8
}

impl Skiplist {
    /// Lays out a list in `arena_bytes` (less than 4 GiB) of the region. See [`capacity`](Self::capacity).
    pub fn reserve(layout: &mut Layout, name: &str, arena_bytes: usize) -> SkiplistParts {
        SkiplistParts {
            fingerprints: Fingerprints::reserve(layout, name),
            counters: layout.part(&format!("{name}.counters"), COUNTERS),
            arena: Arena::reserve(layout, name, arena_bytes, FRONT),
        }
    }

    /// The list at `parts`; empty, and expecting nothing of its keys, in a fresh region.
    #[must_use]
    pub fn new(region: &Region, parts: SkiplistParts) -> Self {
        static LISTS: ProcessCounter = ProcessCounter::new(1);
        Self {
            arena: Arena::new(region, parts.arena),
            region: region.clone(),
            fingerprints: Fingerprints::new(region, parts.fingerprints),
            counters: parts.counters,
            id: LISTS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Empties the list; keys inserted from now on are expected to begin with one of `prefixes` (any others work, but slower):
    /// ascending, none the beginning of another. See [`fingerprint`] for how many are used, and how much of them.
    ///
    /// Only when nobody else uses the list: no entry, iterator position, reservation or splice from before may be used.
    pub fn reset<P: AsRef<[u8]>>(&self, prefixes: &[P]) {
        self.fingerprints.reset(prefixes);
        for counter in self.counters() {
            counter.entries.store(0, Ordering::Relaxed);
        }
        for level in 0..HEIGHT_MAX {
            self.link(HEAD, level).store(0, Ordering::Relaxed);
        }
        self.arena.reset();
    }

    /// Arena space for a batch: `bytes` is the sum of [`entry_size`] over its entries. `None` when the list is too full.
    #[inline]
    #[must_use]
    pub fn reserve_space(&self, bytes: usize) -> Option<Reservation> {
        self.arena.reserve_space(bytes)
    }

    /// Bytes of the arena given out.
    #[must_use]
    pub fn used(&self) -> usize {
        self.arena.used()
    }

    /// Bytes of the arena that can be given out in all.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// Entries in the list.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.counters().iter().map(|counter| counter.entries.load(Ordering::Relaxed)).sum()
    }

    /// The first entry with `key` and a trailer of at most `bound`: the newest version that a reader may see.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u8], bound: Trailer) -> Option<Entry<'_>> {
        let target = self.target(key, bound);
        let link = self.search(&target).link;
        if node_of(link) == 0 || link < target.below {
            return None;
        }
        let entry = self.entry(node_of(link));
        (entry.key == key).then_some(entry)
    }

    /// As [`get`](Self::get), from an entry of `key` on, which is at `place`: the newest that there was when it was asked for.
    #[inline]
    #[must_use]
    pub fn get_from(&self, place: u32, key: &[u8], bound: Trailer) -> Option<Entry<'_>> {
        let node = self.allowed_from(place, key, bound)?;
        Some(self.entry(node))
    }

    /// The first entry of `key`, from the one at `place` on, that `bound` allows.
    #[inline]
    fn allowed_from(&self, place: u32, key: &[u8], bound: Trailer) -> Option<u32> {
        let mut node = place;
        for _ in 0..FROM_STEPS_MAX {
            if self.trailer(node) <= bound {
                return Some(node);
            }
            node = node_of(self.link(node, 0).load(Ordering::Acquire));
            if node == 0 || self.key(node) != key {
                return None;
            }
        }
        let target = self.target(key, bound);
        let found = node_of(self.search(&target).link);
        (found != 0 && self.key(found) == key).then_some(found)
    }

    /// Whether the entry at `place` is one of `key`.
    #[inline]
    #[must_use]
    pub fn is_of(&self, place: u32, key: &[u8]) -> bool {
        self.key(place) == key
    }

    /// What the entry at `place` is for one of `key` with `trailer`.
    #[inline]
    #[must_use]
    pub fn relation(&self, place: u32, key: &[u8], trailer: Trailer) -> Relation {
        match self.key(place) == key {
            false => Relation::Other,
            true if self.trailer(place) < trailer => Relation::Older,
            true => Relation::AsNew,
        }
    }

    /// An iterator, not positioned yet.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self)
    }

    /// Inserts an entry; its place, as an index of the list may know it. An entry with the same key and trailer may be there already;
    /// then nothing changes.
    ///
    /// `room` is the batch's reservation, `height` the height that its size was computed with. `splice` remembers where
    /// the last insert through it was: pass the same one for keys that are near each other.
    ///
    /// # Panics
    /// When `room` is too small or from before a reset, or the height is not 1 to [`HEIGHT_MAX`].
    pub fn insert(
        &self,
        room: &mut Reservation,
        height: u8,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
        splice: &mut Splice,
    ) -> u32 {
        let target = self.target(key, trailer);
        let Some(fresh) = self.seat(splice, &target) else { return node_of(self.search(&target).link) };
        let node = self.write_node(room, height, &target, value);
        for level in 0..usize::from(height) {
            if let Err(other) = self.link_in(node, level, level < fresh, &target, splice) {
                return other;
            }
        }
        room.take(entry_size(key.len(), value.len(), height));
        self.count_entry();
        node
    }

    /// Writes a node into `room` without taking the space yet; returns its offset.
    #[inline]
    fn write_node(&self, room: &mut Reservation, height: u8, target: &Target<'_>, value: &[u8]) -> u32 {
        let key = target.key;
        assert!((1..=HEIGHT_MAX).contains(&usize::from(height)), "a tower of no legal height");
        assert!(key.len() <= usize::from(u16::MAX) && value.len() <= u32::MAX as usize, "an entry beyond the limits");
        assert!(entry_size(key.len(), value.len(), height) <= room.remaining(), "an entry beyond its reservation");
        let node = room.next() + (u32::from(height) - 1) * UNIT as u32;
        let lengths = value.len() as u64 | (key.len() as u64) << 32 | u64::from(height) << 48;
        self.arena.write(room, node + KEY, key);
        self.arena.write(room, node + KEY + key.len() as u32, value);
        self.arena.word(node + TRAILER).store(target.trailer.0, Ordering::Relaxed);
        self.arena.word(node + LENGTHS).store(lengths, Ordering::Relaxed);
        node
    }

    /// Inserts a newer version of the key than that at `newest`, which is the newest as far as is known, on the lowest level alone: next
    /// to it, without a search. `None` when it cannot tell where, and nothing has changed: then [`insert`](Self::insert) can.
    ///
    /// # Panics
    /// As `insert`.
    pub fn insert_newer(
        &self,
        room: &mut Reservation,
        newest: u32,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
    ) -> Option<u32> {
        let target = self.target(key, trailer);
        // Whoever stored the hint had reached that node; acquiring the hint makes it complete for us, too.
        let before = self.arena.half(newest + PREVIOUS).load(Ordering::Acquire);
        let is_behind = before != HEAD && (before == 0 || !self.compare(before, &target).is_lt());
        if is_behind || !self.compare(newest, &target).is_gt() {
            return None;
        }
        let stop = self.walk(before, 0, &target, newest);
        if stop.found {
            return Some(node_of(stop.link));
        }
        let node = self.write_node(room, 1, &target, value);
        if let Err(other) = self.link_after(node, 0, stop, &target) {
            return Some(other);
        }
        room.take(entry_size(key.len(), value.len(), 1));
        self.count_entry();
        Some(node)
    }

    #[inline]
    fn count_entry(&self) {
        self.counters()[counter_of_thread()].entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Links `node` in on `level` where the splice is; `Err` as [`link_after`](Self::link_after).
    #[inline]
    fn link_in(
        &self,
        node: u32,
        level: usize,
        fresh: bool,
        target: &Target<'_>,
        splice: &mut Splice,
    ) -> Result<(), u32> {
        let mut stop = splice.stop(level);
        if !fresh {
            stop = self.walk(stop.before, level, target, 0);
        }
        let linked = self.link_after(node, level, stop, target);
        match linked {
            Ok(next) => splice.put(level, target.link_to(node), next),
            Err(_) => splice.forget(),
        }
        linked.map(drop)
    }

    /// Links `node` in on `level`, behind `stop` or what has come there since; the link that it has now. `Err`: an equal entry turned up
    /// on level 0, at this place, and nothing changed.
    #[inline]
    fn link_after(&self, node: u32, level: usize, mut stop: Stop, target: &Target<'_>) -> Result<u64, u32> {
        loop {
            self.link(node, level).store(stop.link, Ordering::Relaxed);
            if level == 0 {
                self.arena.half(node + PREVIOUS).store(stop.before, Ordering::Relaxed);
                self.arena.half(node + TAIL).store(self.tail_behind(stop.link, target), Ordering::Relaxed);
            }
            let link = self.link(stop.before, level);
            let new = target.link_to(node);
            if link.compare_exchange(stop.link, new, Ordering::Release, Ordering::Relaxed).is_ok() {
                return Ok(stop.link);
            }
            stop = self.walk(stop.before, level, target, 0);
            if stop.found {
                debug_assert_eq!(level, 0, "two nodes of one entry above level 0");
                return Err(node_of(stop.link));
            }
        }
    }

    /// The tail of a node for `target` that `link` leaves.
    #[inline]
    fn tail_behind(&self, link: u64, target: &Target<'_>) -> u32 {
        let next = node_of(link);
        if next == 0 || link < target.below || self.key(next) != target.key {
            return 0;
        }
        match self.arena.half(next + TAIL).load(Ordering::Relaxed) {
            0 => next,
            tail => tail,
        }
    }

    /// The link of `node` on `level`.
    #[inline]
    fn link(&self, node: u32, level: usize) -> &AtomicU64 {
        self.arena.word(node.wrapping_sub((level * UNIT) as u32))
    }

    /// Walks along `level` from `before`, a node before the target, to the last one before it. `beyond` is a node known not
    /// to be before the target, or 0.
    #[inline]
    fn walk(&self, mut before: u32, level: usize, target: &Target<'_>, beyond: u32) -> Stop {
        loop {
            let link = self.link(before, level).load(Ordering::Acquire);
            if link > target.above {
                before = node_of(link);
                continue;
            }
            let next = node_of(link);
            if link >= target.below && next != beyond && next != 0 {
                match self.compare(next, target) {
                    cmp::Ordering::Less => {
                        before = next;
                        continue;
                    }
                    cmp::Ordering::Equal => return Stop { before, link, found: true },
                    cmp::Ordering::Greater => {}
                }
            }
            return Stop { before, link, found: false };
        }
    }

    /// Where the target is, or would be, on level 0.
    #[inline]
    fn search(&self, target: &Target<'_>) -> Stop {
        let mut stop = Stop { before: HEAD, link: 0, found: false };
        for level in (0..HEIGHT_MAX).rev() {
            stop = self.walk(stop.before, level, target, node_of(stop.link));
        }
        stop
    }

    #[inline]
    fn compare(&self, node: u32, target: &Target<'_>) -> cmp::Ordering {
        compare((self.key(node), self.trailer(node)), (target.key, target.trailer))
    }

    #[inline]
    fn trailer(&self, node: u32) -> Trailer {
        Trailer(self.arena.word(node + TRAILER).load(Ordering::Relaxed))
    }

    /// Levels that the node was made for; a dead process may have left the upper ones unlinked.
    #[inline]
    fn height_of(&self, node: u32) -> usize {
        (self.arena.word(node + LENGTHS).load(Ordering::Relaxed) >> 48) as usize
    }

    /// Length of the value and of the key.
    #[inline]
    fn lengths(&self, node: u32) -> (usize, usize) {
        let lengths = self.arena.word(node + LENGTHS).load(Ordering::Relaxed);
        ((lengths & u64::from(u32::MAX)) as usize, (lengths >> 32 & 0xFFFF) as usize)
    }

    #[inline]
    #[expect(unsafe_code, reason = "bytes of a published node")]
    fn bytes(&self, offset: u32, len: usize) -> &[u8] {
        // SAFETY: callers pass the key or value of a node that they reached through an acquired link (invariant 1).
        unsafe { self.arena.bytes(offset, len) }
    }

    #[inline]
    fn key(&self, node: u32) -> &[u8] {
        self.bytes(node + KEY, self.lengths(node).1)
    }

    #[inline]
    fn value(&self, node: u32) -> &[u8] {
        let (value_len, key_len) = self.lengths(node);
        self.bytes(node + KEY + key_len as u32, value_len)
    }

    #[inline]
    fn entry(&self, node: u32) -> Entry<'_> {
        let (value_len, key_len) = self.lengths(node);
        let both = self.bytes(node + KEY, key_len + value_len);
        let (key, value) = both.split_at(key_len);
        Entry { key, trailer: self.trailer(node), value }
    }

    #[inline]
    fn target<'a>(&self, key: &'a [u8], trailer: Trailer) -> Target<'a> {
        let below = u64::from(!self.fingerprints.of(key)) << 32;
        Target { key, trailer, above: below | u64::from(u32::MAX), below }
    }

    fn counters(&self) -> &[EntryCounter] {
        self.region.part(self.counters)
    }
}

/// Spreads threads over the counters by where their thread-local memory lies.
#[inline]
fn counter_of_thread() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    let here = HERE.with(|here| std::ptr::from_ref(here).addr()) as u64;
    (here.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61) as usize
}

const _: () = assert!(COUNTERS == 1 << 3);
