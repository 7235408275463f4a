//! The memtables of an engine: one active, the others immutable until a flush has written them to an SST.
//!
//! ```text
//!            rotate                     flush installed            every older pin gone
//!   FREE ────────────► ACTIVE ─rotate─► (immutable) ──────► DROPPED ──────────────────► FREE
//! ```
//! Active and immutable tables are those in `Control::memtables`; a dropped one remembers the generation of its drop and
//! is reused when no pin is older.
//!
//! Invariants:
//! 1. A writer inserts only into a table that was active when it pinned itself as a writer, and rotation waits for the
//!    writers of the old table before the new one can be written: all sequence numbers of a newer table are larger than all
//!    of an older one.
//! 2. `start` of a table is a log position such that every record at or above it that was logged before the table became
//!    active does not exist: when all older tables are flushed, replay may start there.
//! 3. Every ordinary entry is added to the table's key index after it was inserted and before it is visible: a point lookup asks the
//!    index first.
//! 4. Range tombstones stand in the same list under the prefix 0x00, which no full key starts with; `range_deletes` counts
//!    them after they are inserted and before they are published.

use crate::mem::sync::{AtomicU64, Ordering};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::checksum::key_hash;
use crate::base::ids::{Lsn, SeqNo};
use crate::base::key::{Kind, Trailer};
use crate::format::batch::ops;
use crate::format::range_del::{RangeTombstone, RangeTombstones};
use crate::mem::key_index::{KeyIndex, KeyIndexParts, Known};
use crate::mem::region::{Layout, Part, Region};
use crate::mem::skiplist::{Entry, Iter, Reservation, Skiplist, SkiplistParts, Splice, entry_size, height};
use crate::shared_struct;

/// First byte of a range tombstone's key in a memtable; full keys start with 1 to 8.
const RANGE_PREFIX: u8 = 0;
/// Bytes of a memtable for each slot of its key index. An entry with a 100-byte value takes 160 bytes of a memtable, so less than half
/// of the slots are taken; of entries of 64 bytes nearly half find no slot, and are searched for.
const BYTES_PER_SLOT: usize = 64;
/// A later version of a key is put beside the one before it, on the lowest level alone, when its tower would not be higher than this:
/// all but one in 2⁵. So a search that passes thousands of versions has some to hold on to.
const LOW_TOWER: u8 = 5;
/// So many entries before its turn, a key's bucket of the index is asked for. Waiting for it was 9 % of a COPY of many rows.
const PREFETCH_AHEAD: usize = 8;
/// Where the ordinary entries start.
const FIRST_KEY: &[u8] = &[1];

shared_struct! {
    /// What is shared about one memtable beside its list.
    struct Header {
        /// Log position at which the table became active.
        start: AtomicU64,
        /// Generation at which it left the set of memtables; 0 while it is in it or was never used.
        dropped_at: AtomicU64,
        /// Range tombstones inserted.
        range_deletes: AtomicU64,
        /// Counts the lives of this slot, so that process-local caches know theirs.
        life: AtomicU64,
    }
}

/// Places of the memtables in the region.
pub struct MemtableParts {
    headers: Part<Header>,
    lists: Vec<(SkiplistParts, KeyIndexParts)>,
}

/// Room for one batch in one memtable.
pub struct Room {
    table: usize,
    seed: u64,
    space: Reservation,
}

struct FragmentCache {
    life: u64,
    count: u64,
    tombstones: Arc<RangeTombstones>,
}

/// One memtable; a handle of this process.
pub struct Memtable {
    region: Region,
    headers: Part<Header>,
    index: usize,
    list: Skiplist,
    keys: KeyIndex,
    fragments: Mutex<Option<FragmentCache>>,
}

/// All memtables; a handle of this process.
pub struct Memtables {
    tables: Vec<Memtable>,
}

/// Bytes that the batch's entries take in a memtable when their towers follow from `seed`.
///
/// A malformed batch ends the count early; batches are checked when they are made and when they are read from the log.
#[must_use]
pub fn space_needed(batch: &[u8], seed: u64) -> usize {
    ops(batch)
        .map_while(Result::ok)
        .enumerate()
        .map(|(at, op)| {
            let extra = usize::from(op.kind == Kind::RangeDelete);
            entry_size(op.key.len() + extra, op.value.len(), height(seed, at as u64))
        })
        .sum()
}

impl Memtables {
    /// Adds the parts of `count` memtables of `bytes` each.
    #[must_use]
    pub fn reserve(layout: &mut Layout, count: usize, bytes: usize) -> MemtableParts {
        let headers = layout.part("memtable headers", count);
        let mut list = || {
            let list = Skiplist::reserve(layout, "memtable", bytes);
            (list, KeyIndex::reserve(layout, "memtable", bytes / BYTES_PER_SLOT, bytes))
        };
        let lists = (0..count).map(|_| list()).collect();
        MemtableParts { headers, lists }
    }

    /// The memtables in `region`.
    #[must_use]
    pub fn new(region: &Region, parts: MemtableParts) -> Self {
        let headers = parts.headers;
        let table = |(index, (list, keys))| Memtable {
            region: region.clone(),
            headers,
            index,
            list: Skiplist::new(region, list),
            keys: KeyIndex::new(region, keys),
            fragments: Mutex::new(None),
        };
        Self { tables: parts.lists.into_iter().enumerate().map(table).collect() }
    }

    /// The table at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> &Memtable {
        &self.tables[index]
    }

    /// A table that is not in `used` and that no pin from `oldest_pin` on can still read.
    pub fn find_free(&self, used: impl Iterator<Item = usize> + Clone, oldest_pin: Option<u64>) -> Option<usize> {
        (0..self.tables.len()).find(|&index| {
            let dropped_at = self.tables[index].header().dropped_at.load(Ordering::SeqCst);
            !used.clone().any(|other| other == index) && oldest_pin.is_none_or(|pin| pin >= dropped_at)
        })
    }
}

impl Memtable {
    fn header(&self) -> &Header {
        &self.region.part(self.headers)[self.index]
    }

    /// Empties the table for a new life. Only for a table that `find_free` returned. Most keys are expected to begin with one of
    /// `prefixes`, see [`Skiplist::reset`].
    pub fn empty(&self, prefixes: &[Vec<u8>]) {
        let header = self.header();
        self.list.reset(prefixes);
        self.keys.reset();
        header.range_deletes.store(0, Ordering::Relaxed);
        header.life.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins the life of an empty table at log position `start`.
    pub fn begin(&self, start: Lsn) {
        let header = self.header();
        header.start.store(start.0, Ordering::Relaxed);
        header.dropped_at.store(0, Ordering::Relaxed);
    }

    /// Notes that the table left the set of memtables at `generation`.
    pub fn dropped(&self, generation: u64) {
        self.header().dropped_at.store(generation, Ordering::SeqCst);
    }

    /// Log position at which the table became active.
    #[must_use]
    pub fn start(&self) -> Lsn {
        Lsn(self.header().start.load(Ordering::Relaxed))
    }

    /// Room for `batch`, or `None` when the table is too full for it.
    #[must_use]
    pub fn make_room(&self, batch: &[u8], seed: u64) -> Option<Room> {
        let space = self.list.reserve_space(space_needed(batch, seed))?;
        Some(Room { table: self.index, seed, space })
    }

    /// Bytes of the arena.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.list.capacity()
    }

    /// Bytes taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.list.used()
    }

    /// Entries inserted, range tombstones included.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.list.entries()
    }

    /// Inserts `batch` with sequence numbers from `first` on. Cannot fail: the room was made before.
    pub fn insert(&self, mut room: Room, batch: &[u8], first: SeqNo, splice: &mut Splice) {
        assert_eq!(room.table, self.index, "room in another table");
        let mut range_deletes = 0;
        let mut range_key = Vec::new();
        let mut ahead = ops(batch).map_while(Result::ok).map(|op| {
            let hash = key_hash(op.key);
            self.keys.prefetch(hash);
            hash
        });
        let mut hashes: [u64; PREFETCH_AHEAD] = std::array::from_fn(|_| ahead.next().unwrap_or_default());
        for (at, op) in ops(batch).map_while(Result::ok).enumerate() {
            let hash = std::mem::replace(&mut hashes[at % PREFETCH_AHEAD], ahead.next().unwrap_or_default());
            let trailer = Trailer::new(first.plus(at as u64), op.kind);
            let tower = height(room.seed, at as u64);
            if op.kind == Kind::RangeDelete {
                range_key.clear();
                range_key.push(RANGE_PREFIX);
                range_key.extend_from_slice(op.key);
                self.list.insert(&mut room.space, tower, &range_key, trailer, op.value, splice);
                range_deletes += 1;
            } else {
                let older = match self.known(op.key, hash) {
                    Known::At(place) if tower <= LOW_TOWER => Some(place),
                    _ => None,
                };
                let beside =
                    older.and_then(|place| self.list.insert_newer(&mut room.space, place, op.key, trailer, op.value));
                let place = beside
                    .unwrap_or_else(|| self.list.insert(&mut room.space, tower, op.key, trailer, op.value, splice));
                self.keys.add(hash, place, |other| self.list.relation(other, op.key, trailer));
            }
        }
        if range_deletes > 0 {
            self.header().range_deletes.fetch_add(range_deletes, Ordering::SeqCst);
        }
    }

    #[inline]
    fn known(&self, key: &[u8], hash: u64) -> Known {
        self.keys.find(hash, |place| self.list.is_of(place, key))
    }

    /// The newest version of `key` (with hash `hash`) that `bound` allows; a tombstone is a version too.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u8], hash: u64, bound: Trailer) -> Option<Entry<'_>> {
        match self.known(key, hash) {
            Known::At(place) => self.list.get_from(place, key, bound),
            Known::Absent => None,
            Known::Nothing => self.list.get(key, bound),
        }
    }

    /// The versions of `key` (with hash `hash`) that `bound` allows, newest first.
    #[inline]
    pub fn versions<'m>(&'m self, key: &'m [u8], hash: u64, bound: Trailer) -> impl Iterator<Item = Entry<'m>> {
        let mut iter = self.list.iter();
        match self.known(key, hash) {
            Known::At(place) => iter.seek_from(place, key, bound),
            Known::Absent => {}
            Known::Nothing => iter.seek(key, bound),
        }
        let mut is_first = true;
        std::iter::from_fn(move || {
            if !std::mem::take(&mut is_first) {
                iter.next();
            }
            iter.valid().then(|| iter.entry()).filter(|entry| entry.key == key)
        })
    }

    /// A cursor over the list. Seek it with [`seek_first`](Self::seek_first) or a full key to stay off range tombstones.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.list.iter()
    }

    /// Puts `iter` on the first ordinary entry.
    pub fn seek_first(iter: &mut Iter<'_>) {
        iter.seek(FIRST_KEY, Trailer::MAX);
    }

    /// Whether `key`, as found in the list, belongs to a range tombstone.
    #[must_use]
    pub fn is_range_key(key: &[u8]) -> bool {
        key.first() == Some(&RANGE_PREFIX)
    }

    /// The range tombstones, fragmented; `None` when there are none. Holds all that were visible before the call.
    #[must_use]
    pub fn range_tombstones(&self) -> Option<Arc<RangeTombstones>> {
        let count = self.header().range_deletes.load(Ordering::SeqCst);
        if count == 0 {
            return None;
        }
        let life = self.header().life.load(Ordering::SeqCst);
        let mut cached = self.fragments.lock();
        if let Some(cache) = cached.as_ref().filter(|c| c.life == life && c.count >= count) {
            return Some(Arc::clone(&cache.tombstones));
        }
        let raw = self.raw_range_tombstones();
        let tombstones = Arc::new(RangeTombstones::new(raw));
        *cached = Some(FragmentCache { life, count, tombstones: Arc::clone(&tombstones) });
        Some(tombstones)
    }

    /// Each range tombstone as it was written, by start.
    #[must_use]
    pub fn raw_range_tombstones(&self) -> Vec<RangeTombstone> {
        let mut out = Vec::new();
        let mut iter = self.list.iter();
        iter.seek(&[RANGE_PREFIX], Trailer::MAX);
        while iter.valid() && Self::is_range_key(iter.key()) {
            out.push(RangeTombstone {
                start: iter.key()[1..].to_vec(),
                end: iter.value().to_vec(),
                seqno: iter.trailer().seqno(),
            });
            iter.next();
        }
        out
    }
}
