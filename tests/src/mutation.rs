//! Inputs for decoders: mutations of known-good bytes and plain noise, each a pure function of a seed and a number.

use crate::rng::Rng;

/// Longest input made from nothing.
const NOISE_LEN_MAX: usize = 8 << 10;

/// Values that decoders trip over: limits of every width.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x0100_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    u64::MAX,
];

/// Input `number` of `seed`: one of `seeds` with up to eight mutations, or noise.
#[must_use]
pub fn input(seeds: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut random = Rng::new(seed ^ number.wrapping_mul(0xA076_1D64_78BD_642F));
    if seeds.is_empty() || below(&mut random, 16) == 0 {
        return noise(&mut random);
    }
    let mut bytes = seeds[below(&mut random, seeds.len())].clone();
    // The unchanged seed is an input too: that is what shows that the seeds still decode.
    for _ in 0..below(&mut random, 9) {
        mutate(&mut bytes, seeds, &mut random);
    }
    bytes
}

/// A length or a place below `end`; zero when that is zero.
fn below(random: &mut Rng, end: usize) -> usize {
    if end == 0 { 0 } else { random.below(end as u64) as usize }
}

fn noise(random: &mut Rng) -> Vec<u8> {
    let len = below(random, NOISE_LEN_MAX) >> below(random, 13);
    // Mostly zeros, mostly small numbers, or anything: formats are full of lengths and counts.
    let mask = [0x01, 0x0F, 0xFF][below(random, 3)];
    (0..len).map(|_| random.next() as u8 & mask).collect()
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Rng) {
    let at = below(random, bytes.len());
    match below(random, 9) {
        0 => bytes.truncate(at),
        1 => flip_bit(bytes, at, random),
        2 => overwrite(bytes, at, &random.next().to_le_bytes()[..1]),
        3 | 4 => overwrite_edge(bytes, at, random),
        5 => {
            let end = bytes.len().min(at + below(random, 64));
            bytes.drain(at..end);
        }
        6 => {
            let more: Vec<u8> = (0..below(random, 32)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, more);
        }
        7 => {
            let (from, len) = (below(random, bytes.len()), below(random, 64));
            let piece = bytes[from..bytes.len().min(from + len)].to_vec();
            overwrite(bytes, at, &piece);
        }
        _ => {
            let other = &seeds[below(random, seeds.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[below(random, other.len())..]);
        }
    }
}

fn flip_bit(bytes: &mut [u8], at: usize, random: &mut Rng) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << below(random, 8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(with) {
        *byte = *new;
    }
}

fn overwrite_edge(bytes: &mut [u8], at: usize, random: &mut Rng) {
    let value = EDGES[below(random, EDGES.len())].to_le_bytes();
    let width = [1, 2, 4, 8][below(random, 4)];
    overwrite(bytes, at, &value[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_repeat() {
        let seeds = vec![b"some seed".to_vec(), vec![7; 300]];
        for number in 0..200 {
            assert_eq!(input(&seeds, 42, number), input(&seeds, 42, number));
        }
        assert!((0..50).any(|n| input(&seeds, 1, n) != input(&seeds, 2, n)));
    }

    #[test]
    fn every_kind_of_input_comes_up() {
        let seeds = vec![vec![9; 100]];
        let inputs: Vec<_> = (0..2000).map(|n| input(&seeds, 7, n)).collect();
        assert!(inputs.contains(&seeds[0]), "the seed itself");
        assert!(inputs.iter().any(Vec::is_empty));
        assert!(inputs.iter().any(|i| i.len() > 100) && inputs.iter().any(|i| i.len() < 100));
        for n in 0..100 {
            assert!(input(&[], 7, n).len() <= NOISE_LEN_MAX, "no seeds: noise");
            let _ = input(&[vec![]], 7, n);
        }
    }
}
