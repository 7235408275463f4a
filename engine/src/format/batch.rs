//! A batch of writes as bytes: what a log record carries and what replay applies.
//!
//! ```text
//! operation   kind u8 (base::key::Kind) | key_len varint | key | value_len varint | value
//! batch       operation*
//! ```
//! `key` is a full key. A delete has an empty value; a range delete's key is its start (inclusive) and its value its end
//! (exclusive), both full keys with start < end. Operation `i` of a batch takes sequence number `first + i`. The bytes are
//! covered by the log record's checksum.

use crate::base::codec::{Reader, push_prefixed, varint_len};
use crate::base::key::Kind;

/// One operation of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    /// What it does.
    pub kind: Kind,
    /// The full key; for a range delete the start.
    pub key: &'a [u8],
    /// The value; for a range delete the end (exclusive).
    pub value: &'a [u8],
}

/// Appends one operation.
pub fn push_op(out: &mut Vec<u8>, op: Op<'_>) {
    out.reserve(
        1 + varint_len(op.key.len() as u64) + op.key.len() + varint_len(op.value.len() as u64) + op.value.len(),
    );
    out.push(op.kind as u8);
    push_prefixed(out, op.key);
    push_prefixed(out, op.value);
}

/// Reads the operations of a batch. Yields `Err` once, with the offset of the first operation that is malformed.
pub struct Ops<'a> {
    len: usize,
    reader: Reader<'a>,
    failed: bool,
}

/// The operations in `bytes`.
#[must_use]
pub const fn ops(bytes: &[u8]) -> Ops<'_> {
    Ops { len: bytes.len(), reader: Reader::new(bytes), failed: false }
}

/// Offset in the batch of an operation that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub usize);

impl<'a> Ops<'a> {
    fn read(&mut self) -> Option<Op<'a>> {
        let kind = Kind::from_tag(self.reader.u8()?)?;
        let key = self.reader.prefixed()?;
        let value = self.reader.prefixed()?;
        let sound = match kind {
            Kind::Put => true,
            Kind::Delete => value.is_empty(),
            Kind::RangeDelete => key < value,
        };
        sound.then_some(Op { kind, key, value })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() || self.failed {
            return None;
        }
        let at = self.len - self.reader.rest().len();
        let op = self.read();
        self.failed = op.is_none();
        Some(op.ok_or(Malformed(at)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// docs/formats/batch.md shows the same bytes with their meaning.
    const GOLDEN: &[u8] = b"\x02\x03\x01\x01k\x05value\x01\x03\x01\x01x\x00\x03\x03\x01\x01a\x03\x01\x01c";

    #[test]
    fn golden_bytes() {
        let want = [
            Op { kind: Kind::Put, key: b"\x01\x01k", value: b"value" },
            Op { kind: Kind::Delete, key: b"\x01\x01x", value: b"" },
            Op { kind: Kind::RangeDelete, key: b"\x01\x01a", value: b"\x01\x01c" },
        ];
        let mut bytes = Vec::new();
        for op in want {
            push_op(&mut bytes, op);
        }
        assert_eq!(bytes, GOLDEN);
        assert_eq!(ops(GOLDEN).collect::<Result<Vec<_>, _>>().unwrap(), want);
    }

    #[test]
    fn malformed_operations_name_their_offset() {
        let mut bytes = GOLDEN.to_vec();
        bytes[11] = 9;
        assert_eq!(ops(&bytes).last(), Some(Err(Malformed(11))), "unknown kind");
        for cut in 1..GOLDEN.len() {
            let whole = [11, 17].contains(&cut);
            assert_eq!(ops(&GOLDEN[..cut]).any(|op| op.is_err()), !whole, "cut at {cut}");
        }
        let empty_range = b"\x03\x01a\x01a";
        assert_eq!(ops(empty_range).next(), Some(Err(Malformed(0))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ops(&bytes).count();
        }
    }
}
