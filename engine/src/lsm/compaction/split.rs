//! Where a large merge is cut into pieces of about equal bytes: pure.

/// A stretch of an input: the bytes before `end`, a full key, that are not before the stretch's predecessor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// No key of the stretch is larger.
    pub end: Vec<u8>,
    /// Bytes of the stretch.
    pub bytes: u64,
}

/// The keys at which the data of `stretches` (of all inputs, in any order) is cut into at most `pieces` pieces. They rise,
/// and no piece is without bytes.
#[must_use]
pub fn split_keys(mut stretches: Vec<Stretch>, pieces: u64) -> Vec<Vec<u8>> {
    stretches.sort_by(|a, b| a.end.cmp(&b.end));
    let total: u64 = stretches.iter().map(|s| s.bytes).sum();
    let (mut keys, mut sum): (Vec<Vec<u8>>, u64) = (Vec::new(), 0);
    for stretch in stretches {
        sum += stretch.bytes;
        let due = u128::from(sum) * u128::from(pieces) >= u128::from(total) * (keys.len() as u128 + 1);
        let rest = (keys.len() as u64) + 1 < pieces && sum < total;
        if due && rest && keys.last().is_none_or(|last| *last < stretch.end) {
            keys.push(stretch.end);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(stretches: &[(&str, u64)], pieces: u64) -> Vec<String> {
        let of = |&(end, bytes): &(&str, u64)| Stretch { end: end.as_bytes().to_vec(), bytes };
        let keys = split_keys(stretches.iter().map(of).collect(), pieces);
        keys.into_iter().map(|key| String::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn pieces_have_about_equal_bytes() {
        let even = [("b", 10), ("d", 10), ("f", 10), ("h", 10)];
        assert_eq!(cut(&even, 1), [""; 0]);
        assert_eq!(cut(&even, 2), ["d"]);
        assert_eq!(cut(&even, 4), ["b", "d", "f"]);
        assert_eq!(cut(&even, 9), ["b", "d", "f"], "no piece is empty");
        assert_eq!(cut(&[("b", 10), ("c", 90), ("d", 1)], 2), ["c"]);
        assert_eq!(cut(&[("z", 50), ("a", 50)], 2), ["a"], "inputs overlap and come in any order");
        assert_eq!(cut(&[("a", 50), ("a", 50), ("b", 1)], 3), ["a"], "no key twice");
        assert_eq!(cut(&[], 2), [""; 0]);
    }
}
