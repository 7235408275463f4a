//! Pseudo-random numbers, the Zipfian distribution of YCSB, and random permutations that need no memory.

/// A generator of pseudo-random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero. The bias is below one in 2^64 / bound.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.bits() as u128 * bound as u128) >> 64) as u64
    }

    /// A number from 0 up to, not including, 1.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The finishing step of splitmix64: a bijection that scatters its input.
#[inline]
#[must_use]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Skew of YCSB's Zipfian distribution.
pub const ZIPF_THETA: f64 = 0.99;

/// Ranks from 0 to n - 1, rank r with a chance in proportion to 1 / (r + 1)^0.99.
///
/// Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, as YCSB has it.
#[derive(Clone, Debug)]
pub struct Zipf {
    n: u64,
    alpha: f64,
    zeta_n: f64,
    eta: f64,
}

impl Zipf {
    /// The distribution over `n` ranks; takes time in proportion to `n`.
    #[must_use]
    pub fn new(n: u64) -> Self {
        let n = n.max(2);
        let zeta = |n: u64| (1..=n).map(|i| (i as f64).powf(-ZIPF_THETA)).sum::<f64>();
        let (zeta_n, zeta_2) = (zeta(n), zeta(2));
        let eta = (1.0 - (2.0 / n as f64).powf(1.0 - ZIPF_THETA)) / (1.0 - zeta_2 / zeta_n);
        Self { n, alpha: 1.0 / (1.0 - ZIPF_THETA), zeta_n, eta }
    }

    /// A rank; 0 is the most frequent.
    #[inline]
    pub fn rank(&self, random: &mut Random) -> u64 {
        let u = random.unit();
        let uz = u * self.zeta_n;
        if uz < 1.0 {
            return 0;
        }
        if uz < 1.0 + 0.5_f64.powf(ZIPF_THETA) {
            return 1;
        }
        let rank = self.n as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.n - 1)
    }

    /// A rank scattered over all ids, so that frequent ids are not neighbours.
    #[inline]
    pub fn scrambled(&self, random: &mut Random) -> u64 {
        mix(self.rank(random)) % self.n
    }
}

/// A permutation of the numbers below `n`: a Feistel network over the next power of four, walked until it is back in range.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    /// A permutation of 0 to `n` - 1, chosen by `seed`.
    #[must_use]
    pub const fn new(n: u64, seed: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).saturating_add((bits == 0) as u32), seed }
    }

    /// Where the permutation takes `i`, which is below `n`.
    #[inline]
    #[must_use]
    pub const fn at(&self, i: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let mut x = i;
        loop {
            let (mut left, mut right) = (x >> self.half_bits, x & mask);
            let mut round = 0;
            while round < 4 {
                (left, right) = (right, left ^ (mix(right ^ self.seed.wrapping_add(round)) & mask));
                round += 1;
            }
            x = (left << self.half_bits) | right;
            if x < self.n {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_hit_every_number_once() {
        for n in [1, 2, 3, 100, 1000, 4097] {
            let permutation = Permutation::new(n, 7);
            let mut seen: Vec<u64> = (0..n).map(|i| permutation.at(i)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..n), "n = {n}");
        }
    }

    #[test]
    fn zipf_is_skewed_as_it_should_be() {
        let (zipf, mut random) = (Zipf::new(1000), Random::new(1));
        let mut counts = vec![0_u32; 1000];
        for _ in 0..100_000 {
            counts[usize::try_from(zipf.rank(&mut random)).unwrap()] += 1;
        }
        // P(0) = 1 / zeta(1000) = 0.129 with theta 0.99.
        assert!((11_900..14_000).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[0] > counts[1] && counts[1] > counts[10] && counts[10] > counts[500]);
        assert!((0..1000).all(|_| zipf.scrambled(&mut random) < 1000));
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::new(3);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
    }
}
