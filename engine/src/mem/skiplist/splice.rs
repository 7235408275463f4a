//! Where the last insert was, so that the next one near it need not search from the top.
//!
//! For each level the splice has the last node before the insert and the link it had there. Invariants:
//! 1. Every node in `before` is on its level, of the list and epoch that the splice names.
//! 2. `before` does not fall from a level to the one below: if it lies before a target on some level, so do all above.
//! 3. `links` may be stale. It only says where a search begins; nothing is linked in by it before it was read again.

use super::{HEAD, HEIGHT_MAX, Skiplist, Stop, Target, node_of};
use crate::mem::sync::Ordering;

/// A place in a list, remembered between inserts. Works with any list; it starts over when the list changes.
#[derive(Clone, Debug, Default)]
pub struct Splice {
    /// List and epoch; no list has id 0.
    list: (u64, u64),
    /// The last node before, as a link would lead to it.
    before: [u64; HEIGHT_MAX],
    links: [u64; HEIGHT_MAX],
}

impl Splice {
    #[inline]
    pub(super) const fn stop(&self, level: usize) -> Stop {
        Stop { before: node_of(self.before[level]), link: self.links[level], found: false }
    }

    /// A node was linked in on `level`; `new` leads to it and `link` leaves it.
    #[inline]
    pub(super) const fn put(&mut self, level: usize, new: u64, link: u64) {
        self.before[level] = new;
        self.links[level] = link;
    }

    /// Starts over with the next insert.
    pub(super) const fn forget(&mut self) {
        self.list = (0, 0);
    }
}

impl Skiplist {
    /// Moves the splice to `target`. Returns the number of levels, from 0, on which it is up to date; on those above it
    /// lies before the target and must be walked on. `None` when the target is in the list already.
    #[inline]
    pub(super) fn seat(&self, splice: &mut Splice, target: &Target<'_>) -> Option<usize> {
        let list = (self.id, self.arena.epoch());
        let top = if splice.list == list { self.enclosing_level(splice, target) } else { HEIGHT_MAX };
        if top == HEIGHT_MAX {
            splice.before = [u64::from(HEAD); HEIGHT_MAX];
        }
        splice.list = list;
        let start = top.min(HEIGHT_MAX - 1);
        let mut at = splice.before[start];
        let mut beyond = 0;
        for level in (0..=start).rev() {
            let stop = self.walk_links(at, level, target, beyond);
            let Some((before, link)) = stop else {
                splice.forget();
                return None;
            };
            (at, beyond) = (before, node_of(link));
            (splice.before[level], splice.links[level]) = (before, link);
        }
        Some(start + 1)
    }

    /// The lowest level on which the target lies between the splice's node and that node's present successor, so that the
    /// search below begins next to the target; `HEIGHT_MAX` when there is none.
    #[inline]
    fn enclosing_level(&self, splice: &Splice, target: &Target<'_>) -> usize {
        let is_before =
            |link: u64| link > target.above || (link >= target.below && self.compare(node_of(link), target).is_lt());
        let encloses = |level: usize| {
            let (before, link) = (splice.before[level], splice.links[level]);
            (node_of(before) == HEAD || is_before(before))
                && (node_of(link) == 0 || !is_before(link))
                && self.link(node_of(before), level).load(Ordering::Relaxed) == link
        };
        (0..HEIGHT_MAX).find(|&level| encloses(level)).unwrap_or(HEIGHT_MAX)
    }

    /// As `walk`, but keeps the node in the form of a link to it; `None` when the target is found.
    #[inline]
    fn walk_links(&self, from: u64, level: usize, target: &Target<'_>, beyond: u32) -> Option<(u64, u64)> {
        let mut before = from;
        loop {
            let link = self.link(node_of(before), level).load(Ordering::Acquire);
            if link > target.above {
                before = link;
                continue;
            }
            let next = node_of(link);
            if link >= target.below && next != beyond && next != 0 {
                match self.compare(next, target) {
                    std::cmp::Ordering::Less => {
                        before = link;
                        continue;
                    }
                    std::cmp::Ordering::Equal => return None,
                    std::cmp::Ordering::Greater => {}
                }
            }
            return Some((before, link));
        }
    }
}
