//! Range scans, forward and backward, that hold nothing in the region between calls.
//!
//! A scan fills a private batch of rows under one pin, then serves them without touching the engine. Batches start small
//! and grow, so a short scan reads little and a long one pays for the pin once in hundreds of rows. Between batches it
//! keeps the positions of its sources; when the generation has moved (a memtable or file may be gone) it opens its
//! sources anew and seeks to where it was.

use std::sync::Arc;

use crate::base::ids::SeqNo;
use crate::base::key::Trailer;
use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::format::range_del::RangeTombstones;
use crate::lsm::Lsm;
use crate::lsm::merge::{Direction, Merge, ReadContext, Run, Source};
use crate::lsm::view::View;
use crate::mem::snapshots::SnapshotHandle;
use crate::sst::{ReadAhead, SstIter, SstReader};

mod batch;
mod choose;

use self::batch::{Batch, Versions};
pub use self::choose::{Choice, Chooser};
use self::choose::{Entry, Newest, entry_of};

/// Rows of the first batch. A seek that wants one row should not pay for many.
const FIRST_ROWS: usize = 4;
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

/// A source between batches.
enum Parked {
    Memtable { index: usize, position: u32 },
    Table(SstIter),
    Run(Run),
}

/// A scan over full keys in `[from, to)`.
pub struct Scan {
    lsm: Arc<Lsm>,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    direction: Direction,
    seqno: SeqNo,
    /// Protects `seqno` from garbage collection; `None` when the caller's own snapshot does.
    snapshot: Option<SnapshotHandle>,
    generation: u64,
    parked: Vec<Parked>,
    /// The memtables among the sources, in their order.
    memtables: Vec<usize>,
    range_deletes: Vec<RangeDeletes>,
    /// Where to go on after the sources were lost; the key that it is about.
    place: Place,
    last_key: Vec<u8>,
    finished: bool,
    batch: Batch,
    rows: usize,
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
        Ok(Self::at(lsm, from, to, direction, seqno, snapshot))
    }

    fn at(
        lsm: Arc<Lsm>,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        direction: Direction,
        seqno: SeqNo,
        snapshot: Option<SnapshotHandle>,
    ) -> Self {
        Self {
            lsm,
            from,
            to,
            direction,
            seqno,
            snapshot,
            generation: 0,
            parked: Vec::new(),
            memtables: Vec::new(),
            range_deletes: Vec::new(),
            place: Place::Start,
            last_key: Vec::new(),
            finished: false,
            batch: Batch::default(),
            rows: FIRST_ROWS,
        }
    }

    /// A scan that sees, in each of its batches, everything that is visible by then. It protects no sequence number: for
    /// trees in which a chooser decides what counts.
    #[must_use]
    pub fn unanchored(lsm: Arc<Lsm>, from: Vec<u8>, to: Option<Vec<u8>>, direction: Direction) -> Self {
        Self::at(lsm, from, to, direction, SeqNo::MAX, None)
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
    /// I/O, corruption; whatever the chooser returned: the scan may not be used any more.
    #[inline]
    pub fn next_chosen(&mut self, chooser: &mut dyn Chooser) -> Result<Option<(&[u8], &[u8])>> {
        self.lsm.check_not_closed()?;
        while self.batch.at == self.batch.ends.len() {
            if self.finished {
                return Ok(None);
            }
            self.fill(chooser)?;
        }
        self.batch.at += 1;
        Ok(Some(self.batch.row(self.batch.at - 1)))
    }

    fn fill(&mut self, chooser: &mut dyn Chooser) -> Result<()> {
        self.batch.clear();
        let lsm = Arc::clone(&self.lsm);
        let pin = lsm.pin_reader();
        let context = ReadContext { cache: &lsm.cache, opener: &lsm.opener };
        let mut merge;
        if !self.parked.is_empty() && pin.generation() == self.generation {
            let sources = self.parked.drain(..).map(|p| unpark(&lsm, p)).collect();
            merge = Merge::new(sources, self.direction, context);
            merge.resume();
        } else {
            self.generation = pin.generation();
            let sources = self.open_sources(&lsm)?;
            merge = Merge::new(sources, self.direction, context);
            self.position(&mut merge)?;
        }
        let ended = match self.direction {
            Direction::Forward => self.fill_forward(&mut merge, chooser)?,
            Direction::Backward => self.fill_backward(&mut merge, chooser)?,
        };
        self.finished = ended;
        self.rows = (self.rows * 4).min(ROWS_MAX);
        if ended {
            self.release();
        } else {
            self.parked = park(merge.into_sources(), &self.memtables);
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
        self.memtables = memtables.indices().collect();
        let mut sources: Vec<_> =
            memtables.indices().map(|at| Source::Memtable(lsm.memtables.get(at).iter())).collect();
        let to = self.to.as_deref();
        for file in view.overlapping(0, &self.from, to) {
            let reader = file.reader(&lsm.opener)?;
            sources.push(Source::Table(SstIter::new(Arc::clone(reader), ReadAhead::Auto)));
        }
        for level in 1..LEVEL_COUNT {
            let files = view.overlapping(level, &self.from, to);
            if !files.is_empty() {
                sources.push(Source::Run(Run::new(files, ReadAhead::Auto)));
            }
        }
        self.range_deletes = lsm.range_deletes(&view, memtables.indices())?;
        Ok(sources)
    }

    /// Whether the scan has reached its end.
    fn fill_forward(&mut self, merge: &mut Merge<'_>, chooser: &mut dyn Chooser) -> Result<bool> {
        let mut steps = 0;
        // Without a position a scan that lost its sources could not go on: the first entry is looked for to its end.
        while steps < STEPS_MAX || self.place == Place::Start {
            if !merge.valid() {
                return Ok(true);
            }
            steps += 1;
            let (key, trailer) = (merge.key(), merge.trailer());
            if self.to.as_deref().is_some_and(|to| key >= to) {
                return Ok(true);
            }
            let same_key = self.place != Place::Start && key == self.last_key;
            if !(same_key && self.place == Place::AfterKey) {
                if self.batch.is_full(self.rows) {
                    return Ok(false);
                }
                let choice = match entry_of(&self.range_deletes, self.seqno, key, trailer) {
                    Entry::TooNew => Choice::Older,
                    Entry::Deleted => Choice::Nothing,
                    Entry::Value => chooser.choose(!same_key, key, merge.value())?,
                };
                if matches!(choice, Choice::Row | Choice::RowAndOlder) {
                    self.batch.push(key, merge.value());
                }
                if !same_key {
                    self.last_key.clear();
                    self.last_key.extend_from_slice(key);
                }
                self.place = match choice {
                    Choice::Row | Choice::Nothing => Place::AfterKey,
                    Choice::Older | Choice::RowAndOlder => Place::AfterVersion(trailer),
                };
            }
            merge.advance()?;
        }
        Ok(false)
    }

    /// Whether the scan has reached its end. Versions of a key come oldest first: they are put aside until all are there.
    fn fill_backward(&mut self, merge: &mut Merge<'_>, chooser: &mut dyn Chooser) -> Result<bool> {
        let mut versions = Versions::default();
        let mut steps = 0;
        loop {
            let same_key = merge.valid() && !versions.is_empty() && merge.key() == versions.key;
            if !same_key && !versions.is_empty() {
                self.choose_backward(&versions, chooser)?;
                self.last_key.clone_from(&versions.key);
                self.place = Place::AfterKey;
                versions.clear();
                if self.batch.is_full(self.rows) || steps > STEPS_MAX {
                    return Ok(false);
                }
            }
            if !merge.valid() || merge.key() < &self.from[..] {
                return Ok(true);
            }
            if versions.is_empty() {
                versions.key.extend_from_slice(merge.key());
            }
            let entry = entry_of(&self.range_deletes, self.seqno, merge.key(), merge.trailer());
            if entry != Entry::TooNew {
                // What lies below a version that readers stop at is never asked for: where the older ones are garbage
                // to this scan anyway, one is kept.
                if !chooser.wants_older() {
                    versions.forget();
                }
                versions.push(entry, merge.value());
            }
            merge.advance()?;
            steps += 1;
        }
    }

    fn choose_backward(&mut self, versions: &Versions, chooser: &mut dyn Chooser) -> Result<()> {
        for (at, (entry, value)) in versions.newest_first().enumerate() {
            let choice = match entry {
                Entry::Value => chooser.choose(at == 0, &versions.key, value)?,
                _ => Choice::Nothing,
            };
            if matches!(choice, Choice::Row | Choice::RowAndOlder) {
                self.batch.push(&versions.key, value);
            }
            if matches!(choice, Choice::Row | Choice::Nothing) {
                break;
            }
        }
        Ok(())
    }

    fn release(&mut self) {
        self.parked.clear();
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

/// Puts the sources away. The first of them are the memtables at `indices`.
fn park(sources: Vec<Source<'_>>, indices: &[usize]) -> Vec<Parked> {
    let mut indices = indices.iter();
    let park_one = |source| match source {
        Source::Memtable(iter) => Parked::Memtable {
            index: *indices.next().expect("as many memtables as when the sources were opened"),
            position: iter.position(),
        },
        Source::Table(iter) => Parked::Table(iter),
        Source::Run(run) => Parked::Run(run),
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
