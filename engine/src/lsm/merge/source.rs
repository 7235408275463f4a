//! What a merge reads from: memtables, SSTs, and runs of disjoint SSTs that are opened one after the other.

use std::ops::Range;
use std::sync::Arc;

use crate::base::ids::Level;
use crate::base::key::Trailer;
use crate::cache::BlockCache;
use crate::error::Result;
use crate::lsm::memtable::Memtable;
use crate::lsm::view::{FileEntry, Opener, View};
use crate::mem::skiplist::Iter;
use crate::sst::iter::{ReadAhead, SstIter, Target};

/// What sources need to read blocks.
#[derive(Clone, Copy)]
pub struct ReadContext<'a> {
    /// The block cache.
    pub cache: &'a BlockCache,
    /// Opens SSTs.
    pub opener: &'a Opener,
}

/// The files of a run.
enum RunFiles {
    List(Vec<Arc<FileEntry>>),
    /// A stretch of a level below L0.
    Level {
        view: Arc<View>,
        level: usize,
        range: Range<usize>,
    },
}

impl RunFiles {
    #[inline]
    fn slice(&self) -> &[Arc<FileEntry>] {
        match self {
            Self::List(files) => files,
            Self::Level { view, level, range } => &view.levels[*level][range.clone()],
        }
    }

    /// Index of the first file that does not end before `key`.
    fn lower_bound(&self, key: &[u8]) -> usize {
        match self {
            Self::List(files) => files.partition_point(|f| &f.meta.largest[..] < key),
            Self::Level { view, level, range } => {
                view.version.seek(Level(*level as u8), key).clamp(range.start, range.end) - range.start
            }
        }
    }
}

/// The SSTs of one level, which are disjoint and in key order, as one source.
pub struct Run<'c> {
    files: RunFiles,
    at: usize,
    pub(super) iter: Option<SstIter<'c>>,
    read_ahead: ReadAhead,
    until: Option<Arc<[u8]>>,
}

impl<'c> Run<'c> {
    /// A run over `files`.
    #[must_use]
    pub const fn new(files: Vec<Arc<FileEntry>>, read_ahead: ReadAhead) -> Self {
        Self { files: RunFiles::List(files), at: 0, iter: None, read_ahead, until: None }
    }

    /// A run over the files `range` of `level` of `view`.
    #[must_use]
    pub const fn of_level(view: Arc<View>, level: usize, range: Range<usize>, read_ahead: ReadAhead) -> Self {
        Self { files: RunFiles::Level { view, level, range }, at: 0, iter: None, read_ahead, until: None }
    }

    /// As [`SstIter::until`].
    #[must_use]
    pub fn until(mut self, until: Option<Arc<[u8]>>) -> Self {
        self.until = until;
        self
    }

    /// As [`SstIter::park`].
    #[must_use]
    pub fn park(self) -> Run<'static> {
        let Self { files, at, iter, read_ahead, until } = self;
        Run { files, at, iter: iter.map(SstIter::park), read_ahead, until }
    }

    fn open(&mut self, at: usize, context: ReadContext<'_>) -> Result<&mut SstIter<'c>> {
        if self.at != at || self.iter.is_none() {
            let reader = self.files.slice()[at].reader(context.opener)?;
            self.iter = Some(SstIter::new(Arc::clone(reader), self.read_ahead).until(self.until.clone()));
            self.at = at;
        }
        Ok(self.iter.as_mut().expect("opened above"))
    }

    fn begin_seek(&mut self, key: &[u8], bound: Trailer, context: ReadContext<'c>) -> Result<Target> {
        let at = self.files.lower_bound(key);
        if at == self.files.slice().len() {
            self.iter = None;
            return Ok(Target::Behind);
        }
        self.open(at, context)?.begin_seek(context.cache, key, bound)
    }

    fn finish_seek(&mut self, key: &[u8], bound: Trailer, target: Target, context: ReadContext<'c>) -> Result<()> {
        let Some(iter) = &mut self.iter else { return Ok(()) };
        iter.finish_seek(context.cache, key, bound, target)?;
        self.skip_forward(context)
    }

    fn seek_before(&mut self, key: Option<&[u8]>, context: ReadContext<'c>) -> Result<()> {
        let files = self.files.slice();
        let end = key.map_or(files.len(), |key| files.partition_point(|f| &f.meta.smallest[..] < key));
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

    pub(super) fn skip_forward(&mut self, context: ReadContext<'c>) -> Result<()> {
        while self.iter.as_ref().is_some_and(|i| !i.valid()) {
            if self.at + 1 == self.files.slice().len() {
                self.iter = None;
                return Ok(());
            }
            self.open(self.at + 1, context)?.first(context.cache)?;
        }
        Ok(())
    }

    fn skip_backward(&mut self, context: ReadContext<'c>) -> Result<()> {
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
    Table(SstIter<'a>),
    /// Disjoint SSTs in key order.
    Run(Run<'a>),
}

impl<'a> Source<'a> {
    #[inline]
    pub(super) fn valid(&self) -> bool {
        match self {
            Self::Memtable(iter) => iter.valid() && !Memtable::is_range_key(iter.key()),
            Self::Table(iter) => iter.valid(),
            Self::Run(run) => matches!(&run.iter, Some(iter) if iter.valid()),
        }
    }

    #[inline]
    pub(super) fn table(&self) -> Option<&SstIter<'a>> {
        match self {
            Self::Memtable(_) => None,
            Self::Table(iter) => Some(iter),
            Self::Run(run) => run.iter.as_ref(),
        }
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Memtable(iter) => iter.key(),
            _ => self.table().expect("only valid sources are asked").key(),
        }
    }

    #[inline]
    pub(super) fn trailer(&self) -> Trailer {
        match self {
            Self::Memtable(iter) => iter.trailer(),
            _ => self.table().expect("only valid sources are asked").trailer(),
        }
    }

    #[inline]
    pub(super) fn value(&self) -> &[u8] {
        match self {
            Self::Memtable(iter) => iter.value(),
            _ => self.table().expect("only valid sources are asked").value(),
        }
    }

    /// Has what a look at the value, or a move, needs.
    #[inline]
    pub(super) fn attach(&mut self, context: ReadContext<'a>) -> Result<()> {
        match self {
            Self::Memtable(_) => Ok(()),
            Self::Table(iter) => iter.attach(context.cache),
            Self::Run(run) => run.iter.as_mut().map_or(Ok(()), |iter| iter.attach(context.cache)),
        }
    }

    /// Finds where a seek goes; a memtable, which reads nothing, goes there at once.
    pub(super) fn begin_seek(&mut self, key: &[u8], bound: Trailer, context: ReadContext<'a>) -> Result<Target> {
        match self {
            Self::Memtable(iter) => {
                iter.seek(key, bound);
                Ok(Target::Here)
            }
            Self::Table(iter) => iter.begin_seek(context.cache, key, bound),
            Self::Run(run) => run.begin_seek(key, bound, context),
        }
    }

    pub(super) fn finish_seek(
        &mut self,
        key: &[u8],
        bound: Trailer,
        target: Target,
        context: ReadContext<'a>,
    ) -> Result<()> {
        match self {
            Self::Memtable(_) => Ok(()),
            Self::Table(iter) => iter.finish_seek(context.cache, key, bound, target),
            Self::Run(run) => run.finish_seek(key, bound, target, context),
        }
    }

    pub(super) fn table_mut(&mut self) -> Option<&mut SstIter<'a>> {
        match self {
            Self::Memtable(_) => None,
            Self::Table(iter) => Some(iter),
            Self::Run(run) => run.iter.as_mut(),
        }
    }

    /// Puts the source on its last entry with a full key below `key`; on its very last entry for `None`.
    pub(super) fn seek_before(&mut self, key: Option<&[u8]>, context: ReadContext<'a>) -> Result<()> {
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
    pub(super) fn next(&mut self, context: ReadContext<'a>) -> Result<()> {
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
    pub(super) fn prev(&mut self, context: ReadContext<'a>) -> Result<()> {
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
