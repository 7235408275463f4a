//! Merges sorted sources (memtables, SSTs, runs of disjoint SSTs) into one order of internal keys, forward or backward.
//!
//! A binary heap of source indices that knows its runner-up: when the next entry comes from the same source again, as it
//! mostly does, one comparison shows that. Sources that were parked are attached when they come to the top, so those that
//! have nothing to say cost nothing. A seek reads the blocks that it misses from all sources at once.
//!
//! *Alone:* rows that are changed all the time have newer versions in the active memtable than anywhere else. Where whoever reads knows
//! that no key lies between one of them and the next, the memtable walks on alone: the other sources stay where they are, and are sought
//! to the place when the walk alone ends. So a small table of hot rows costs a walk and one seek in each source, and not a turn of each
//! source for each row.

use std::cmp::Ordering;

use crate::base::key::{Trailer, compare};
use crate::env::IoDone;
use crate::error::Result;
use crate::lsm::scan::Follows;
use crate::sst::iter::{SstIter, Target};

pub mod source;
mod walk;

pub use source::{ReadContext, Run, Source};
pub use walk::Wish;
use walk::{End, walk_memtable, walk_newest, walk_table};

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
    /// Indices of the valid sources; the first is the one whose entry comes next. It is attached.
    heap: Vec<u32>,
    /// Where in the heap the source stands whose entry comes after those of the first; 0 when there is none.
    second: usize,
    direction: Direction,
    context: ReadContext<'a>,
    /// The first source, the active memtable, is the only one that is not behind.
    is_alone: bool,
}

impl<'a> Merge<'a> {
    /// A merge over `sources`, which keep their positions: seek, or call [`resume`](Self::resume).
    #[must_use]
    pub fn new(sources: Vec<Source<'a>>, direction: Direction, context: ReadContext<'a>) -> Self {
        let heap = Vec::with_capacity(sources.len());
        Self { sources, heap, second: 0, direction, context, is_alone: false }
    }

    /// Goes on from where the sources are.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn resume(&mut self) -> Result<()> {
        self.heap.clear();
        let valid = self.sources.iter().zip(0u32..).filter(|(s, _)| s.valid()).map(|(_, at)| at);
        self.heap.extend(valid);
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        self.new_top()
    }

    /// Whether only the first source is not behind: see the header. Sources that are given back so go on by
    /// [`resume_alone`](Self::resume_alone).
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Goes on from where the first source is; the others are behind.
    pub fn resume_alone(&mut self) {
        self.heap.clear();
        self.heap.push(0);
        (self.second, self.is_alone) = (0, true);
    }

    /// Forward: to the first entry at or after `from`, if the first source alone can tell which that is: it has a hot row there, and
    /// `follows` says that no key lies before it. Whether that is so; else [`seek`](Self::seek) is still to be called.
    pub fn seek_alone(&mut self, from: &[u8], follows: Follows) -> bool {
        let Some(Source::Memtable(iter)) = self.sources.first_mut() else { return false };
        iter.seek(from, Trailer::MAX);
        let is_known = iter.valid() && iter.has_older() && follows(from, iter.key());
        if is_known {
            self.resume_alone();
        }
        is_known
    }

    /// Forward: to the first entry at or after (`key`, `bound`).
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn seek(&mut self, key: &[u8], bound: Trailer) -> Result<()> {
        self.seek_from(0, key, bound)
    }

    /// Seeks in the sources from `first` on.
    fn seek_from(&mut self, first: usize, key: &[u8], bound: Trailer) -> Result<()> {
        let mut targets = vec![Target::Here; first];
        for source in &mut self.sources[first..] {
            targets.push(source.begin_seek(key, bound, self.context)?);
        }
        if targets.iter().filter(|target| matches!(target, Target::Missing(_))).count() > 1 {
            // Whatever goes wrong here goes wrong again, and is reported, where the block is needed.
            let _ = self.read_together(&targets);
        }
        for (source, target) in self.sources.iter_mut().zip(targets).skip(first) {
            source.finish_seek(key, bound, target, self.context)?;
        }
        self.resume()
    }

    /// Reads the blocks of all seeks that miss theirs at once, instead of one after the other.
    fn read_together(&mut self, targets: &[Target]) -> Result<()> {
        let queues = &self.context.opener.queues;
        let mut queue = queues.take()?;
        for (tag, (source, target)) in self.sources.iter_mut().zip(targets).enumerate() {
            if let Target::Missing(handle) = target
                && let Some(op) = source.table_mut().and_then(|table| table.read_op(handle))
            {
                queue.push(tag as u64, op)?;
            }
        }
        let (mut done, count) = (Vec::new(), queue.in_flight());
        queue.wait(count, &mut done)?;
        queues.give(queue);
        for IoDone { tag, result, buf } in done {
            if let (Some(table), Ok(len), Some(buf)) = (self.sources[tag as usize].table_mut(), result, buf) {
                table.take_read(buf, len);
            }
        }
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
        self.resume()
    }

    /// Gives the sources back, at their positions.
    #[must_use]
    pub fn into_sources(self) -> Vec<Source<'a>> {
        self.sources
    }

    /// Whether there is a current entry.
    #[inline]
    #[must_use]
    pub const fn valid(&self) -> bool {
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

    /// Whether the current entry stands in a block of the cache.
    #[inline]
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.top().table().is_some_and(SstIter::is_cached)
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
        let ended = !source.valid();
        if !ended && (self.second == 0 || self.before(self.heap[0], self.heap[self.second])) {
            return Ok(());
        }
        self.change_top(ended)
    }

    /// Forward: shows `take` the current entry, and those that follow it in the same source as long as they come before the
    /// entries of the other sources and before the full key `to`. An entry at which `take` stops stays the current one.
    /// Returns whether `take` ended the walk. Far cheaper than [`advance`](Self::advance) from entry to entry.
    ///
    /// `follows` says of two keys that none can lie between them; where it does, the active memtable, which is the first source,
    /// may walk alone.
    ///
    /// # Errors
    /// I/O, corruption.
    pub fn walk_top(
        &mut self,
        to: Option<&[u8]>,
        follows: Option<Follows>,
        take: impl FnMut(&[u8], Trailer, &[u8]) -> Wish,
    ) -> Result<bool> {
        debug_assert_eq!(self.direction, Direction::Forward);
        let (context, top) = (self.context, self.heap[0] as usize);
        let (source, rival) = if self.second == 0 {
            (&mut self.sources[top], None)
        } else {
            let second = self.heap[self.second] as usize;
            let [source, rival] =
                self.sources.get_disjoint_mut([top, second]).expect("the heap names each source once");
            (source, Some((rival.key(), rival.trailer())))
        };
        // Trailer::MAX is before all versions of `to`. An entry may be in two sources, so the current one is taken unasked.
        let limit = match (rival, to.map(|to| (to, Trailer::MAX))) {
            (Some(rival), Some(to)) if compare(rival, to) == Ordering::Greater => Some(to),
            (Some(rival), _) => Some(rival),
            (None, to) => to,
        };
        let end = match source {
            Source::Memtable(iter) => match follows.filter(|_| top == 0) {
                Some(follows) => walk_newest(iter, (limit, to), &mut self.is_alone, follows, take),
                None => walk_memtable(iter, limit, take),
            },
            Source::Table(iter) => walk_table(iter, context, limit, take)?,
            Source::Run(run) => {
                let iter = run.iter.as_mut().expect("the top source is valid");
                let end = walk_table(iter, context, limit, take)?;
                run.skip_forward(context)?;
                end
            }
        };
        match end {
            End::Stopped => return Ok(true),
            End::Passed => {
                let ended = !self.sources[top].valid();
                if ended || self.second != 0 {
                    self.change_top(ended)?;
                }
            }
            End::Alone(key, bound) => {
                self.is_alone = false;
                self.seek_from(1, &key, bound)?;
            }
        }
        Ok(false)
    }

    /// The top source has ended, or is not the first any more.
    fn change_top(&mut self, ended: bool) -> Result<()> {
        if ended {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        self.new_top()
    }

    fn new_top(&mut self) -> Result<()> {
        self.second = match self.heap.len() {
            0 | 1 => 0,
            2 => 1,
            _ => 1 + usize::from(self.before(self.heap[2], self.heap[1])),
        };
        self.heap.first().map_or(Ok(()), |&top| self.sources[top as usize].attach(self.context))
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
