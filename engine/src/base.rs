//! Layer 0: ids, keys, codecs, checksums and limits. Values only: no file, clock, thread or lock.

pub mod checksum;
pub mod codec;
pub mod ids;
pub mod key;
pub mod limits;
