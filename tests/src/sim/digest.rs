//! A hash of all that was read: two runs that read the same have the same.

use crate::sim::check::Row;

/// The hash so far (FNV-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// Adds rows, in their order.
    pub fn add<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>) {
        for (key, value) in rows {
            self.bytes(key);
            self.bytes(value);
        }
        self.bytes(&[]);
    }

    /// Adds the results of point reads.
    pub fn add_values<'a>(&mut self, values: impl IntoIterator<Item = &'a Option<Vec<u8>>>) {
        for value in values {
            self.bytes(if value.is_some() { b"+" } else { b"-" });
            self.bytes(value.as_deref().unwrap_or_default());
        }
    }
}
