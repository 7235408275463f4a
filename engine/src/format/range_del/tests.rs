//! Range tombstones against a linear search; the stored list.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::format::golden;
use crate::fuzz::range_del::fuzz_range_del;

fn tombstone(start: &[u8], end: &[u8], seqno: u64) -> RangeTombstone {
    RangeTombstone { start: start.to_vec(), end: end.to_vec(), seqno: SeqNo(seqno) }
}

proptest! {
    #[test]
    fn lookups_find_the_newest_cover(list in vec((0u8..30, 0u8..30, 0u64..20), 0..40), keys in vec((0u8..32, 0u64..22), 50)) {
        let list: Vec<_> = list.iter().map(|&(a, b, s)| tombstone(&[a], &[b], s)).collect();
        let arranged = RangeTombstones::new(list.clone());
        for (key, bound) in keys {
            let key = [key];
            let covers = |t: &&RangeTombstone| t.start.as_slice() <= &key[..] && &key[..] < t.end.as_slice();
            let want = list.iter().filter(covers).map(|t| t.seqno).filter(|&s| s <= SeqNo(bound)).max();
            prop_assert_eq!(arranged.covering_seqno(&key, SeqNo(bound)), want);
        }
    }

    #[test]
    fn a_range_is_touched_when_one_of_its_keys_is(list in vec((0u8..30, 0u8..30), 0..4), from in 0u8..32, len in 0u8..9) {
        let list: Vec<_> = list.iter().map(|&(a, b)| tombstone(&[a], &[b], 1)).collect();
        let arranged = RangeTombstones::new(list);
        let is_covered = |key: u8| arranged.covering_seqno(&[key], SeqNo(1)).is_some();
        let to = from + len;
        prop_assert_eq!(arranged.overlaps(&[from], Some(&[to])), (from..to).any(is_covered));
        prop_assert_eq!(arranged.overlaps(&[from], None), (from..40).any(is_covered));
    }
}

#[test]
fn nested_tombstones_take_little_memory() {
    let list = (0..20_000u32).map(|i| tombstone(b"", &(i + 1).to_be_bytes(), u64::from(i))).collect();
    let arranged = RangeTombstones::new(list);
    assert!(arranged.sets.nodes.len() < 20_000 * 2 * 17);
    let covering = |key: u32, bound| arranged.covering_seqno(&key.to_be_bytes(), SeqNo(bound));
    assert_eq!(covering(500, 1 << 40), Some(SeqNo(19_999)));
    assert_eq!(covering(500, 700), Some(SeqNo(700)));
    assert_eq!(covering(500, 499), None);
}

#[test]
fn golden_bytes() {
    let list = vec![tombstone(b"\x01\x01a", b"\x01\x01c", 300), tombstone(b"\x01\x01b", b"\x01\x02", 5)];
    let mut bytes = Vec::new();
    RangeTombstones::encode_list(&list, &mut bytes);
    golden::check(include_str!("../testdata/range_del.hex"), &bytes);
    assert_eq!(RangeTombstones::decode_list(&mut Reader::new(&bytes)), Ok(list));
    golden::damage(&bytes, fuzz_range_del);
}
