//! Walking the list in both directions.

use super::{Entry, HEAD, HEIGHT_MAX, PREVIOUS, Skiplist, TAIL, node_of};
use crate::base::key::Trailer;
use crate::mem::sync::Ordering;

/// Steps from a node's hint to the node before it, after which a search is cheaper.
const HINT_STEPS_MAX: u32 = 16;

/// Level up to which links are followed ahead of a scan: eight entries on average.
const AHEAD_LEVEL_MAX: usize = 3;

/// A position in a list. It sees what is inserted meanwhile, where it has not passed yet.
#[derive(Clone)]
pub struct Iter<'a> {
    list: &'a Skiplist,
    /// The node, or 0.
    node: u32,
}

impl<'a> Iter<'a> {
    pub(super) const fn new(list: &'a Skiplist) -> Self {
        Self { list, node: 0 }
    }

    /// Whether there is an entry here.
    #[inline]
    #[must_use]
    pub const fn valid(&self) -> bool {
        self.node != 0
    }

    /// Goes to the first entry.
    pub fn first(&mut self) {
        self.node = node_of(self.list.link(HEAD, 0).load(Ordering::Acquire));
        self.prefetch_next();
    }

    /// Goes to the last entry.
    pub fn last(&mut self) {
        let mut node = HEAD;
        for level in (0..HEIGHT_MAX).rev() {
            loop {
                let next = node_of(self.list.link(node, level).load(Ordering::Acquire));
                if next == 0 {
                    break;
                }
                node = next;
            }
        }
        self.settle_before(node);
    }

    /// Goes to the first entry at or after (`key`, `bound`): of `key` with a trailer of at most `bound`, or of a larger key.
    #[inline]
    pub fn seek(&mut self, key: &[u8], bound: Trailer) {
        self.node = node_of(self.list.search(&self.list.target(key, bound)).link);
        self.prefetch_next();
    }

    /// Goes to the first entry of `key` that `bound` allows, as [`Skiplist::get_from`]; to none when there is none.
    #[inline]
    pub fn seek_from(&mut self, place: u32, key: &[u8], bound: Trailer) {
        self.node = self.list.allowed_from(place, key, bound).unwrap_or(0);
        self.prefetch_next();
    }

    /// Goes to the last entry at or before (`key`, `bound`) in the order of entries.
    pub fn seek_for_prev(&mut self, key: &[u8], bound: Trailer) {
        let stop = self.list.search(&self.list.target(key, bound));
        let next = node_of(stop.link);
        let exact = next != 0 && self.list.trailer(next) == bound && self.list.key(next) == key;
        self.settle_before(if exact { next } else { stop.before });
    }

    /// Goes to the last entry before (`key`, `bound`) in the order of entries.
    pub fn seek_before(&mut self, key: &[u8], bound: Trailer) {
        let stop = self.list.search(&self.list.target(key, bound));
        self.settle_before(stop.before);
    }

    /// Goes to the next entry; to none after the last. Does nothing where there is no entry.
    #[inline]
    pub fn next(&mut self) {
        if self.valid() {
            self.node = node_of(self.list.link(self.node, 0).load(Ordering::Acquire));
            self.prefetch_next();
        }
    }

    /// Whether the list had an older version of this key when the entry here came.
    #[inline]
    #[must_use]
    pub fn has_older(&self) -> bool {
        self.list.arena.half(self.here() + TAIL).load(Ordering::Relaxed) != 0
    }

    /// As [`next`](Self::next), but passes over the older versions of this key. A few that have come late may still follow.
    #[inline]
    pub fn pass_versions(&mut self) {
        if self.valid() {
            match self.list.arena.half(self.node + TAIL).load(Ordering::Relaxed) {
                0 => {}
                tail => self.node = tail,
            }
            self.next();
        }
    }

    /// Goes to the entry before; to none before the first. Does nothing where there is no entry.
    pub fn prev(&mut self) {
        if self.valid() {
            self.settle_before(self.node_before());
        }
    }

    /// The entry here.
    ///
    /// # Panics
    /// When there is none, here and below.
    #[inline]
    #[must_use]
    pub fn entry(&self) -> Entry<'a> {
        self.list.entry(self.here())
    }

    /// The full key here.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.list.key(self.here())
    }

    /// The trailer here.
    #[inline]
    #[must_use]
    pub fn trailer(&self) -> Trailer {
        self.list.trailer(self.here())
    }

    /// The value here.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.list.value(self.here())
    }

    /// A number for this position, to [`restore`](Self::restore) it on another iterator of this list, until its reset.
    #[inline]
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.node
    }

    /// Goes to a position that [`position`](Self::position) gave, on this list and since its last reset.
    #[inline]
    pub const fn restore(&mut self, position: u32) {
        self.node = position;
    }

    #[inline]
    fn here(&self) -> u32 {
        assert!(self.valid(), "no entry at this position");
        self.node
    }

    /// Whoever reads the entry will want its successor soon, and one a few entries further on a little later. The upper
    /// links of a node whose maker died may be stale bytes; as a hint they do no harm.
    #[inline]
    fn prefetch_next(&self) {
        if self.valid() {
            let list = self.list;
            list.arena.prefetch(node_of(list.link(self.node, 0).load(Ordering::Relaxed)));
            let ahead = (list.height_of(self.node) - 1).min(AHEAD_LEVEL_MAX);
            if ahead > 0 {
                list.arena.prefetch(node_of(list.link(self.node, ahead).load(Ordering::Relaxed)));
            }
        }
    }

    const fn settle_before(&mut self, node: u32) {
        self.node = if node == HEAD { 0 } else { node };
    }

    /// The node directly before this one, or the head.
    fn node_before(&self) -> u32 {
        let list = self.list;
        let hint = list.arena.half(self.node + PREVIOUS);
        // Whoever stored the hint had reached that node; acquiring the hint makes it complete for us, too.
        let old = hint.load(Ordering::Acquire);
        let mut before = old;
        for _ in 0..HINT_STEPS_MAX {
            let next = node_of(list.link(before, 0).load(Ordering::Acquire));
            if next == self.node {
                if before != old {
                    hint.store(before, Ordering::Release);
                }
                return before;
            }
            before = next;
        }
        let target = list.target(list.key(self.node), list.trailer(self.node));
        let before = list.search(&target).before;
        hint.store(before, Ordering::Release);
        before
    }
}
