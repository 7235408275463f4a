//! What one serializable transaction has read of one tree: keys and ranges, bounded in number. Values only.
//!
//! What is read is remembered so that a later write can be held against it. Remembering more than was read is always right,
//! it only makes more transactions fail; so when there are too many keys they become the range from the first to the last,
//! and when that happens again, the whole tree.
//!
//! 1. Ranges are half open, not empty, disjoint, and do not touch. No key lies in a range.
//! 2. `whole`: everything was read, and there are no keys and ranges.

use std::collections::{BTreeMap, BTreeSet};

/// What was read of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReads {
    whole: bool,
    /// Keys became a range before.
    merged: bool,
    keys: BTreeSet<Vec<u8>>,
    /// Start to end; `None` is the end of the tree.
    ranges: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl TreeReads {
    /// Everything.
    #[must_use]
    pub fn whole() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// Whether `key` was read.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.whole || self.keys.contains(key) || self.in_range(key)
    }

    fn in_range(&self, key: &[u8]) -> bool {
        let before = self.ranges.range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)));
        before.last().is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end.as_slice()))
    }

    /// Keys and ranges remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + self.ranges.len()
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.len() == 0
    }

    /// Remembers a key; of more than `most` keys and ranges a larger range is made.
    pub fn add_key(&mut self, key: &[u8], most: usize) {
        if !self.covers(key) {
            self.keys.insert(key.to_vec());
            self.bound(most);
        }
    }

    /// Remembers the range from `from` to before `to`, or to the end of the tree.
    pub fn add_range(&mut self, from: &[u8], to: Option<&[u8]>, most: usize) {
        if self.whole || to.is_some_and(|to| to <= from) {
            return;
        }
        let (mut start, mut end) = (from.to_vec(), to.map(<[u8]>::to_vec));
        // Ranges that overlap or touch, from the last that may on downwards.
        loop {
            let reaches = |(from, to): (&Vec<u8>, &Option<Vec<u8>>)| {
                to.as_ref().is_none_or(|to| *to >= start).then(|| from.clone())
            };
            let candidate = match &end {
                Some(end) => self.ranges.range(..=end.clone()).next_back().and_then(reaches),
                None => self.ranges.last_key_value().and_then(reaches),
            };
            let Some(from) = candidate else { break };
            let to = self.ranges.remove(&from).expect("the range was just found");
            end = end.zip(to).map(|(a, b)| a.max(b));
            start = start.min(from);
        }
        let inside: Vec<_> =
            self.keys.range(start.clone()..).take_while(|&key| end.as_ref().is_none_or(|e| key < e)).cloned().collect();
        for key in inside {
            self.keys.remove(&key);
        }
        self.ranges.insert(start, end);
        self.bound(most);
    }

    /// Remembers everything.
    pub fn add_all(&mut self) {
        *self = Self::whole();
    }

    fn bound(&mut self, most: usize) {
        if self.len() <= most {
            return;
        }
        if self.merged {
            self.add_all();
            return;
        }
        self.merged = true;
        let after = |key: &Vec<u8>| [key.as_slice(), &[0]].concat();
        let first = self.keys.first().into_iter().chain(self.ranges.keys().next()).min().cloned().unwrap_or_default();
        let last = match self.ranges.values().next_back() {
            Some(None) => None,
            Some(Some(end)) => Some(self.keys.last().map(after).into_iter().fold(end.clone(), Ord::max)),
            None => self.keys.last().map(after),
        };
        self.keys.clear();
        self.ranges.clear();
        self.ranges.insert(first, last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_that_was_read_is_covered_and_nothing_else_while_there_is_room(
            steps in proptest::collection::vec((any::<bool>(), 0u8..40, 0u8..44), 1..30),
            most in 2usize..40,
        ) {
            let mut reads = TreeReads::default();
            let mut naive = BTreeSet::new();
            let mut promoted = false;
            for (is_range, a, b) in steps {
                if is_range {
                    // Ends past 40 are open.
                    let to = [b];
                    let to = (b < 40).then_some(&to[..]);
                    reads.add_range(&[a], to, most);
                    naive.extend(a..b.min(50).max(a));
                    if to.is_none() { naive.extend(a..50); }
                } else {
                    reads.add_key(&[a], most);
                    naive.insert(a);
                }
                promoted |= reads.merged || reads.whole;
                prop_assert!(reads.len() <= most);
                for key in 0u8..50 {
                    let covered = reads.covers(&[key]);
                    prop_assert!(covered || !naive.contains(&key), "{key} was read");
                    prop_assert!(promoted || !covered || naive.contains(&key), "{key} was not read");
                }
                let ranges: Vec<_> = reads.ranges.iter().collect();
                prop_assert!(ranges.windows(2).all(|w| w[0].1.as_ref().is_some_and(|end| end < w[1].0)));
                prop_assert!(reads.keys.iter().all(|key| !reads.in_range(key)));
            }
        }
    }

    #[test]
    fn many_keys_become_a_range_and_then_the_tree() {
        let mut reads = TreeReads::default();
        (10u8..15).for_each(|key| reads.add_key(&[key], 4));
        assert!(reads.covers(&[12, 7]) && !reads.covers(&[15]) && !reads.covers(&[9]));
        (20u8..24).for_each(|key| reads.add_key(&[key * 2], 4));
        assert_eq!(reads, TreeReads::whole());
    }
}
