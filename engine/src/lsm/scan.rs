//! Range scans, forward and backward, that hold nothing in the region between calls.
//!
//! A scan fills a private batch of rows under one pin, then serves them without touching the engine. Batches start small
//! and grow, so a short scan reads little and a long one pays for the pin once in hundreds of rows. Between batches it
//! keeps the positions of its sources; when the generation has moved (a memtable or file may be gone) it opens its
//! sources anew and seeks to where it was.

use std::sync::Arc;

use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer};
use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::format::range_del::RangeTombstones;
use crate::lsm::Lsm;
use crate::lsm::merge::{Direction, Merge, ReadContext, Run, Source};
use crate::lsm::view::View;
use crate::mem::snapshots::SnapshotHandle;
use crate::sst::{ReadAhead, SstIter, SstReader};

/// Rows of the first batch. A seek that wants one row should not pay for many.
const FIRST_ROWS: usize = 4;
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
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.at = 0;
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len() as u32));
    }

    fn is_full(&self, rows: usize) -> bool {
        self.ends.len() >= rows || self.bytes.len() >= BATCH_BYTES_MAX
    }

    fn row(&self, at: usize) -> (&[u8], &[u8]) {
        let start = if at == 0 { 0 } else { self.ends[at - 1].1 as usize };
        let (key_end, end) = self.ends[at];
        (&self.bytes[start..key_end as usize], &self.bytes[key_end as usize..end as usize])
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
    /// The last full key that is dealt with, row or not: where to go on after the sources were lost.
    last_key: Vec<u8>,
    started: bool,
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
        Ok(Self {
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
            last_key: Vec::new(),
            started: false,
            finished: false,
            batch: Batch::default(),
            rows: FIRST_ROWS,
        })
    }

    /// The next row as (full key, value); `None` at the end.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        self.lsm.check_not_closed()?;
        while self.batch.at == self.batch.ends.len() {
            if self.finished {
                return Ok(None);
            }
            self.fill()?;
        }
        self.batch.at += 1;
        Ok(Some(self.batch.row(self.batch.at - 1)))
    }

    fn fill(&mut self) -> Result<()> {
        self.batch.clear();
        let lsm = Arc::clone(&self.lsm);
        let pin = lsm.pin_reader();
        let context = ReadContext { cache: &lsm.cache, opener: &lsm.opener };
        let mut merge;
        if self.started && pin.generation() == self.generation {
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
            Direction::Forward => self.fill_forward(&mut merge)?,
            Direction::Backward => self.fill_backward(&mut merge)?,
        };
        self.finished = ended;
        self.started = true;
        self.rows = (self.rows * 4).min(ROWS_MAX);
        if ended {
            self.release();
        } else {
            self.parked = park(merge.into_sources(), &self.memtables);
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

    fn is_range_deleted(&self, key: &[u8], seqno: SeqNo) -> bool {
        self.range_deletes
            .iter()
            .any(|t| t.tombstones().covering_seqno(key, self.seqno).is_some_and(|cover| cover > seqno))
    }

    /// Whether the scan has reached its end.
    fn fill_forward(&mut self, merge: &mut Merge<'_>) -> Result<bool> {
        let bound = Trailer::seek(self.seqno);
        let mut any_done = self.started;
        let mut steps = 0;
        // Without a key that is done a lost position could not be found again: the first one is looked for to its end.
        while steps < STEPS_MAX || !any_done {
            if !merge.valid() {
                return Ok(true);
            }
            steps += 1;
            let (key, trailer) = (merge.key(), merge.trailer());
            if self.to.as_deref().is_some_and(|to| key >= to) {
                return Ok(true);
            }
            if trailer <= bound && !(any_done && key == self.last_key) {
                if self.batch.is_full(self.rows) {
                    return Ok(false);
                }
                self.last_key.clear();
                self.last_key.extend_from_slice(key);
                any_done = true;
                if trailer.kind() == Some(Kind::Put) && !self.is_range_deleted(key, trailer.seqno()) {
                    self.batch.push(key, merge.value());
                }
            }
            merge.advance()?;
        }
        Ok(false)
    }

    /// Whether the scan has reached its end. Versions of a key come oldest first: the last visible one counts.
    fn fill_backward(&mut self, merge: &mut Merge<'_>) -> Result<bool> {
        let bound = Trailer::seek(self.seqno);
        let (mut key, mut value, mut newest) = (Vec::new(), Vec::new(), None::<Trailer>);
        let mut steps = 0;
        loop {
            let same_key = merge.valid() && newest.is_some() && merge.key() == key;
            if !same_key && let Some(trailer) = newest.take() {
                if trailer.kind() == Some(Kind::Put) && !self.is_range_deleted(&key, trailer.seqno()) {
                    self.batch.push(&key, &value);
                }
                std::mem::swap(&mut self.last_key, &mut key);
                if self.batch.is_full(self.rows) || steps > STEPS_MAX {
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
