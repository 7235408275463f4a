//! The footer comes back, and any damage to it is noticed.

use super::*;
use crate::base::key::Trailer;
use crate::format::block::BlockHandle;
use crate::format::golden;
use crate::format::index::IndexBuilder;
use crate::fuzz::footer::fuzz_footer;

const OFFSET: u64 = 1000 + 200 + 64 + 9;

fn sample() -> Footer {
    let mut top = IndexBuilder::new(usize::MAX);
    top.add(b"\x01\x01k", Trailer(0), BlockHandle { offset: 1000, stored_len: 200, raw_len: 191 });
    let mut top_index = Vec::new();
    top.finish(&mut top_index);
    let start = b"\x01\x01b".to_vec();
    Footer {
        properties: Properties {
            entries: 300,
            deletes: 4,
            range_deletes: 1,
            raw_key_bytes: 5000,
            raw_value_bytes: 60_000,
            smallest: b"\x01\x01a".to_vec(),
            largest: b"\x01\x02".to_vec(),
            largest_exclusive: true,
            smallest_seqno: SeqNo(0),
            largest_seqno: SeqNo(77),
            created: 1_700_000_000,
            block_bytes: 16 << 10,
            unfrozen_min: 8,
            unfrozen_max: 9,
            level: 6,
            data_blocks: 5,
            data_end: 1000,
            index_end: 1200,
        },
        filter: Some(FilterInfo { probes: 6, lines: 1, partition_lines: 256, offset: 1200 }),
        tombstones: vec![RangeTombstone { start, end: b"\x01\x02".to_vec(), seqno: SeqNo(50) }],
        partition_starts: vec![0],
        top_index,
    }
}

#[test]
fn footers_come_back_and_every_bit_counts() {
    let mut region = Vec::new();
    sample().encode(OFFSET, &mut region);
    assert!((OFFSET as usize + region.len()).is_multiple_of(IO_ALIGN));
    assert_eq!(Tail::decode(&region).unwrap().region_len, region.len());
    assert_eq!(Footer::decode(&region, OFFSET), Ok(sample()));
    assert!(Footer::decode(&region, OFFSET + 1).is_err());
    for bit in 0..region.len() * 8 {
        region[bit / 8] ^= 1 << (bit % 8);
        assert!(Footer::decode(&region, OFFSET).is_err(), "bit {bit} is not covered");
        region[bit / 8] ^= 1 << (bit % 8);
    }
    for len in 0..region.len() {
        assert!(Footer::decode(&region[..len], OFFSET).is_err());
        assert!(Footer::decode(&region[len + 1..], OFFSET).is_err());
    }
}

#[test]
fn contradictions_are_refused() {
    let refused = |change: &dyn Fn(&mut Footer)| {
        let (mut footer, mut region) = (sample(), Vec::new());
        change(&mut footer);
        footer.encode(OFFSET, &mut region);
        Footer::decode(&region, OFFSET).unwrap_err()
    };
    assert_eq!(refused(&|f| f.properties.range_deletes = 2), "counts of the properties contradict each other");
    assert_eq!(refused(&|f| f.properties.index_end = 1100), "filter does not start where the index ends");
    assert_eq!(refused(&|f| f.filter = None), "blocks do not end where the footer starts");
    assert_eq!(refused(&|f| f.properties.smallest_seqno = SeqNo(78)), "bounds of the properties are out of order");
    assert_eq!(refused(&|f| f.partition_starts.clear()), "top index does not match the properties");
    assert_eq!(refused(&|f| f.properties.data_end = 900), "index partitions have gaps");
    assert_eq!(refused(&|f| f.properties.block_bytes = 100), "block limit out of range");
}

/// The region with a checksum that fits, so that damage gets past it.
fn resealed(mut region: Vec<u8>) -> Vec<u8> {
    let at = region.len() - UNCOVERED;
    let checksum = Checksum::of(&region[..at]);
    region[at..at + 4].copy_from_slice(&checksum.0.to_le_bytes());
    [&OFFSET.to_le_bytes()[..], &region].concat()
}

#[test]
fn damaged_footers_do_no_harm() {
    let mut region = Vec::new();
    sample().encode(OFFSET, &mut region);
    let sections = region.iter().position(|&b| b != 0).unwrap();
    for at in sections..region.len() - UNCOVERED {
        for byte in 0..=255 {
            let mut bytes = region.clone();
            bytes[at] = byte;
            fuzz_footer(&resealed(bytes));
        }
    }
    let good = resealed(region);
    golden::damage(&good[good.len() - 300..], fuzz_footer);
}

#[test]
fn golden_bytes() {
    let mut region = Vec::new();
    sample().encode(OFFSET, &mut region);
    let sections = region.iter().position(|&b| b != 0).unwrap();
    golden::check(include_str!("../testdata/footer.hex"), &region[sections..]);
}
