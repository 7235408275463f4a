//! The first 4 KiB of `LOGBUF`, the file that holds the log's ring.
//!
//! ```text
//! offset size  all integers little-endian
//!      0    8  magic "ssdb-buf"
//!      8    4  format version, 1
//!     12    4  CRC32C of bytes 0..12 and 16..40
//!     16   16  uuid of the engine
//!     32    8  ring bytes, a power of two; byte p of the log is at 4096 + p % ring bytes
//!     64   16  written: the log below it was written to segments (not necessarily synced)
//!     80   16  durable: the log below it was synced
//!     96   16  closed: the log was closed, synced, with its end here
//! ```
//!
//! The last three are *marks*: a position and its complement, changed while the log runs. A mark whose halves do not match
//! (its writer died between the two, or it was never set) says nothing. A mark that is older than the log is still true.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ids::Lsn;
use crate::base::limits::IO_ALIGN;

/// Bytes before the ring.
pub const BUFFER_HEADER_LEN: usize = IO_ALIGN;

/// Words of the header that are used.
pub const BUFFER_HEADER_WORDS: usize = 14;

/// Smallest ring, in bytes.
pub const RING_LEN_MIN: usize = 64 << 10;

/// Largest ring, in bytes.
pub const RING_LEN_MAX: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"ssdb-buf";
const VERSION: u32 = 1;

/// A position that changes while the log runs. The value is the index of its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Mark {
    /// Everything below was written to segments.
    Written = 8,
    /// Everything below was synced.
    Durable = 10,
    /// The log was closed here.
    Closed = 12,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferHeader {
    /// The engine that the log belongs to.
    pub uuid: [u8; 16],
    /// Size of the ring.
    pub ring_len: u64,
}

impl BufferHeader {
    /// Words 0 to 4 of the header.
    #[must_use]
    pub fn encode(&self) -> [u64; 5] {
        let (low, high) = self.uuid.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, &b| word << 8 | u64::from(b));
        let mut words = [word(MAGIC), u64::from(VERSION), word(low), word(high), self.ring_len];
        words[1] |= u64::from(checksum(&words)) << 32;
        words
    }

    /// Reads the header from its first words.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(words: &[u64]) -> Result<Self, &'static str> {
        let Some((&words, _)) = words.split_first_chunk::<5>() else { return Err("log buffer is cut short") };
        if words[0].to_le_bytes() != *MAGIC {
            return Err("not a log buffer");
        }
        if (words[1] >> 32) as u32 != checksum(&words) {
            return Err("log buffer header checksum does not match");
        }
        if words[1] as u32 != VERSION {
            return Err("log buffer has a format version that this version of the engine does not know");
        }
        let ring_len = words[4];
        if !ring_len.is_power_of_two() || !(RING_LEN_MIN as u64..=RING_LEN_MAX as u64).contains(&ring_len) {
            return Err("log buffer's size is impossible");
        }
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&words[2].to_le_bytes());
        uuid[8..].copy_from_slice(&words[3].to_le_bytes());
        Ok(Self { uuid, ring_len })
    }
}

fn checksum(words: &[u64; 5]) -> u32 {
    let low = (words[1] as u32).to_le_bytes();
    let mut crc = crc32c::crc32c(&words[0].to_le_bytes());
    crc = crc32c::crc32c_append(crc, &low);
    words[2..].iter().fold(crc, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()))
}

impl Mark {
    /// Sets the mark in the header's words.
    pub fn set(self, words: &[AtomicU64], lsn: Lsn) {
        words[self as usize].store(lsn.0, Ordering::Release);
        words[self as usize + 1].store(!lsn.0, Ordering::Release);
    }

    /// Makes the mark say nothing.
    pub fn clear(self, words: &[AtomicU64]) {
        words[self as usize + 1].store(words[self as usize].load(Ordering::Relaxed), Ordering::Release);
    }

    /// Reads the mark from the header's words; `None` when it says nothing.
    #[must_use]
    pub fn get(self, words: &[u64]) -> Option<Lsn> {
        let (&lsn, &complement) = (words.get(self as usize)?, words.get(self as usize + 1)?);
        (lsn == !complement).then_some(Lsn(lsn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: BufferHeader = BufferHeader { uuid: *b"0123456789abcdef", ring_len: 1 << 16 };

    #[test]
    fn golden() {
        let hex: Vec<_> = HEADER.encode().iter().map(|word| format!("{word:016x}")).collect();
        assert_eq!(
            hex,
            ["6675622d62647373", "fbdc6eb500000001", "3736353433323130", "6665646362613938", "0000000000010000"]
        );
    }

    #[test]
    fn round_trip_and_every_flip_is_noticed() {
        let words = HEADER.encode();
        assert_eq!(BufferHeader::decode(&words), Ok(HEADER));
        for bit in 0..words.len() * 64 {
            let mut flipped = words;
            flipped[bit / 64] ^= 1 << (bit % 64);
            assert!(BufferHeader::decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(BufferHeader::decode(&words[..4]).is_err());
    }

    #[test]
    fn marks() {
        let words: Vec<_> = (0..BUFFER_HEADER_WORDS).map(|_| AtomicU64::new(0)).collect();
        let plain = || words.iter().map(|w| w.load(Ordering::Relaxed)).collect::<Vec<_>>();
        for mark in [Mark::Written, Mark::Durable, Mark::Closed] {
            assert_eq!(mark.get(&plain()), None, "zeros are no mark");
            mark.set(&words, Lsn(4096));
            assert_eq!(mark.get(&plain()), Some(Lsn(4096)));
        }
        Mark::Closed.clear(&words);
        assert_eq!(Mark::Closed.get(&plain()), None);
        assert_eq!(Mark::Durable.get(&plain()), Some(Lsn(4096)));
        assert_eq!(Mark::Durable.get(&[]), None);
    }
}
