//! Any bytes as full keys and trailers.

use crate::base::key::{Trailer, common_prefix_len, full_key, prefix_successor, shortest_separator, split_full_key};

/// Must not panic on any input. The first byte says where the rest is cut into two keys.
///
/// # Panics
/// When a key does not read back as itself, or lies outside the bounds made from it, which is a bug.
#[doc(hidden)]
pub fn fuzz_key(data: &[u8]) {
    let Some((&at, rest)) = data.split_first() else { return };
    let (a, b) = rest.split_at(rest.len().min(usize::from(at)));
    for key in [a, b] {
        if let Some((tree, user_key)) = split_full_key(key) {
            assert_eq!(full_key(tree, user_key), key, "one key has one form");
        }
        if let Some(end) = prefix_successor(key) {
            assert!(end.as_slice() > key && !end.starts_with(key));
        }
        if let Some(bytes) = key.first_chunk() {
            let trailer = Trailer(u64::from_le_bytes(*bytes));
            let _ = (trailer.kind(), trailer.seqno(), trailer.without_seqno());
        }
    }
    let shared = common_prefix_len(a, b);
    assert!(a[..shared] == b[..shared] && a.get(shared) != b.get(shared) || shared == a.len().min(b.len()));
    if a < b {
        let between = shortest_separator(a, b);
        assert!(between.as_slice() >= a && between.as_slice() < b && between.len() <= a.len());
    }
}
