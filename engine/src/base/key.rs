//! Keys as the LSM orders them: a *full key* (tree and user key, compared by memcmp) and a *trailer* (sequence and kind).
//!
//! A full key is the tree id in an order-preserving, prefix-free form followed by the user's bytes, so that one `memcmp`
//! orders keys of all trees. The trailer orders the versions of one full key, newest first. Together they are the
//! *internal key*; in memory and in blocks the two parts are always kept apart, never concatenated.
//!
//! Invariants:
//! 1. `tree_prefix(a) < tree_prefix(b)` (as bytes) exactly when `a < b`, and neither is a prefix of the other.
//! 2. Of two entries with equal full keys the one with the larger trailer comes first.
//! 3. No two different entries have the same full key and the same sequence number.

use std::cmp::Ordering;

use super::ids::{SeqNo, TreeId};

/// What an entry says about its key. Tag 0 is reserved, so that zeroed bytes are never a valid entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key has no value from this sequence number on.
    Delete = 1,
    /// The key has this value from this sequence number on.
    Put = 2,
    /// All keys from the entry's key (inclusive) to its value (exclusive) have no value from this sequence number on.
    RangeDelete = 3,
}

impl Kind {
    /// The kind with tag `tag`, or `None` for a tag that no version of the format uses.
    #[must_use]
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Delete),
            2 => Some(Self::Put),
            3 => Some(Self::RangeDelete),
            _ => None,
        }
    }
}

/// Sequence number (upper 56 bits) and kind (lower 8 bits) of an entry in one word.
///
/// The natural order of trailers is oldest first; entries of one key are stored in descending order of trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trailer(pub u64);

impl Trailer {
    /// Larger than every trailer of an entry: seeking with it finds the newest version of a key.
    pub const MAX: Self = Self(u64::MAX);

    /// The trailer of an entry.
    #[must_use]
    pub const fn new(seqno: SeqNo, kind: Kind) -> Self {
        Self((seqno.0 << 8) | kind as u64)
    }

    /// The bound to seek with in order to find the newest version that a reader at `seqno` may see.
    #[must_use]
    pub const fn seek(seqno: SeqNo) -> Self {
        Self((seqno.0 << 8) | 0xFF)
    }

    /// The entry's sequence number.
    #[must_use]
    pub const fn seqno(self) -> SeqNo {
        SeqNo(self.0 >> 8)
    }

    /// The same kind with sequence number zero: older than everything, visible to everybody.
    #[must_use]
    pub const fn without_seqno(self) -> Self {
        Self(self.0 & 0xFF)
    }

    /// The entry's kind, or `None` when the tag is unknown (bytes from disk that lie).
    #[must_use]
    pub const fn kind(self) -> Option<Kind> {
        Kind::from_tag((self.0 & 0xFF) as u8)
    }
}

/// Order of internal keys: full key ascending, then trailer descending.
#[inline]
#[must_use]
pub fn compare(a: (&[u8], Trailer), b: (&[u8], Trailer)) -> Ordering {
    a.0.cmp(b.0).then_with(|| b.1.cmp(&a.1))
}

/// Longest encoding of a tree id: one length byte and eight bytes of number.
pub const TREE_PREFIX_LEN_MAX: usize = 9;

/// The order-preserving form of `tree`, and its length: a byte with the count of significant bytes, then those, big-endian.
#[inline]
#[must_use]
pub const fn tree_prefix(tree: TreeId) -> ([u8; TREE_PREFIX_LEN_MAX], usize) {
    let skip = tree.0.leading_zeros() / 8;
    let skip = if skip < 7 { skip } else { 7 };
    let [a, b, c, d, e, f, g, h] = (tree.0 << (8 * skip)).to_be_bytes();
    ([8 - skip as u8, a, b, c, d, e, f, g, h], 9 - skip as usize)
}

/// Appends the order-preserving form of `tree`.
pub fn push_tree_prefix(out: &mut Vec<u8>, tree: TreeId) {
    let (bytes, len) = tree_prefix(tree);
    out.extend_from_slice(&bytes[..len]);
}

/// The full key of `user_key` in `tree`.
#[must_use]
pub fn full_key(tree: TreeId, user_key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(TREE_PREFIX_LEN_MAX + user_key.len());
    push_tree_prefix(&mut out, tree);
    out.extend_from_slice(user_key);
    out
}

/// Splits a full key into its tree and user key; `None` when the prefix is not one that [`push_tree_prefix`] writes.
#[must_use]
pub fn split_full_key(full: &[u8]) -> Option<(TreeId, &[u8])> {
    let (&len, rest) = full.split_first()?;
    let len = usize::from(len);
    if !(1..=8).contains(&len) || rest.len() < len {
        return None;
    }
    let (number, user_key) = rest.split_at(len);
    if len > 1 && number[0] == 0 {
        return None;
    }
    let mut bytes = [0; 8];
    bytes[8 - len..].copy_from_slice(number);
    Some((TreeId(u64::from_be_bytes(bytes)), user_key))
}

/// Length of the longest common prefix of `a` and `b`.
#[inline]
#[must_use]
pub fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let mut at = 0;
    for (x, y) in words {
        if x != y {
            break;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(x, y)| x == y).count()
}

/// The shortest key `k` with `a <= k < b` that index entries may use instead of `a`; `a` itself when none is shorter.
///
/// # Panics
/// When `a >= b`.
#[must_use]
pub fn shortest_separator(a: &[u8], b: &[u8]) -> Vec<u8> {
    assert!(a < b, "separator of keys that do not rise");
    let shared = common_prefix_len(a, b);
    if shared < a.len() && a[shared] < 0xFF && a[shared] + 1 < b[shared] {
        let mut out = a[..=shared].to_vec();
        out[shared] += 1;
        return out;
    }
    a.to_vec()
}

/// The smallest key larger than every key that starts with `prefix`; `None` when there is none (all bytes 0xFF).
#[must_use]
pub fn prefix_successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let end = prefix.iter().rposition(|&b| b != 0xFF)?;
    let mut out = prefix[..=end].to_vec();
    out[end] += 1;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_prefixes_order_like_numbers() {
        let ids = [0, 1, 2, 255, 256, 257, 65_535, 65_536, 1 << 40, u64::MAX - 1, u64::MAX];
        let keys: Vec<_> = ids.iter().map(|&id| full_key(TreeId(id), b"k")).collect();
        assert!(keys.windows(2).all(|w| w[0] < w[1]));
        for (&id, key) in ids.iter().zip(&keys) {
            assert_eq!(split_full_key(key), Some((TreeId(id), &b"k"[..])));
        }
        assert_eq!(split_full_key(&[]), None);
        assert_eq!(split_full_key(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(split_full_key(&[2, 0, 7]), None, "not the shortest form");
    }

    #[test]
    fn newer_versions_come_first() {
        let newer = Trailer::new(SeqNo(9), Kind::Put);
        let older = Trailer::new(SeqNo(8), Kind::Put);
        assert_eq!(compare((b"a", newer), (b"a", older)), Ordering::Less);
        assert_eq!(compare((b"a", older), (b"b", newer)), Ordering::Less);
        assert!(Trailer::seek(SeqNo(9)) > newer && Trailer::seek(SeqNo(8)) < newer);
        assert_eq!(newer.seqno(), SeqNo(9));
        assert_eq!(newer.kind(), Some(Kind::Put));
    }

    #[test]
    fn separators_lie_between() {
        for (a, b, want) in [(&b"abc"[..], &b"abf"[..], &b"abd"[..]), (b"abc", b"abd", b"abc"), (b"a", b"ab", b"a")] {
            let got = shortest_separator(a, b);
            assert_eq!(got, want);
            assert!(got.as_slice() >= a && got.as_slice() < b);
        }
        assert_eq!(prefix_successor(&[1, 0xFF]), Some(vec![2]));
        assert_eq!(prefix_successor(&[0xFF, 0xFF]), None);
    }
}
