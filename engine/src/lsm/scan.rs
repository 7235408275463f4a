//! Range scans, forward and backward, that hold nothing in the region between calls.
//!
//! A scan fills a private batch of rows under one pin, then serves them without touching the engine. Batches start small
//! and grow, so a short scan reads little and a long one pays for the pin once in hundreds of rows. Between batches it
//! keeps the positions of its sources; when the generation has moved (a memtable or file may be gone) it opens its
//! sources anew and seeks to where it was.

use std::ops::Bound;
use std::sync::Arc;

use crate::base::ids::{Level, SeqNo};
use crate::base::key::Trailer;
use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::format::range_del::RangeTombstones;
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::merge::{Direction, Merge, ReadContext, Run, Source, Wish};
use crate::lsm::view::View;
use crate::mem::snapshots::SnapshotHandle;
use crate::sst::{ReadAhead, SstIter, SstReader};

mod batch;
mod choose;

use self::batch::{Batch, Versions};
pub use self::choose::{Choice, Chooser, Follows};
use self::choose::{Entry, Newest, entry_of};

/// Rows of the first batch; each is twice as large as the one before. A seek that wants one row should not pay for many.
const FIRST_ROWS: usize = 8;
/// Rows of a full batch.
const ROWS_MAX: usize = 512;
/// Entries looked at under one pin. Long stretches of deleted rows must not hold back the reuse of memory.
const STEPS_MAX: usize = 8192;

/// Range tombstones of one source.
pub(crate) enum RangeDeletes {
    Memtable(Arc<RangeTombstones>),
    Table(Arc<SstReader>),
}

impl RangeDeletes {
    fn tombstones(&self) -> &RangeTombstones {
        match self {
            Self::Memtable(tombstones) => tombstones,
            Self::Table(reader) => reader.range_tombstones(),
        }
    }
}

/// A source between batches.
enum Parked {
    Memtable { index: usize, position: u32 },
    Table(SstIter<'static>),
    Run(Run<'static>),
}

/// How far a scan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first entry.
    Start,
    /// Behind all versions of the last key.
    AfterKey,
    /// Behind one of them.
    AfterVersion(Trailer),
}

/// A scan over full keys in `[from, to)`.
pub struct Scan {
    lsm: Arc<Lsm>,
    /// Protects the scan's sequence number from garbage collection; `None` when the caller's own snapshot does.
    snapshot: Option<SnapshotHandle>,
    cursor: Cursor,
}

/// Where a scan is.
struct Cursor {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    direction: Direction,
    read_ahead: ReadAhead,
    seqno: SeqNo,
    /// The generation that `parked` is of; `None` when it is lost.
    generation: Option<u64>,
    parked: Vec<Parked>,
    /// Only the first of `parked` is where the scan is.
    is_alone: bool,
    /// The memtables among the sources, in their order.
    memtables: MemtableList,
    range_deletes: Vec<RangeDeletes>,
    /// Where to go on after the sources were lost; the full key that it is about.
    place: Place,
    last_key: Vec<u8>,
    finished: bool,
    batch: Batch,
}

impl Scan {
    /// A scan of what `seqno` may see; with `None`, of what is visible now (which it then protects itself).
    ///
    /// # Errors
    /// Usage when too many snapshots are open.
    pub fn new(
        lsm: Arc<Lsm>,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        direction: Direction,
        seqno: Option<SeqNo>,
    ) -> Result<Self> {
        let (seqno, snapshot) = match seqno {
            Some(seqno) => (seqno, None),
            None => lsm.register_snapshot().map(|handle| (handle.seqno(), Some(handle)))?,
        };
        Ok(Self::at(lsm, (from, to), direction, seqno, snapshot))
    }

    /// A scan that sees, in each of its batches, everything that is visible by then. It protects no sequence number: for
    /// trees in which a chooser decides what counts.
    #[must_use]
    pub fn unanchored(lsm: Arc<Lsm>, from: Vec<u8>, to: Option<Vec<u8>>, direction: Direction) -> Self {
        Self::at(lsm, (from, to), direction, SeqNo::MAX, None)
    }

    fn at(
        lsm: Arc<Lsm>,
        (from, to): (Vec<u8>, Option<Vec<u8>>),
        direction: Direction,
        seqno: SeqNo,
        snapshot: Option<SnapshotHandle>,
    ) -> Self {
        let cursor = Cursor {
            from,
            to,
            direction,
            read_ahead: ReadAhead::Auto,
            seqno,
            generation: None,
            parked: Vec::new(),
            is_alone: false,
            memtables: MemtableList(0),
            range_deletes: Vec::new(),
            place: Place::Start,
            last_key: Vec::new(),
            finished: false,
            batch: Batch::of(FIRST_ROWS),
        };
        Self { lsm, snapshot, cursor }
    }

    /// Keeps all blocks that the scan will read in the cache. Otherwise those of a long scan are left out, since they would push
    /// out what others need.
    pub const fn fill_cache(&mut self) {
        self.cursor.read_ahead = ReadAhead::FillCache;
    }

    /// The next row as (full key, value); `None` at the end.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        self.next_chosen(&mut Newest)
    }

    /// As [`next_row`](Self::next_row), with the versions of each key that `chooser` takes; always the same one.
    ///
    /// # Errors
    /// I/O, corruption, closed; whatever the chooser returned: the scan may not be used any more.
    #[inline]
    pub fn next_chosen(&mut self, chooser: &mut impl Chooser) -> Result<Option<(&[u8], &[u8])>> {
        self.lsm.check_not_closed()?;
        while self.cursor.batch.at == self.cursor.batch.ends.len() {
            if self.cursor.finished {
                return Ok(None);
            }
            self.cursor.fill(&self.lsm, chooser)?;
            if self.cursor.finished {
                self.release();
            }
        }
        let batch = &mut self.cursor.batch;
        batch.at += 1;
        Ok(Some(batch.row(batch.at - 1)))
    }

    /// Shows `chooser`, which keeps the rows that it chooses, about as many as a batch has; how many it has chosen: none at the end.
    ///
    /// # Errors
    /// As [`next_chosen`](Self::next_chosen).
    pub fn choose_more<C: Chooser>(&mut self, chooser: &mut C) -> Result<usize> {
        const { assert!(C::KEEPS, "the rows would be lost") };
        self.lsm.check_not_closed()?;
        loop {
            if self.cursor.finished {
                return Ok(0);
            }
            self.cursor.fill(&self.lsm, chooser)?;
            if self.cursor.finished {
                self.release();
            }
            if self.cursor.batch.len() > 0 {
                return Ok(self.cursor.batch.len());
            }
        }
    }

    /// The row that [`next_chosen`](Self::next_chosen) returned last, when that was a row; `None` before the first.
    #[must_use]
    pub fn current(&self) -> Option<(&[u8], &[u8])> {
        let batch = &self.cursor.batch;
        batch.at.checked_sub(1).map(|at| batch.row(at))
    }

    fn release(&mut self) {
        if let Some(handle) = self.snapshot.take() {
            self.lsm.release_snapshot(handle);
        }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.release();
    }
}

impl Cursor {
    #[inline(never)]
    fn fill<C: Chooser>(&mut self, lsm: &Lsm, chooser: &mut C) -> Result<()> {
        if self.place != Place::Start {
            self.batch.rows = (self.batch.rows * 2).min(ROWS_MAX);
        }
        self.batch.clear();
        let pin = lsm.pin_reader();
        let context = ReadContext { cache: &lsm.cache, opener: &lsm.opener };
        let mut merge;
        // Should anything fail, the sources are lost.
        if self.generation.take() == Some(pin.generation()) {
            let sources = self.parked.drain(..).map(|p| unpark(lsm, p)).collect();
            merge = Merge::new(sources, self.direction, context);
            if self.is_alone { merge.resume_alone() } else { merge.resume()? }
        } else {
            self.parked.clear();
            let sources = self.open_sources(lsm)?;
            merge = Merge::new(sources, self.direction, context);
            let is_start = self.place == Place::Start && self.direction == Direction::Forward;
            let is_there = is_start && C::FOLLOWS.is_some_and(|follows| merge.seek_alone(&self.from, follows));
            if !is_there {
                self.position(&mut merge)?;
            }
        }
        self.finished = match self.direction {
            Direction::Forward => self.fill_forward(&mut merge, chooser)?,
            Direction::Backward => self.fill_backward(&mut merge, chooser)?,
        };
        if !self.finished {
            self.is_alone = merge.is_alone();
            self.parked = park(merge.into_sources(), self.memtables);
            self.generation = Some(pin.generation());
        }
        Ok(())
    }

    fn position(&self, merge: &mut Merge<'_>) -> Result<()> {
        match (self.direction, self.place) {
            (Direction::Forward, Place::Start) => merge.seek(&self.from, Trailer::MAX),
            // Trailer 0 is below all versions of the key.
            (Direction::Forward, Place::AfterKey) => merge.seek(&self.last_key, Trailer(0)),
            (Direction::Forward, Place::AfterVersion(last)) => merge.seek(&self.last_key, Trailer(last.0 - 1)),
            (Direction::Backward, Place::Start) => merge.seek_before(self.to.as_deref()),
            (Direction::Backward, _) => merge.seek_before(Some(&self.last_key)),
        }
    }

    /// The sources in the order memtables, L0, levels; see `park`.
    fn open_sources<'l>(&mut self, lsm: &'l Lsm) -> Result<Vec<Source<'l>>> {
        let memtables = lsm.memtable_list();
        let view = lsm.view_full()?;
        self.memtables = memtables;
        let mut sources = Vec::with_capacity(memtables.len() + view.levels[0].len() + LEVEL_COUNT);
        sources.extend(memtables.indices().map(|at| Source::Memtable(lsm.memtables.get(at).iter())));
        let range = (Bound::Included(&self.from[..]), self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded));
        let until: Option<Arc<[u8]>> = self.to.as_deref().map(Arc::from);
        for file in view.levels[0].iter().filter(|f| f.meta.overlaps_range(range)) {
            let reader = file.reader(&lsm.opener)?;
            sources.push(Source::Table(SstIter::new(Arc::clone(reader), self.read_ahead).until(until.clone())));
        }
        for level in 1..LEVEL_COUNT {
            let files = view.version.overlapping(Level(level as u8), range);
            if !files.is_empty() {
                let run = Run::of_level(Arc::clone(&view), level, files, self.read_ahead);
                sources.push(Source::Run(run.until(until.clone())));
            }
        }
        self.range_deletes = lsm.range_deletes(&view, memtables.indices())?;
        // Most are those of other trees, which are not to cost a look for each entry.
        self.range_deletes.retain(|t| t.tombstones().overlaps(&self.from, self.to.as_deref()));
        Ok(sources)
    }

    /// Whether the scan has reached its end.
    fn fill_forward<C: Chooser>(&mut self, merge: &mut Merge<'_>, chooser: &mut C) -> Result<bool> {
        let bound = Trailer::seek(self.seqno);
        let Self { to, seqno, place, batch, last_key, range_deletes, .. } = self;
        let (to, seqno, range_deletes) = (to.as_deref(), *seqno, &range_deletes[..]);
        // Whether the last key is that of the last row, and not in `last_key` yet.
        let mut is_row = false;
        let mut failure = None;
        let mut steps = 0;
        // Older versions of the last key that were shown.
        let mut passed = 0;
        let mut take = |key: &[u8], trailer: Trailer, value: &[u8]| {
            // Without a key that is done a lost position could not be found again: the first is looked for to its end.
            if steps >= STEPS_MAX && *place != Place::Start {
                return Wish::Stop;
            }
            steps += 1;
            let last = if is_row { batch.last_key() } else { last_key.as_slice() };
            let same_key = *place != Place::Start && is_same(key, last);
            if same_key && *place == Place::AfterKey {
                passed += 1;
                return Wish::NextKey { passed };
            }
            passed = 0;
            if trailer > bound {
                return Wish::Next;
            }
            if batch.is_full() {
                return Wish::Stop;
            }
            let chosen = match entry_of(range_deletes, seqno, key, trailer) {
                Entry::Deleted => Ok(Choice::Nothing),
                Entry::Value => chooser.choose(!same_key, key, value),
            };
            let choice = match chosen {
                Ok(choice) => choice,
                Err(error) => {
                    failure = Some(error);
                    return Wish::Stop;
                }
            };
            let has_row = matches!(choice, Choice::Row | Choice::RowAndOlder);
            if has_row && !C::KEEPS {
                batch.push(key, value);
                is_row = true;
            } else if is_row || !same_key {
                last_key.clear();
                last_key.extend_from_slice(key);
                is_row = false;
            }
            if has_row && C::KEEPS {
                batch.count(value.len());
            }
            let is_done = matches!(choice, Choice::Row | Choice::Nothing);
            *place = if is_done { Place::AfterKey } else { Place::AfterVersion(trailer) };
            if is_done { Wish::NextKey { passed } } else { Wish::Next }
        };
        let ended = loop {
            if !merge.valid() || to.is_some_and(|to| merge.key() >= to) {
                break true;
            }
            if merge.walk_top(to, C::FOLLOWS, &mut take)? {
                break false;
            }
        };
        failure.map_or(Ok(()), Err)?;
        if is_row {
            self.last_key.clear();
            self.last_key.extend_from_slice(self.batch.last_key());
        }
        Ok(ended)
    }

    /// Whether the scan has reached its end. Versions of a key come oldest first: they are put aside until all are there.
    fn fill_backward(&mut self, merge: &mut Merge<'_>, chooser: &mut impl Chooser) -> Result<bool> {
        let bound = Trailer::seek(self.seqno);
        let mut versions = Versions::default();
        let mut steps = 0;
        loop {
            let same_key = merge.valid() && !versions.is_empty() && merge.key() == versions.key;
            if !same_key && !versions.is_empty() {
                self.choose_backward(&versions, chooser)?;
                std::mem::swap(&mut self.last_key, &mut versions.key);
                self.place = Place::AfterKey;
                versions.clear();
                if self.batch.is_full() || steps > STEPS_MAX {
                    return Ok(false);
                }
            }
            if !merge.valid() || merge.key() < &self.from[..] {
                return Ok(true);
            }
            if versions.is_empty() {
                versions.key.extend_from_slice(merge.key());
            }
            if merge.trailer() <= bound {
                // Where only the newest version counts, no more than one is kept.
                if !chooser.wants_older() {
                    versions.forget();
                }
                versions.push(entry_of(&self.range_deletes, self.seqno, merge.key(), merge.trailer()), merge.value());
            }
            merge.advance()?;
            steps += 1;
        }
    }

    fn choose_backward<C: Chooser>(&mut self, versions: &Versions, chooser: &mut C) -> Result<()> {
        for (at, (entry, value)) in versions.newest_first().enumerate() {
            let choice = match entry {
                Entry::Value => chooser.choose(at == 0, &versions.key, value)?,
                Entry::Deleted => Choice::Nothing,
            };
            if matches!(choice, Choice::Row | Choice::RowAndOlder) {
                if C::KEEPS { self.batch.count(value.len()) } else { self.batch.push(&versions.key, value) }
            }
            if matches!(choice, Choice::Row | Choice::Nothing) {
                break;
            }
        }
        Ok(())
    }
}

/// Whether two keys are the same. Neighbours mostly differ near their ends, which is looked at first.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.last_chunk::<4>() == b.last_chunk::<4>() && a == b
}

/// Puts the sources away. The first of them are `memtables`.
fn park(sources: Vec<Source<'_>>, memtables: MemtableList) -> Vec<Parked> {
    let mut indices = memtables.indices();
    let park_one = |source| match source {
        Source::Memtable(iter) => Parked::Memtable {
            index: indices.next().expect("as many memtables as when the sources were opened"),
            position: iter.position(),
        },
        Source::Table(iter) => Parked::Table(iter.park()),
        Source::Run(run) => Parked::Run(run.park()),
    };
    sources.into_iter().map(park_one).collect()
}

fn unpark(lsm: &Lsm, parked: Parked) -> Source<'_> {
    match parked {
        Parked::Memtable { index, position } => {
            let mut iter = lsm.memtables.get(index).iter();
            iter.restore(position);
            Source::Memtable(iter)
        }
        Parked::Table(iter) => Source::Table(iter),
        Parked::Run(run) => Source::Run(run),
    }
}

impl Lsm {
    /// The range tombstones of the given memtables and of all files of `view`.
    pub(crate) fn range_deletes(
        &self,
        view: &View,
        memtables: impl Iterator<Item = usize>,
    ) -> Result<Vec<RangeDeletes>> {
        let in_memory = memtables.filter_map(|at| self.memtables.get(at).range_tombstones());
        let mut out: Vec<_> = in_memory.map(RangeDeletes::Memtable).collect();
        for file in &view.range_delete_files {
            out.push(RangeDeletes::Table(Arc::clone(file.reader(&self.opener)?)));
        }
        Ok(out)
    }
}
