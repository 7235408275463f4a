//! Keys and values: 16-byte keys that sort as their ids, values that compress by half and say which id they belong to.

use crate::random::Random;

/// Bytes of every key.
pub const KEY_LEN: usize = 16;

/// The key of an id: `user` and twelve decimal digits.
pub type Key = [u8; KEY_LEN];

/// The key of `id`, which is below 10^12.
#[inline]
#[must_use]
pub const fn key(id: u64) -> Key {
    let mut key = *b"user000000000000";
    let (mut rest, mut at) = (id, KEY_LEN);
    while rest > 0 && at > 4 {
        at -= 1;
        key[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Bytes that values are cut from. Larger than a block, so that a compressor finds no value twice in one.
const POOL_LEN: usize = 1 << 20;

/// Every value starts with the id it belongs to, so that readers can check it.
const ID_LEN: usize = 8;

/// Run of random bytes, and then as many that repeat: a compressor saves half of it.
const RUN_LEN: usize = 50;

/// A maker of values of one length.
#[derive(Clone, Debug)]
pub struct Values {
    pool: Vec<u8>,
    at: usize,
    value: Vec<u8>,
}

impl Values {
    /// Values of `len` bytes (at least 8), drawn by `seed`.
    #[must_use]
    pub fn new(len: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pool = Vec::with_capacity(POOL_LEN + len + RUN_LEN * 2);
        while pool.len() < POOL_LEN + len {
            pool.extend((0..RUN_LEN).map(|_| b' ' + (random.below(95) as u8)));
            pool.extend([b' ' + (random.below(95) as u8); RUN_LEN]);
        }
        Self { pool, at: 0, value: vec![0; len.max(ID_LEN)] }
    }

    /// The next value, for `id`.
    #[inline]
    pub fn next(&mut self, id: u64) -> &[u8] {
        let len = self.value.len();
        self.value.copy_from_slice(&self.pool[self.at..self.at + len]);
        self.value[..ID_LEN].copy_from_slice(&id.to_le_bytes());
        self.at = (self.at + len) % POOL_LEN;
        &self.value
    }
}

/// Whether `value` is one of `id`, of `len` bytes.
#[inline]
#[must_use]
pub fn is_value_of(value: &[u8], id: u64, len: usize) -> bool {
    value.len() == len && value[..ID_LEN] == id.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_ids() {
        assert_eq!(&key(0), b"user000000000000");
        assert_eq!(&key(1_234_567), b"user000001234567");
        assert!(key(9) < key(10) && key(99_999) < key(100_000));
    }

    #[test]
    fn values_know_their_id_and_differ() {
        let mut values = Values::new(100, 1);
        let first = values.next(7).to_vec();
        let second = values.next(8).to_vec();
        assert!(is_value_of(&first, 7, 100) && !is_value_of(&first, 8, 100) && !is_value_of(&first, 7, 99));
        assert_ne!(first[8..], second[8..]);
        for id in 0..50_000 {
            assert!(is_value_of(values.next(id), id, 100));
        }
    }
}
