//! Merges sorted sources (memtables, SSTs, runs of disjoint SSTs) into one order of internal keys, forward or backward.
//!
//! A binary heap of source indices; advancing the top source sifts it down, which costs two comparisons when the next entry
//! comes from the same source again, as it mostly does.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::base::key::{Trailer, compare};
use crate::cache::BlockCache;
use crate::error::Result;
use crate::lsm::memtable::Memtable;
use crate::lsm::view::{FileEntry, Opener};
use crate::mem::skiplist::Iter;
use crate::sst::iter::{ReadAhead, SstIter};

/// What sources need to read blocks.
#[derive(Clone, Copy)]
pub struct ReadContext<'a> {
    /// The block cache.
    pub cache: &'a BlockCache,
    /// Opens SSTs.
    pub opener: &'a Opener,
}

/// The SSTs of one level, which are disjoint and in key order, as one source.
pub struct Run {
    files: Vec<Arc<FileEntry>>,
    at: usize,
    iter: Option<SstIter>,
    read_ahead: ReadAhead,
}

impl Run {
    /// A run over `files`.
    #[must_use]
    pub fn new(files: Vec<Arc<FileEntry>>, read_ahead: ReadAhead) -> Self {
        Self { files, at: 0, iter: None, read_ahead }
    }

    fn open(&mut self, at: usize, context: ReadContext<'_>) -> Result<&mut SstIter> {
        if self.at != at || self.iter.is_none() {
            let reader = self.files[at].reader(context.opener)?;
            self.iter = Some(SstIter::new(Arc::clone(reader), self.read_ahead));
            self.at = at;
        }
        Ok(self.iter.as_mut().expect("opened above"))
    }

    fn seek(&mut self, key: &[u8], bound: Trailer, context: ReadContext<'_>) -> Result<()> {
        let at = self.files.partition_point(|f| &f.meta.largest[..] < key);
        if at == self.files.len() {
            self.iter = None;
            return Ok(());
        }
        self.open(at, context)?.seek(context.cache, key, bound)?;
        self.skip_forward(context)
    }

    fn seek_before(&mut self, key: Option<&[u8]>, context: ReadContext<'_>) -> Result<()> {
        let end = key.map_or(self.files.len(), |key| self.files.partition_point(|f| &f.meta.smallest[..] < key));
        let Some(at) = end.checked_sub(1) else {
            self.iter = None;
            return Ok(());
        };
        let iter = self.open(at, context)?;
        match key {
            // Trailer::MAX comes before every version of the key.
            Some(key) => iter.seek_for_prev(context.cache, key, Trailer::MAX)?,
            None => iter.last(context.cache)?,
        }
        self.skip_backward(context)
    }

    fn skip_forward(&mut self, context: ReadContext<'_>) -> Result<()> {
        while self.iter.as_ref().is_some_and(|i| !i.valid()) {
            if self.at + 1 == self.files.len() {
                self.iter = None;
                return Ok(());
            }
            self.open(self.at + 1, context)?.first(context.cache)?;
        }
        Ok(())
    }

    fn skip_backward(&mut self, context: ReadContext<'_>) -> Result<()> {
        while self.iter.as_ref().is_some_and(|i| !i.valid()) {
            if self.at == 0 {
                self.iter = None;
                return Ok(());
            }
            self.open(self.at - 1, context)?.last(context.cache)?;
        }
        Ok(())
    }
}

/// A sorted source of entries.
pub enum Source<'a> {
    /// A memtable; only while pinned.
    Memtable(Iter<'a>),
    /// One SST.
    Table(SstIter),
    /// Disjoint SSTs in key order.
    Run(Run),
}

impl Source<'_> {
    #[inline]
    fn valid(&self) -> bool {
        match self {
            Self::Memtable(iter) => iter.valid() && !Memtable::is_range_key(iter.key()),
            Self::Table(iter) => iter.valid(),
            Self::Run(run) => run.iter.as_ref().is_some_and(SstIter::valid),
        }
    }

    #[inline]
    fn table(&self) -> Option<&SstIter> {
        match self {
            Self::Memtable(_) => None,
            Self::Table(iter) => Some(iter),
            Self::Run(run) => run.iter.as_ref(),
        }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        match self {
            Self::Memtable(iter) => iter.key(),
            _ => self.table().expect("only valid sources are asked").key(),
        }
    }

    #[inline]
    fn trailer(&self) -> Trailer {
        match self {
            Self::Memtable(iter) => iter.trailer(),
            _ => self.table().expect("only valid sources are asked").trailer(),
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        match self {
            Self::Memtable(iter) => iter.value(),
            _ => self.table().expect("only valid sources are asked").value(),
        }
    }

    fn seek(&mut self, key: &[u8], bound: Trailer, context: ReadContext<'_>) -> Result<()> {
        match self {
            Self::Memtable(iter) => {
                iter.seek(key, bound);
                Ok(())
            }
            Self::Table(iter) => iter.seek(context.cache, key, bound),
            Self::Run(run) => run.seek(key, bound, context),
        }
    }

    /// Puts the source on its last entry with a full key below `key`; on its very last entry for `None`.
    fn seek_before(&mut self, key: Option<&[u8]>, context: ReadContext<'_>) -> Result<()> {
        match (self, key) {
            (Self::Memtable(iter), Some(key)) => iter.seek_before(key, Trailer::MAX),
            (Self::Memtable(iter), None) => iter.last(),
            (Self::Table(iter), Some(key)) => return iter.seek_for_prev(context.cache, key, Trailer::MAX),
            (Self::Table(iter), None) => return iter.last(context.cache),
            (Self::Run(run), key) => return run.seek_before(key, context),
        }
        Ok(())
    }

    #[inline]
    fn next(&mut self, context: ReadContext<'_>) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.next(),
            Self::Table(iter) => return iter.next(context.cache),
            Self::Run(run) => {
                run.iter.as_mut().expect("only valid sources advance").next(context.cache)?;
                return run.skip_forward(context);
            }
        }
        Ok(())
    }

    #[inline]
    fn prev(&mut self, context: ReadContext<'_>) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.prev(),
            Self::Table(iter) => return iter.prev(context.cache),
            Self::Run(run) => {
                run.iter.as_mut().expect("only valid sources advance").prev(context.cache)?;
                return run.skip_backward(context);
            }
        }
        Ok(())
    }
}

/// Which way a merge walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Keys ascending, versions of a key newest first.
    Forward,
    /// The exact reverse.
    Backward,
}

/// Sources merged in one order.
pub struct Merge<'a> {
    sources: Vec<Source<'a>>,
    /// Indices of the valid sources; the first is the one whose entry comes next.
    heap: Vec<u32>,
    direction: Direction,
    context: ReadContext<'a>,
}

impl<'a> Merge<'a> {
    /// A merge over `sources`, which keep their positions: seek, or call [`resume`](Self::resume).
    #[must_use]
    pub fn new(sources: Vec<Source<'a>>, direction: Direction, context: ReadContext<'a>) -> Self {
        let heap = Vec::with_capacity(sources.len());
        Self { sources, heap, direction, context }
    }

    /// Goes on from where the sources are.
    pub fn resume(&mut self) {
        self.heap.clear();
        let valid = self.sources.iter().zip(0u32..).filter(|(s, _)| s.valid()).map(|(_, at)| at);
        self.heap.extend(valid);
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    /// Forward: to the first entry at or after (`key`, `bound`).
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn seek(&mut self, key: &[u8], bound: Trailer) -> Result<()> {
        for source in &mut self.sources {
            source.seek(key, bound, self.context)?;
        }
        self.resume();
        Ok(())
    }

    /// Backward: to the last entry with a full key below `key` (`None`: to the last of all).
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn seek_before(&mut self, key: Option<&[u8]>) -> Result<()> {
        for source in &mut self.sources {
            source.seek_before(key, self.context)?;
        }
        self.resume();
        Ok(())
    }

    /// Gives the sources back, at their positions.
    #[must_use]
    pub fn into_sources(self) -> Vec<Source<'a>> {
        self.sources
    }

    /// Whether there is a current entry.
    #[inline]
    #[must_use]
    pub fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    #[inline]
    fn top(&self) -> &Source<'a> {
        &self.sources[self.heap[0] as usize]
    }

    /// Full key of the current entry.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.top().key()
    }

    /// Trailer of the current entry.
    #[inline]
    #[must_use]
    pub fn trailer(&self) -> Trailer {
        self.top().trailer()
    }

    /// Value of the current entry.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.top().value()
    }

    /// To the next entry in the merge's direction.
    ///
    /// # Errors
    /// I/O, corruption.
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        let source = &mut self.sources[self.heap[0] as usize];
        match self.direction {
            Direction::Forward => source.next(self.context)?,
            Direction::Backward => source.prev(self.context)?,
        }
        if !source.valid() {
            self.heap.swap_remove(0);
        }
        if self.heap.len() > 1 {
            self.sift_down(0);
        }
        Ok(())
    }

    #[inline]
    fn before(&self, a: u32, b: u32) -> bool {
        let (x, y) = (&self.sources[a as usize], &self.sources[b as usize]);
        let order = compare((x.key(), x.trailer()), (y.key(), y.trailer()));
        match self.direction {
            Direction::Forward => order == Ordering::Less,
            Direction::Backward => order == Ordering::Greater,
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut child = 2 * at + 1;
            if child >= self.heap.len() {
                return;
            }
            if child + 1 < self.heap.len() && self.before(self.heap[child + 1], self.heap[child]) {
                child += 1;
            }
            if !self.before(self.heap[child], self.heap[at]) {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }
}
