//! Range scans, forward and backward, that hold nothing in the region between calls.
//!
//! A scan fills a private batch of rows under one pin, then serves them without touching the engine. Batches start small
//! and grow, so a short scan reads little and a long one pays for the pin once in hundreds of rows. Between batches it
//! keeps the positions of its sources; when the generation has moved (a memtable or file may be gone) it opens its
//! sources anew and seeks to where it was.

use std::ops::Bound;
use std::sync::Arc;

use crate::base::ids::{Level, SeqNo};
use crate::base::key::{Kind, Trailer};
use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::format::range_del::RangeTombstones;
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::merge::{Direction, Merge, ReadContext, Run, Source};
use crate::lsm::view::View;
use crate::mem::snapshots::SnapshotHandle;
use crate::sst::{ReadAhead, SstIter, SstReader};

/// Rows of the first batch; each is twice as large as the one before. A seek that wants one row should not pay for many.
const FIRST_ROWS: usize = 8;
/// Rows and bytes at which a batch is full.
const ROWS_MAX: usize = 512;
/// See [`ROWS_MAX`].
const BATCH_BYTES_MAX: usize = 64 << 10;
/// Entries looked at under one pin. Long stretches of deleted rows must not hold back the reuse of memory.
const STEPS_MAX: usize = 8192;

/// Rows copied out of the engine, packed into one buffer.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// End of the key and end of the value of each row.
    ends: Vec<(u32, u32)>,
    at: usize,
    /// Rows at which it is full.
    rows: usize,
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.at = 0;
    }

    #[inline]
    fn push(&mut self, key: &[u8], value: &[u8]) {
        if self.ends.is_empty() {
            self.reserve(key.len() + value.len());
        }
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len() as u32));
    }

    /// Room for as many rows as there may be, when all are about as long as the first.
    #[cold]
    fn reserve(&mut self, row_len: usize) {
        self.bytes.reserve((self.rows * row_len).min(BATCH_BYTES_MAX + row_len));
        self.ends.reserve(self.rows);
    }

    #[inline]
    const fn is_full(&self) -> bool {
        self.ends.len() >= self.rows || self.bytes.len() >= BATCH_BYTES_MAX
    }

    #[inline]
    fn row(&self, at: usize) -> (&[u8], &[u8]) {
        let start = if at == 0 { 0 } else { self.ends[at - 1].1 as usize };
        let (key_end, end) = self.ends[at];
        (&self.bytes[start..key_end as usize], &self.bytes[key_end as usize..end as usize])
    }

    /// Key of the row pushed last; empty when there is none.
    #[inline]
    fn last_key(&self) -> &[u8] {
        self.ends.len().checked_sub(1).map_or(&[], |last| self.row(last).0)
    }
}

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
    seqno: SeqNo,
    /// The generation that `parked` is of; `None` when it is lost.
    generation: Option<u64>,
    parked: Vec<Parked>,
    /// The memtables among the sources, in their order.
    memtables: MemtableList,
    range_deletes: Vec<RangeDeletes>,
    /// The last full key that is dealt with, row or not: where to go on after the sources were lost.
    last_key: Vec<u8>,
    started: bool,
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
        let cursor = Cursor {
            from,
            to,
            direction,
            seqno,
            generation: None,
            parked: Vec::new(),
            memtables: MemtableList(0),
            range_deletes: Vec::new(),
            last_key: Vec::new(),
            started: false,
            finished: false,
            batch: Batch { rows: FIRST_ROWS, ..Batch::default() },
        };
        Ok(Self { lsm, snapshot, cursor })
    }

    /// The next row as (full key, value); `None` at the end.
    ///
    /// # Errors
    /// I/O, corruption.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        while self.cursor.batch.at == self.cursor.batch.ends.len() {
            if self.cursor.finished {
                return Ok(None);
            }
            self.cursor.fill(&self.lsm)?;
            if self.cursor.finished {
                self.release();
            }
        }
        let batch = &mut self.cursor.batch;
        batch.at += 1;
        Ok(Some(batch.row(batch.at - 1)))
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
    fn fill(&mut self, lsm: &Lsm) -> Result<()> {
        if self.started {
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
            merge.resume()?;
        } else {
            self.parked.clear();
            let sources = self.open_sources(lsm)?;
            merge = Merge::new(sources, self.direction, context);
            self.position(&mut merge)?;
        }
        self.finished = match self.direction {
            Direction::Forward => self.fill_forward(&mut merge)?,
            Direction::Backward => self.fill_backward(&mut merge)?,
        };
        self.started = true;
        if !self.finished {
            self.parked = park(merge.into_sources(), self.memtables);
            self.generation = Some(pin.generation());
        }
        Ok(())
    }

    fn position(&self, merge: &mut Merge<'_>) -> Result<()> {
        match (self.direction, self.started) {
            (Direction::Forward, false) => merge.seek(&self.from, Trailer::MAX),
            // The versions of the last key are behind us: trailer 0 is below all of them.
            (Direction::Forward, true) => merge.seek(&self.last_key, Trailer(0)),
            (Direction::Backward, false) => merge.seek_before(self.to.as_deref()),
            (Direction::Backward, true) => merge.seek_before(Some(&self.last_key)),
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
        for file in view.levels[0].iter().filter(|f| f.meta.overlaps_range(range)) {
            let reader = file.reader(&lsm.opener)?;
            sources.push(Source::Table(SstIter::new(Arc::clone(reader), ReadAhead::Auto)));
        }
        for level in 1..LEVEL_COUNT {
            let files = view.version.overlapping(Level(level as u8), range);
            if !files.is_empty() {
                sources.push(Source::Run(Run::of_level(Arc::clone(&view), level, files, ReadAhead::Auto)));
            }
        }
        self.range_deletes = lsm.range_deletes(&view, memtables.indices())?;
        Ok(sources)
    }

    /// Whether the scan has reached its end.
    fn fill_forward(&mut self, merge: &mut Merge<'_>) -> Result<bool> {
        let bound = Trailer::seek(self.seqno);
        let Self { to, seqno, started, batch, last_key, range_deletes, .. } = self;
        let (to, seqno, range_deletes) = (to.as_deref(), *seqno, &range_deletes[..]);
        // Whether some key is dealt with, and whether the last such key is the last row's.
        let (mut any_done, mut is_row) = (*started, false);
        let mut steps = 0;
        let mut take = |key: &[u8], trailer: Trailer, value: &[u8]| {
            // Without a key that is done a lost position could not be found again: the first is looked for to its end.
            if steps >= STEPS_MAX && any_done {
                return false;
            }
            steps += 1;
            let last = if is_row { batch.last_key() } else { last_key.as_slice() };
            if trailer > bound || (any_done && key == last) {
                return true;
            }
            if batch.is_full() {
                return false;
            }
            is_row = trailer.kind() == Some(Kind::Put) && !is_range_deleted(range_deletes, seqno, key, trailer);
            if is_row {
                batch.push(key, value);
            } else {
                last_key.clear();
                last_key.extend_from_slice(key);
            }
            any_done = true;
            true
        };
        let ended = loop {
            if !merge.valid() || to.is_some_and(|to| merge.key() >= to) {
                break true;
            }
            if merge.walk_top(to, &mut take)? {
                break false;
            }
        };
        if is_row {
            self.last_key.clear();
            self.last_key.extend_from_slice(self.batch.last_key());
        }
        Ok(ended)
    }

    /// Whether the scan has reached its end. Versions of a key come oldest first: the last visible one counts.
    fn fill_backward(&mut self, merge: &mut Merge<'_>) -> Result<bool> {
        let bound = Trailer::seek(self.seqno);
        let (mut key, mut value, mut newest) = (Vec::new(), Vec::new(), None::<Trailer>);
        let mut steps = 0;
        loop {
            let same_key = merge.valid() && newest.is_some() && merge.key() == key;
            if !same_key && let Some(trailer) = newest.take() {
                if trailer.kind() == Some(Kind::Put)
                    && !is_range_deleted(&self.range_deletes, self.seqno, &key, trailer)
                {
                    self.batch.push(&key, &value);
                }
                std::mem::swap(&mut self.last_key, &mut key);
                if self.batch.is_full() || steps > STEPS_MAX {
                    return Ok(false);
                }
            }
            if !merge.valid() || merge.key() < &self.from[..] {
                return Ok(true);
            }
            if merge.trailer() <= bound {
                if newest.is_none() {
                    key.clear();
                    key.extend_from_slice(merge.key());
                }
                newest = Some(merge.trailer());
                value.clear();
                value.extend_from_slice(merge.value());
            }
            merge.advance()?;
            steps += 1;
        }
    }
}

/// Whether a range tombstone that `seqno` sees covers the entry.
#[inline]
fn is_range_deleted(range_deletes: &[RangeDeletes], seqno: SeqNo, key: &[u8], trailer: Trailer) -> bool {
    let covers = |cover: SeqNo| cover > trailer.seqno();
    range_deletes.iter().any(|t| t.tombstones().covering_seqno(key, seqno).is_some_and(covers))
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
