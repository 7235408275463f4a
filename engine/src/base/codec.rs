//! Readers and writers of little-endian integers and varints that cannot panic on any input.
//!
//! Varints are LEB128: seven bits a byte, low bits first, the high bit says that another byte follows. Decoders accept
//! only what fits the type; over-long forms (`80 00`) are refused, so that equal values have equal bytes.

/// A cursor over bytes from disk. Every method returns `None` instead of reading past the end.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        Some(head)
    }

    /// A single byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let (&first, tail) = self.rest.split_first()?;
        self.rest = tail;
        Some(first)
    }

    /// A fixed little-endian 16-bit integer.
    #[inline]
    pub fn u16(&mut self) -> Option<u16> {
        let (head, tail) = self.rest.split_first_chunk()?;
        self.rest = tail;
        Some(u16::from_le_bytes(*head))
    }

    /// A fixed little-endian 32-bit integer.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        let (head, tail) = self.rest.split_first_chunk()?;
        self.rest = tail;
        Some(u32::from_le_bytes(*head))
    }

    /// A fixed little-endian 64-bit integer.
    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        let (head, tail) = self.rest.split_first_chunk()?;
        self.rest = tail;
        Some(u64::from_le_bytes(*head))
    }

    /// A varint of up to 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let (&first, tail) = self.rest.split_first()?;
        if first < 0x80 {
            self.rest = tail;
            return Some(u64::from(first));
        }
        self.varint_long()
    }

    fn varint_long(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7F);
            if at == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * at);
            if byte < 0x80 {
                if byte == 0 {
                    return None;
                }
                self.rest = &self.rest[at + 1..];
                return Some(value);
            }
        }
        None
    }

    /// A varint that must fit 32 bits.
    #[inline]
    pub fn varint32(&mut self) -> Option<u32> {
        self.varint().and_then(|v| u32::try_from(v).ok())
    }

    /// Bytes with their length before them as a varint.
    #[inline]
    pub fn prefixed(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.bytes(len)
    }
}

/// Longest varint: ten bytes hold 64 bits.
pub const VARINT_LEN_MAX: usize = 10;

/// Appends `value` as a varint.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`push_varint`] writes for `value`.
#[inline]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `bytes` behind its length as a varint.
#[inline]
pub fn push_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_width() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, (1u64 << shift) | 1] {
                let mut out = Vec::new();
                push_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value));
                let mut reader = Reader::new(&out);
                assert_eq!(reader.varint(), Some(value));
                assert!(reader.is_empty());
                assert_eq!(Reader::new(&out[..out.len() - 1]).varint(), None);
            }
        }
        assert_eq!(varint_len(u64::MAX), VARINT_LEN_MAX);
    }

    #[test]
    fn malformed_varints_are_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), None, "over-long");
        assert_eq!(Reader::new(&[0xFF; 11]).varint(), None, "never ends");
        let mut too_big = [0xFF; 10];
        too_big[9] = 2;
        assert_eq!(Reader::new(&too_big).varint(), None, "65 bits");
        assert_eq!(Reader::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0x1F]).varint32(), None, "33 bits");
        assert_eq!(Reader::new(&[5, 1, 2]).prefixed(), None);
    }
}
