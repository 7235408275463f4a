use proptest::prelude::*;

use super::*;
use crate::format::version_edit::samples::{full_edit, unhex};
use crate::fuzz::manifest::fuzz_manifest;

const FILE: FileNumber = FileNumber(12);

/// A manifest file with the given payloads, and where each record ends.
fn manifest(payloads: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let mut records = Vec::new();
    let mut ends = Vec::new();
    for (index, payload) in payloads.iter().enumerate() {
        push_record(&mut records, FILE, index as u64, payload);
        ends.push(HEADER_LEN + records.len());
    }
    let mut bytes = FileHeader { number: FILE, snapshot_end: ends[0] as u64 }.encode().to_vec();
    bytes.extend_from_slice(&records);
    (bytes, ends)
}

/// Payloads up to the end, and the end.
fn read(bytes: &[u8], snapshot_end: usize) -> (Vec<&[u8]>, Outcome<'_>) {
    let mut reader = RecordReader::new(&bytes[HEADER_LEN..], HEADER_LEN as u64, FILE, Some(0), snapshot_end as u64);
    let mut payloads = Vec::new();
    loop {
        match reader.next() {
            Outcome::Record { payload, index, .. } => {
                assert_eq!(index, payloads.len() as u64);
                payloads.push(payload);
            }
            end => return (payloads, end),
        }
    }
}

#[test]
fn the_file_is_the_golden_one() {
    let edit = full_edit().encode();
    let (bytes, ends) = manifest(&[&edit, b"", b"\x02\x01\x07"]);
    assert_eq!(bytes, unhex(include_str!("../testdata/manifest.hex")));
    assert_eq!(FileHeader::decode(&bytes), Ok(FileHeader { number: FILE, snapshot_end: ends[0] as u64 }));
    assert_eq!(read(&bytes, ends[0]), (vec![&edit[..], b"", b"\x02\x01\x07"], Outcome::CleanEnd));
}

#[test]
fn headers_are_refused_at_any_flip_and_later_formats_by_name() {
    let header = FileHeader { number: FILE, snapshot_end: 77 }.encode();
    for at in 0..HEADER_LEN {
        assert!(FileHeader::decode(&header[..at]).is_err());
        for bit in 0..8 {
            let mut bad = header;
            bad[at] ^= 1 << bit;
            assert!(matches!(FileHeader::decode(&bad), Err(EditError::Malformed(_))), "bit {bit} of byte {at}");
        }
    }
    for at in [8, 12] {
        let mut later = header;
        later[at] += 1;
        let checksum = Checksum::of(&later[..32]).0;
        later[32..].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(FileHeader::decode(&later), Err(EditError::Unsupported(_))));
    }
}

#[test]
fn a_cut_is_torn_only_after_the_snapshot() {
    let (bytes, ends) = manifest(&[b"snapshot", b"one", b"two"]);
    for cut in HEADER_LEN..bytes.len() {
        let (payloads, end) = read(&bytes[..cut], ends[0]);
        let whole = ends.iter().filter(|&&end| end <= cut).count();
        assert_eq!(payloads.len(), whole, "cut to {cut}");
        match (whole, ends.contains(&cut)) {
            (0, _) => assert!(matches!(end, Outcome::Corrupt { offset, .. } if offset == HEADER_LEN as u64)),
            (_, true) => assert_eq!(end, Outcome::CleanEnd),
            (_, false) => assert_eq!(end, Outcome::TornTail { offset: ends[whole - 1] as u64 }),
        }
    }
}

#[test]
fn damage_before_a_good_record_is_corruption() {
    let (bytes, ends) = manifest(&[b"snapshot", b"one", b"two", b"three"]);
    for at in HEADER_LEN..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let (payloads, end) = read(&bad, ends[0]);
            let hit = ends.iter().filter(|&&end| end <= at).count();
            assert_eq!(payloads.len(), hit, "bit {bit} of byte {at}");
            let offset = if hit == 0 { HEADER_LEN } else { ends[hit - 1] } as u64;
            match hit {
                3 => assert_eq!(end, Outcome::TornTail { offset }),
                _ => assert!(matches!(end, Outcome::Corrupt { offset: at, .. } if at == offset), "{end:?}"),
            }
        }
    }
}

#[test]
fn stale_and_misplaced_records_do_not_pass() {
    let (mut bytes, ends) = manifest(&[b"snapshot", b"one"]);
    let again = bytes[ends[0]..].to_vec();
    bytes.extend_from_slice(&again);
    let (payloads, end) = read(&bytes, ends[0]);
    assert_eq!(payloads.len(), 2);
    assert!(matches!(end, Outcome::Corrupt { why, .. } if why.contains("record 1 where record 2")));
    bytes.truncate(ends[1]);
    push_record(&mut bytes, FileNumber(11), 2, b"of another file");
    assert_eq!(read(&bytes, ends[0]).1, Outcome::TornTail { offset: ends[1] as u64 });
    bytes.truncate(ends[1]);
    bytes.extend_from_slice(&[0; 5000]);
    assert_eq!(read(&bytes, ends[0]).1, Outcome::TornTail { offset: ends[1] as u64 }, "zeros are no record");
}

#[test]
fn fuzz_entry_survives_cuts_and_flips() {
    let edit = full_edit().encode();
    let (bytes, _) = manifest(&[&edit, b"", b"\x02\x01\x07"]);
    for cut in 0..=bytes.len() {
        fuzz_manifest(&bytes[..cut]);
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        fuzz_manifest(&bad);
    }
}

proptest! {
    #[test]
    fn any_records_read_back(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)) {
        let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let (bytes, ends) = manifest(&payloads);
        prop_assert_eq!(read(&bytes, ends[0]), (payloads, Outcome::CleanEnd));
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_manifest(&bytes);
    }
}
