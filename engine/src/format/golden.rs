//! Golden files: hex dumps that pin a format byte by byte; and damaged variants of good bytes for the fuzz entries.

/// The hex dump of `bytes`: 16 a line.
pub(super) fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "));
    lines.map(|line| line + "\n").collect()
}

/// Panics unless `bytes` are those of the dump; lines that start with `#` are comments.
pub(super) fn check(golden: &str, bytes: &[u8]) {
    let want: Vec<_> = golden.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace).collect();
    let got = hex(bytes);
    assert!(got.split_whitespace().eq(want), "the format has changed; it now writes\n{got}");
}

/// Feeds `fuzz` with every prefix of `good`, with every bit flipped, and with noise.
pub(super) fn damage(good: &[u8], fuzz: impl Fn(&[u8])) {
    for len in 0..good.len() {
        fuzz(&good[..len]);
    }
    let mut bytes = good.to_vec();
    for bit in 0..good.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        fuzz(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for _ in 0..2000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, len) = ((state >> 33) as usize % good.len(), (state >> 20) as usize % 24);
        for (at, byte) in bytes.iter_mut().skip(from).take(len).enumerate() {
            *byte = (state.rotate_left(at as u32 * 5) >> 40) as u8;
        }
        fuzz(&bytes);
        bytes.copy_from_slice(good);
    }
}
