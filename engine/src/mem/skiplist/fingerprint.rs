//! Fingerprints: 32 bits for a key, in the order of keys, that tell most of a list's keys apart.
//!
//! Keys of one tree begin alike, and those of several trees differ where they begin, so neither the first bytes nor those at one
//! place tell much. The list knows *prefixes* that its keys are expected to have, ascending, none of them the beginning of another. Each
//! of n prefixes has the n-th part of all fingerprints; in it counts what follows the prefix, four bytes, big-endian, padded with
//! zeros. Keys between two prefixes have the first fingerprint of the larger one, keys below all of them 0, keys above all of them
//! `u32::MAX`. Without prefixes the first four bytes count.
//!
//! So a smaller key has a smaller or equal fingerprint. Different ones decide an order; equal ones say nothing.

use crate::mem::region::{Layout, Part, Region};
use crate::mem::sync::{AtomicU64, Ordering};
use crate::shared_struct;

/// Longest prefix that is used; of a longer one, its start.
pub const PREFIX_LEN_MAX: usize = 32;
/// Most prefixes of a list.
pub const PREFIXES_MAX: usize = 64;

shared_struct! {
    struct Prefix {
        len: AtomicU64,
        bytes: [AtomicU64; PREFIX_LEN_MAX / 8],
    }
}

shared_struct! {
    /// What searches read first. Written only by `reset`.
    #[repr(align(64))]
    struct Header {
        count: AtomicU64,
        /// Fingerprints of each prefix.
        width: AtomicU64,
        prefixes: [Prefix; PREFIXES_MAX],
    }
}

/// Place of a list's prefixes in the region.
#[derive(Clone, Copy)]
pub(super) struct FingerprintParts(Part<Header>);

/// A process-local handle of a list's prefixes.
#[derive(Clone)]
pub(super) struct Fingerprints {
    region: Region,
    parts: FingerprintParts,
}

/// The bytes of a prefix, here, and how many of them count.
type Loaded = ([u8; PREFIX_LEN_MAX], usize);

/// The first four bytes, big-endian, padded with zeros.
#[inline]
fn first_four(key: &[u8]) -> u32 {
    match key.first_chunk::<4>() {
        Some(&four) => u32::from_be_bytes(four),
        None => key.iter().zip([24, 16, 8]).fold(0, |sum, (&byte, shift)| sum | u32::from(byte) << shift),
    }
}

impl Fingerprints {
    pub(super) fn reserve(layout: &mut Layout, name: &str) -> FingerprintParts {
        FingerprintParts(layout.part(&format!("{name}.prefixes"), 1))
    }

    /// Those at `parts`; without prefixes in a fresh region.
    pub(super) fn new(region: &Region, parts: FingerprintParts) -> Self {
        Self { region: region.clone(), parts }
    }

    #[inline]
    fn header(&self) -> &Header {
        &self.region.part(self.parts.0)[0]
    }

    /// Expects keys that begin with one of `prefixes`: ascending, none the beginning of another; those beyond [`PREFIXES_MAX`] are left
    /// out. Only when nobody else uses the list.
    pub(super) fn reset<P: AsRef<[u8]>>(&self, prefixes: &[P]) {
        let header = self.header();
        let mut count = 0u64;
        let mut last: Option<&[u8]> = None;
        for (slot, prefix) in header.prefixes.iter().zip(prefixes) {
            let prefix = prefix.as_ref();
            let prefix = &prefix[..prefix.len().min(PREFIX_LEN_MAX)];
            debug_assert!(last.is_none_or(|last| last < prefix && !prefix.starts_with(last)), "prefixes out of order");
            last = Some(prefix);
            let mut padded = [0; PREFIX_LEN_MAX];
            padded[..prefix.len()].copy_from_slice(prefix);
            for (word, bytes) in slot.bytes.iter().zip(padded.as_chunks::<8>().0) {
                word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
            }
            slot.len.store(prefix.len() as u64, Ordering::Relaxed);
            count += 1;
        }
        header.width.store((1 << 32) / count.max(1), Ordering::Relaxed);
        header.count.store(count, Ordering::Relaxed);
    }

    #[inline]
    fn load(slot: &Prefix) -> Loaded {
        let mut bytes = [0; PREFIX_LEN_MAX];
        for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&slot.bytes) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        (bytes, (slot.len.load(Ordering::Relaxed) as usize).min(PREFIX_LEN_MAX))
    }

    /// The fingerprint of `key`.
    #[inline]
    pub(super) fn of(&self, key: &[u8]) -> u32 {
        let header = self.header();
        let count = (header.count.load(Ordering::Relaxed) as usize).min(PREFIXES_MAX);
        if count == 0 {
            return first_four(key);
        }
        // The last prefix that is not above the key.
        let (mut low, mut high, mut prefix): (usize, usize, Loaded) = (0, count, ([0; PREFIX_LEN_MAX], 0));
        while low < high {
            let middle = low.midpoint(high);
            let (bytes, len) = Self::load(&header.prefixes[middle]);
            if &bytes[..len] <= key {
                (low, prefix) = (middle + 1, (bytes, len));
            } else {
                high = middle;
            }
        }
        let width = header.width.load(Ordering::Relaxed);
        let first = match (low.checked_sub(1), key.strip_prefix(&prefix.0[..prefix.1])) {
            (None, _) => 0,
            (Some(at), Some(rest)) => at as u64 * width + ((u64::from(first_four(rest)) * width) >> 32),
            (Some(_), None) if low == count => return u32::MAX,
            (Some(_), None) => low as u64 * width,
        };
        // Below 2³², as `count * width` is not above it.
        first as u32
    }
}
