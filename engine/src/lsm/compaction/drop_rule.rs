//! Which versions of a key a flush or compaction keeps: pure, one verdict per entry.
//!
//! The readers are the live snapshots and "now", which the caller lists as one more snapshot; each sees of a key the newest
//! version at or below its sequence number. So the versions of a key fall into *stripes*, one per snapshot: of each stripe
//! the newest version is needed and the others are garbage. What a newer range tombstone of the same stripe covers is
//! garbage as well. At the bottom (no older data below) a delete that every snapshot can see hides nothing, and a sequence
//! number that every snapshot can see may be forgotten, unless an older range tombstone covers the key: that one may stay,
//! because its range has older data elsewhere, and must go on being the older one.
//!
//! Entries above the largest snapshot are readable by nobody the caller knows of and are all kept.

use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer};

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written as it is.
    Keep,
    /// It is written with sequence number 0: every reader sees it.
    KeepZeroSeqno,
    /// Nobody can see it.
    Drop,
}

/// Judges the entries of a merge, in its order.
#[derive(Debug)]
pub struct DropRule {
    /// Ascending.
    snapshots: Vec<SeqNo>,
    /// Stripe of the last version of the current key that readers stop at: a kept one, or a delete dropped at the bottom.
    decided: Option<usize>,
}

impl DropRule {
    /// A rule for readers at `snapshots`, ascending, "now" among them.
    #[must_use]
    pub const fn new(snapshots: Vec<SeqNo>) -> Self {
        Self { snapshots, decided: None }
    }

    /// The stripe of `seqno`: how many snapshots do not see it. Equal stripes, equal readers.
    fn stripe(&self, seqno: SeqNo) -> usize {
        self.snapshots.partition_point(|&snapshot| snapshot < seqno)
    }

    /// Judges the next entry. `new_key`: its full key differs from the one before. `covering`: the newest range tombstone,
    /// up to a sequence number, that covers the key. `bottommost`: no level below has data for the key.
    pub fn judge(
        &mut self,
        new_key: bool,
        trailer: Trailer,
        covering: impl FnOnce(SeqNo) -> Option<SeqNo>,
        bottommost: bool,
    ) -> Verdict {
        if new_key {
            self.decided = None;
        }
        let seqno = trailer.seqno();
        let stripe = self.stripe(seqno);
        if stripe == self.snapshots.len() {
            return Verdict::Keep;
        }
        if self.decided == Some(stripe) {
            return Verdict::Drop;
        }
        // Only a tombstone that all readers of this entry see hides it from all of them: one of the same stripe.
        let covered = covering(self.snapshots[stripe]);
        if covered.is_some_and(|cover| cover > seqno) {
            return Verdict::Drop;
        }
        self.decided = Some(stripe);
        let seen_by_all = stripe == 0;
        match (bottommost && seen_by_all, trailer.kind()) {
            (true, Some(Kind::Delete)) => Verdict::Drop,
            (true, Some(Kind::Put)) if covered.is_none() => Verdict::KeepZeroSeqno,
            _ => Verdict::Keep,
        }
    }

    /// Whether a range tombstone is still needed by a merge that has removed what it covers from its inputs.
    /// `bottommost`: no level below has data in its range.
    #[must_use]
    pub fn keeps_range_tombstone(&self, seqno: SeqNo, bottommost: bool) -> bool {
        !bottommost || self.stripe(seqno) != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One version: sequence number, and whether it is a put.
    type Version = (u64, bool);

    /// The sequence number of the put that a reader at `at` sees; `None` for nothing.
    fn read(versions: &[Version], tombstones: &[u64], at: u64) -> Option<u64> {
        let (seqno, put) = versions.iter().find(|v| v.0 <= at).copied()?;
        let covered = tombstones.iter().any(|&t| t <= at && t > seqno);
        (put && !covered).then_some(seqno)
    }

    proptest! {
        #[test]
        fn every_reader_reads_the_same_before_and_after(
            mut versions in proptest::collection::vec((1u64..40, any::<bool>()), 1..12),
            tombstones in proptest::collection::vec(1u64..40, 0..3),
            mut snapshots in proptest::collection::vec(1u64..40, 0..5),
            bottommost in any::<bool>(),
            older_data_in_range in any::<bool>(),
        ) {
            versions.sort_by_key(|v| std::cmp::Reverse(v.0));
            versions.dedup_by_key(|v| v.0);
            snapshots.push(40);
            snapshots.sort_unstable();
            let mut rule = DropRule::new(snapshots.iter().map(|&s| SeqNo(s)).collect());
            let mut kept = Vec::new();
            let mut zeroed = None;
            for (at, &(seqno, put)) in versions.iter().enumerate() {
                let kind = if put { Kind::Put } else { Kind::Delete };
                let covering = |bound: SeqNo| tombstones.iter().filter(|&&t| t <= bound.0).max().map(|&t| SeqNo(t));
                match rule.judge(at == 0, Trailer::new(SeqNo(seqno), kind), covering, bottommost) {
                    Verdict::Keep => kept.push((seqno, put)),
                    Verdict::KeepZeroSeqno => {
                        kept.push((0, put));
                        zeroed = Some(seqno);
                    }
                    Verdict::Drop => {}
                }
            }
            let left: Vec<_> = tombstones
                .iter()
                .copied()
                .filter(|&t| rule.keeps_range_tombstone(SeqNo(t), bottommost && !older_data_in_range))
                .collect();
            for &at in &snapshots {
                // A version without its number is the one it was.
                let after = read(&kept, &left, at).map(|seqno| if seqno == 0 { zeroed.unwrap_or(0) } else { seqno });
                prop_assert_eq!(read(&versions, &tombstones, at), after, "at {}", at);
            }
        }
    }
}
