use proptest::prelude::*;

use super::*;

const UUID: [u8; 16] = *b"0123456789abcdef";

fn header(payload: &[u8], lsn: u64) -> RecordHeader {
    let len = payload.len() as u32;
    RecordHeader {
        kind: RecordKind::Batch,
        compressed: false,
        lsn: Lsn(lsn),
        first: SeqNo(0x0012_3456_789A_BCDE),
        count: 3,
        synced: Lsn(lsn - 8),
        stored_len: len,
        raw_len: len,
        payload_checksum: Checksum::of(payload),
    }
}

/// The record's bytes as the ring holds them.
fn record(payload: &[u8], lsn: u64) -> Vec<u8> {
    let head = header(payload, lsn);
    let mut out = head.encode(LogId::of(UUID)).to_vec();
    out.extend_from_slice(payload);
    out.resize(head.record_len() as usize, 0);
    out
}

/// Decodes as a reader does: header, payload, nothing less.
fn read(bytes: &[u8], at: u64) -> Option<Vec<u8>> {
    let Outcome::Header(head) = decode(bytes, Lsn(at), LogId::of(UUID)) else { return None };
    let body = bytes.get(HEADER_LEN..head.record_len() as usize)?;
    head.check_payload(body).ok()?;
    let mut out = Vec::new();
    head.expand(&body[..head.stored_len as usize], &mut out).ok().map(<[u8]>::to_vec)
}

#[test]
fn golden() {
    let hex: String = record(b"hello log", 0x1_0000).iter().map(|b| format!("{b:02x}")).collect();
    let golden: String = include_str!("testdata/record.hex")
        .lines()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
        .collect();
    assert_eq!(hex, golden);
}

#[test]
fn round_trip() {
    let bytes = record(b"payload", 64);
    assert_eq!(decode(&bytes, Lsn(64), LogId::of(UUID)), Outcome::Header(header(b"payload", 64)));
    assert_eq!(read(&bytes, 64).as_deref(), Some(&b"payload"[..]));
    assert_eq!(decode(&bytes, Lsn(72), LogId::of(UUID)), Outcome::Stale { lsn: Lsn(64) });
    assert_eq!(
        decode(&bytes, Lsn(64), LogId::of([0; 16])),
        Outcome::Bad("header checksum does not match"),
        "another engine's record"
    );
    assert_eq!(decode(&[0; 64], Lsn(0), LogId::of(UUID)), Outcome::Empty);
    assert_eq!(decode(&[0; 64], Lsn(8), LogId::of(UUID)), Outcome::Empty);
    assert_eq!(decode(&bytes[..39], Lsn(64), LogId::of(UUID)), Outcome::Short);
}

#[test]
fn compressed_round_trip() {
    let raw = vec![7u8; 5000];
    let stored = lz4_flex::block::compress(&raw);
    let mut head = header(&stored, 8);
    (head.compressed, head.raw_len) = (true, raw.len() as u32);
    let mut out = Vec::new();
    assert_eq!(head.expand(&stored, &mut out), Ok(&raw[..]));
    head.raw_len += 1;
    assert!(head.expand(&stored, &mut out).is_err());
    head.raw_len = u32::MAX;
    let bytes = head.encode(LogId::of(UUID));
    assert_eq!(decode(&bytes, Lsn(8), LogId::of(UUID)), Outcome::Bad("payload lengths are impossible"));
}

#[test]
fn a_far_synced_position_reads_as_nothing_synced() {
    let mut head = header(b"", 1 << 40);
    head.synced = Lsn(0);
    let Outcome::Header(back) = decode(&head.encode(LogId::of(UUID)), Lsn(1 << 40), LogId::of(UUID)) else { panic!() };
    assert_eq!(back.synced, Lsn(0));
    head.synced = Lsn((1 << 40) - (1 << 20));
    let Outcome::Header(back) = decode(&head.encode(LogId::of(UUID)), Lsn(1 << 40), LogId::of(UUID)) else { panic!() };
    assert_eq!(back.synced, head.synced);
}

#[test]
fn every_flip_and_every_cut_is_noticed() {
    let bytes = record(b"some payload", 128);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&flipped, 128), None, "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert_eq!(read(&bytes[..len], 128), None, "cut to {len}");
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<u64>()) {
        crate::fuzz::log_record::fuzz_log_record(&bytes);
        prop_assert!(!matches!(decode(&bytes, Lsn(at), LogId::of(UUID)), Outcome::Header(_)));
    }

    #[test]
    fn any_record_round_trips(payload in proptest::collection::vec(any::<u8>(), 0..300), at in 1u64..1 << 40) {
        let at = at * 8;
        prop_assert_eq!(read(&record(&payload, at), at), Some(payload));
    }
}
