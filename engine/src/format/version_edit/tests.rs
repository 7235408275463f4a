use proptest::prelude::*;

use super::samples::{any_edit, file, full_edit, open_file, unhex};
use super::*;
use crate::fuzz::version_edit::fuzz_version_edit;

#[test]
fn the_encoding_is_the_golden_one() {
    let golden = unhex(include_str!("testdata/edit.hex"));
    assert_eq!(full_edit().encode(), golden);
    assert_eq!(VersionEdit::decode(&golden), Ok(full_edit()));
    assert_eq!(VersionEdit::decode(&[]), Ok(VersionEdit::default()), "no items change nothing");
}

#[test]
fn unknown_items_are_skipped_when_optional_and_refused_when_required() {
    let mut bytes = full_edit().encode();
    bytes.extend_from_slice(&[0xFE, 3, 9, 9, 9]);
    assert_eq!(VersionEdit::decode(&bytes), Ok(full_edit()));
    bytes.extend_from_slice(&[0x7E, 0]);
    assert!(matches!(VersionEdit::decode(&bytes), Err(EditError::Unsupported(why)) if why.contains("tag 126")));
    assert!(matches!(VersionEdit::decode(&[0, 0]), Err(EditError::Malformed(_))), "tag 0");
}

#[test]
fn fields_of_later_versions_follow_the_same_rule() {
    let added =
        VersionEdit { added: vec![(Level(0), Arc::new(file(1, b"a", b"b", (1, 2))))], ..VersionEdit::default() };
    let with = |extra: &[u8]| {
        let mut bytes = added.encode();
        bytes[1] += extra.len() as u8;
        bytes.extend_from_slice(extra);
        VersionEdit::decode(&bytes)
    };
    assert_eq!(with(&[]), Ok(added.clone()));
    assert_eq!(with(&[0x80, 2, 7, 7, 0xFF, 0]), Ok(added.clone()));
    assert!(matches!(with(&[1, 0]), Err(EditError::Unsupported(_))));
    assert!(matches!(with(&[0, 0]), Err(EditError::Malformed(_))));
    assert!(matches!(with(&[0x80, 2, 7]), Err(EditError::Malformed(_))), "field cut");
}

#[test]
fn impossible_payloads_are_refused() {
    for (why, bytes) in [
        ("level 7", &[TAG_FILE_DELETED, 2, 7, 1][..]),
        ("payload too long", &[TAG_VERSION, 2, 1, 1]),
        ("payload too short", &[TAG_VERSION, 0]),
        ("item past the end", &[TAG_VERSION, 2, 1]),
        ("scalar twice", &[TAG_VERSION, 1, 1, TAG_VERSION, 1, 1]),
        ("sequence number of 57 bits", &[TAG_LAST_SEQNO, 9, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]),
        ("short identity", &[TAG_IDENTITY, 3, 1, 2, 3]),
    ] {
        assert!(matches!(VersionEdit::decode(bytes), Err(EditError::Malformed(_))), "{why}");
    }
    let mut flags =
        VersionEdit { added: vec![(Level(0), Arc::new(file(1, b"a", b"b", (1, 2))))], ..Default::default() };
    Arc::make_mut(&mut flags.added[0].1).size = 1;
    let mut bytes = flags.encode();
    bytes[5] = 2;
    assert!(matches!(VersionEdit::decode(&bytes), Err(EditError::Unsupported(why)) if why.contains("flags")));
}

#[test]
fn bounds_know_what_an_exclusive_end_means() {
    let closed = file(1, b"c", b"f", (1, 2));
    let open = open_file(2, b"c", b"f", (1, 2));
    assert!(closed.covers(b"f") && !open.covers(b"f"));
    assert!(open.covers(b"c") && open.covers(b"ez") && !open.covers(b"bz"));
    let next = file(3, b"f", b"g", (1, 2));
    assert!(closed.overlaps(&next) && !open.overlaps(&next) && !next.overlaps(&open));
    let from = |key| (Bound::Included(key), Bound::Unbounded);
    assert!(closed.overlaps_range(from(&b"f"[..])) && !open.overlaps_range(from(&b"f"[..])));
    assert!(!closed.overlaps_range((Bound::Excluded(b"f"), Bound::Unbounded)));
    assert!(!closed.overlaps_range((Bound::Unbounded, Bound::Excluded(b"c"))));
    assert!(closed.overlaps_range((Bound::Unbounded, Bound::Included(b"c"))));
    assert!(!closed.overlaps_range((Bound::Included(b"d"), Bound::Excluded(b"d"))), "an empty range");
    assert!(closed.check_bounds().is_ok());
    assert!(open_file(1, b"c", b"c", (1, 2)).check_bounds().is_err());
    assert!(file(1, b"d", b"c", (1, 2)).check_bounds().is_err());
    assert!(file(1, b"c", b"c", (2, 1)).check_bounds().is_err());
}

#[test]
fn every_cut_and_every_flip_is_survived() {
    let bytes = full_edit().encode();
    for cut in 0..bytes.len() {
        fuzz_version_edit(&bytes[..cut]);
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            fuzz_version_edit(&bad);
        }
    }
}

proptest! {
    #[test]
    fn edits_round_trip(edit in any_edit()) {
        prop_assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit));
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_version_edit(&bytes);
    }

    #[test]
    fn damaged_edits_are_survived(
        edit in any_edit(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = edit.encode();
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        fuzz_version_edit(&bytes);
    }
}
