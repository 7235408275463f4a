//! The CRC32C that covers every byte the engine stores, and the 64-bit hash of keys.

use xxhash_rust::xxh3::xxh3_64;

/// CRC32C of stored bytes, masked so that a checksum over bytes that hold checksums stays independent of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum(pub u32);

/// Added after the rotation; any constant without structure serves (the one LevelDB's log format uses).
const MASK_DELTA: u32 = 0xA282_EAD8;

impl Checksum {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::mask(crc32c::crc32c(bytes))
    }

    /// The checksum of `head` followed by `tail`.
    #[must_use]
    pub fn of_two(head: &[u8], tail: &[u8]) -> Self {
        Self::mask(crc32c::crc32c_append(crc32c::crc32c(head), tail))
    }

    const fn mask(crc: u32) -> Self {
        Self(crc.rotate_right(15).wrapping_add(MASK_DELTA))
    }
}

/// The hash of a full key that filters, block hash indexes and the cache share. Part of the SST format: never changes.
#[inline]
#[must_use]
pub fn key_hash(full_key: &[u8]) -> u64 {
    xxh3_64(full_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_equal_the_whole() {
        assert_eq!(Checksum::of_two(b"ab", b"cde"), Checksum::of(b"abcde"));
        assert_ne!(Checksum::of(b""), Checksum(0), "zeroed bytes do not check out");
        assert_eq!(key_hash(b"ssdb"), key_hash(b"ssdb"));
    }
}
