//! Precision measured against what RocksDB's filter reaches, partitions, damaged bytes.

use super::*;
use crate::base::checksum::key_hash;
use crate::format::golden;
use crate::fuzz::filter::fuzz_filter;

fn filter(keys: u64, bits: u8, limit: usize) -> (FilterInfo, Vec<u8>) {
    let mut builder = FilterBuilder::default();
    for key in 0..keys {
        builder.add(key_hash(&key.to_be_bytes()));
        builder.add(key_hash(&key.to_be_bytes()));
    }
    assert_eq!(builder.len() as u64, keys);
    let info = FilterInfo::new(builder.len(), bits, limit, 0);
    let lines = builder.build(&info);
    (info, lines)
}

fn hit(info: &FilterInfo, lines: &[u8], key: u64) -> bool {
    let hash = key_hash(&key.to_be_bytes());
    let slot = info.slot(hash);
    let full = info.partition_lines as usize * LINE_LEN;
    let start = slot.partition as usize * full;
    let raw_len = info.handle(slot.partition).raw_len as usize;
    info.matches(&lines[start..start + raw_len], slot, hash).unwrap()
}

#[test]
fn ten_bits_a_key_pass_at_most_one_stranger_in_a_hundred() {
    let keys = 1_200_000;
    let (info, lines) = filter(keys, 10, 16 << 10);
    assert_eq!(info.probes, 6);
    assert!((0..keys).step_by(7).all(|key| hit(&info, &lines, key)), "an added key is missed");
    let strangers = 1_000_000;
    let passed = (keys..keys + strangers).filter(|&key| hit(&info, &lines, key)).count();
    let rate = passed as f64 / strangers as f64;
    println!("false positives at 10 bits a key: {:.4} %", rate * 100.0);
    assert!(rate <= 0.010, "{rate}");
}

#[test]
fn other_sizes_are_as_precise_as_expected() {
    for (bits, most) in [(4, 0.17), (6, 0.075), (8, 0.026), (12, 0.0045), (16, 0.0010), (20, 0.0004)] {
        let (info, lines) = filter(100_000, bits, 4096);
        assert!((0..100_000).all(|key| hit(&info, &lines, key)));
        let passed = (0..200_000).filter(|key| hit(&info, &lines, key + (1 << 40))).count();
        let rate = passed as f64 / 200_000.0;
        assert!(rate <= most, "{bits} bits: {rate}");
    }
}

#[test]
fn partitions_tile_the_filter() {
    let (info, lines) = filter(10_000, 10, 4096);
    assert_eq!(info.lines as usize * LINE_LEN, lines.len());
    assert_eq!(info.partitions(), 4);
    let mut at = info.offset;
    for partition in 0..info.partitions() {
        let handle = info.handle(partition);
        assert_eq!(handle.offset, at);
        assert!(handle.raw_len <= 4096);
        at = handle.end();
    }
    assert_eq!(at, info.end());
    assert_eq!(filter(0, 10, 4096).0.lines, 1);
}

#[test]
fn golden_bytes() {
    let (info, lines) = filter(8, 10, 4096);
    let mut bytes = Vec::new();
    info.encode(&mut bytes);
    bytes.extend_from_slice(&lines);
    golden::check(include_str!("../testdata/filter.hex"), &bytes);
    let mut reader = Reader::new(&bytes);
    assert_eq!(FilterInfo::decode(&mut reader), Ok(info));
    golden::damage(&bytes, fuzz_filter);
}

#[test]
fn a_key_counts_once_also_where_a_piece_ends() {
    let mut builder = FilterBuilder::default();
    assert!(builder.is_empty());
    for key in 0..20_000_u64 {
        builder.add(key);
        builder.add(key);
        assert_eq!(builder.len() as u64, key + 1);
    }
}
