//! Range tombstones: the list as stored in the footer, and the same list arranged for lookups.
//!
//! Lookup structure: the tombstones' edges cut the key space into fragments. Walking the edges in order, each tombstone's
//! sequence number enters a set at its start and leaves it at its end; the set is a persistent binary trie over the rank of
//! the sequence numbers, so every fragment keeps the root of its own set and n tombstones take O(n log n) memory even when
//! all of them overlap (deleting everything below a rising key does that).

use crate::base::codec::{Reader, push_prefixed, push_varint};
use crate::base::ids::SeqNo;
use crate::format::Decoded;

/// A range tombstone: keys from `start` (inclusive) to `end` (exclusive) have no value written before `seqno`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTombstone {
    /// First full key covered.
    pub start: Vec<u8>,
    /// First full key behind the range.
    pub end: Vec<u8>,
    /// When the range was deleted.
    pub seqno: SeqNo,
}

/// Range tombstones arranged for lookups.
#[derive(Clone, Debug, Default)]
pub struct RangeTombstones {
    list: Vec<RangeTombstone>,
    /// Distinct edges, ascending, each with the set of sequence numbers alive from it up to the next edge.
    fragments: Vec<(Vec<u8>, u32)>,
    /// Distinct sequence numbers, ascending; the set's members are indices into it.
    seqnos: Vec<SeqNo>,
    sets: SetArena,
}

impl RangeTombstones {
    /// Arranges `list`. Empty ranges are dropped.
    #[must_use]
    pub fn new(mut list: Vec<RangeTombstone>) -> Self {
        list.retain(|t| t.start < t.end);
        let mut seqnos: Vec<_> = list.iter().map(|t| t.seqno).collect();
        seqnos.sort_unstable();
        seqnos.dedup();
        let mut edges: Vec<(&[u8], usize, bool)> = Vec::with_capacity(2 * list.len());
        for tombstone in &list {
            let rank = seqnos.partition_point(|&s| s < tombstone.seqno);
            edges.push((&tombstone.start, rank, true));
            edges.push((&tombstone.end, rank, false));
        }
        edges.sort_unstable_by_key(|&(key, rank, _)| (key, rank));
        let mut sets = SetArena::new(seqnos.len());
        let mut fragments: Vec<(Vec<u8>, u32)> = Vec::new();
        let mut set = 0;
        for (key, rank, enters) in edges {
            set = sets.change(set, rank, enters);
            match fragments.last_mut() {
                Some((edge, last)) if edge == key => *last = set,
                _ => fragments.push((key.to_vec(), set)),
            }
        }
        Self { list, fragments, seqnos, sets }
    }

    /// Whether there is no tombstone.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The tombstones in the order they were added.
    #[must_use]
    pub fn list(&self) -> &[RangeTombstone] {
        &self.list
    }

    /// Sequence number of the newest tombstone that covers `key` and is not above `bound`.
    #[inline]
    #[must_use]
    pub fn covering_seqno(&self, key: &[u8], bound: SeqNo) -> Option<SeqNo> {
        if self.list.is_empty() {
            return None;
        }
        let behind = self.fragments.partition_point(|(edge, _)| edge.as_slice() <= key);
        let &(_, set) = self.fragments.get(behind.checked_sub(1)?)?;
        let ranks = self.seqnos.partition_point(|&s| s <= bound);
        let rank = self.sets.largest_below(set, ranks)?;
        self.seqnos.get(rank).copied()
    }

    /// Whether a tombstone covers keys from `from` on and before `to`, if there is an end.
    #[must_use]
    pub fn overlaps(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        if to.is_some_and(|to| to <= from) {
            return false;
        }
        let behind = self.fragments.partition_point(|(edge, _)| edge.as_slice() <= from);
        let reached = self.fragments[behind.saturating_sub(1)..].iter();
        let mut before_end = reached.take_while(|(edge, _)| to.is_none_or(|to| edge.as_slice() < to));
        before_end.any(|&(_, set)| self.sets.is_inhabited(set))
    }

    /// Appends the list to the footer.
    pub fn encode_list(list: &[RangeTombstone], out: &mut Vec<u8>) {
        push_varint(out, list.len() as u64);
        for tombstone in list {
            push_prefixed(out, &tombstone.start);
            push_prefixed(out, &tombstone.end);
            push_varint(out, tombstone.seqno.0);
        }
    }

    /// Reads the list from the footer.
    ///
    /// # Errors
    /// The reason when it is none.
    pub fn decode_list(reader: &mut Reader<'_>) -> Decoded<Vec<RangeTombstone>> {
        const CUT: &str = "range tombstones are cut off";
        let count = reader.varint32().ok_or(CUT)?;
        let mut list = Vec::new();
        for _ in 0..count {
            let (start, end) = (reader.prefixed().ok_or(CUT)?, reader.prefixed().ok_or(CUT)?);
            let seqno = SeqNo(reader.varint().ok_or(CUT)?);
            if start >= end || seqno > SeqNo::MAX {
                return Err("range tombstone with an empty range or an impossible sequence number");
            }
            list.push(RangeTombstone { start: start.to_vec(), end: end.to_vec(), seqno });
        }
        Ok(list)
    }
}

/// A node of a set: members in the lower and upper half of its range of ranks. Node 0 is the empty set.
#[derive(Clone, Copy, Debug, Default)]
struct SetNode {
    low: u32,
    high: u32,
    /// Members, counting equal sequence numbers of different tombstones.
    count: u32,
}

/// All versions of the set; a change copies the path it touches.
#[derive(Clone, Debug, Default)]
struct SetArena {
    nodes: Vec<SetNode>,
    /// Ranks are below this power of two.
    span: usize,
}

impl SetArena {
    fn new(ranks: usize) -> Self {
        Self { nodes: vec![SetNode::default()], span: ranks.next_power_of_two() }
    }

    /// The set with `rank` added or removed once.
    fn change(&mut self, set: u32, rank: usize, add: bool) -> u32 {
        self.change_in(set, rank, self.span, add)
    }

    fn change_in(&mut self, set: u32, rank: usize, span: usize, add: bool) -> u32 {
        let mut node = self.nodes[set as usize];
        node.count = if add { node.count + 1 } else { node.count - 1 };
        let half = span / 2;
        if span > 1 && rank < half {
            node.low = self.change_in(node.low, rank, half, add);
        } else if span > 1 {
            node.high = self.change_in(node.high, rank - half, half, add);
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    fn is_inhabited(&self, set: u32) -> bool {
        self.nodes.get(set as usize).is_some_and(|node| node.count > 0)
    }

    /// The largest member below `limit`.
    fn largest_below(&self, set: u32, limit: usize) -> Option<usize> {
        self.largest_in(set, limit, self.span)
    }

    fn largest_in(&self, set: u32, limit: usize, span: usize) -> Option<usize> {
        let node = self.nodes.get(set as usize)?;
        if limit == 0 || node.count == 0 {
            return None;
        }
        if span == 1 {
            return Some(0);
        }
        let half = span / 2;
        if limit > half
            && let Some(rank) = self.largest_in(node.high, limit - half, half)
        {
            return Some(half + rank);
        }
        self.largest_in(node.low, limit.min(half), half)
    }
}

#[cfg(test)]
mod tests;
