//! Golden bytes, round trips, and bytes that are no record.

use proptest::prelude::*;

use super::*;
use crate::format::golden;

fn sample() -> PreparedRecord {
    PreparedRecord {
        serializable: true,
        wrote: true,
        id: TxnId(300),
        parts: vec![TxnId(301), TxnId(305)],
        locks: vec![(7, 0b1000), (500, 0b1_0001)],
        reads: vec![TreeId(3), TreeId(200)],
        row_locks: b"rows".to_vec(),
        payload: b"host".to_vec(),
    }
}

fn plain() -> PreparedRecord {
    PreparedRecord {
        serializable: false,
        wrote: false,
        id: TxnId(1),
        parts: Vec::new(),
        locks: Vec::new(),
        reads: Vec::new(),
        row_locks: Vec::new(),
        payload: Vec::new(),
    }
}

#[test]
fn golden() {
    let mut lines = String::new();
    lines += &golden::hex(&status_key(TxnId(70_000)));
    lines += &golden::hex(&encode_next_id(TxnId(70_001)));
    lines += &golden::hex(&plain().encode());
    lines += &golden::hex(&sample().encode());
    assert_eq!(lines, include_str!("testdata/txn_records.hex"));
}

#[test]
fn ids_stand_before_the_key_of_the_next_id() {
    assert!(status_key(TxnId(TXN_ID_MAX)).as_slice() < NEXT_ID_KEY);
    assert!(status_key(TxnId(255)) < status_key(TxnId(256)));
}

#[test]
fn what_is_no_record_is_refused() {
    assert!(decode_next_id(&[]).is_err());
    assert!(decode_next_id(&[0]).is_err());
    assert!(decode_next_id(&[5, 5]).is_err());
    let bytes = sample().encode();
    for cut in 0..bytes.len() {
        assert!(PreparedRecord::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for (bad, why) in [
        (&[4, 1, 0, 0, 0, 0, 0][..], "unknown flags"),
        (&[0, 0, 0, 0, 0, 0, 0], "bad id"),
        (&[0, 1, 1, 0, 0, 0, 0, 0], "bad savepoint ids"),
        (&[0, 1, 0, 1, 9, 0, 0, 0, 0], "bad locks"),
        (&[0, 1, 0, 0, 2, 5, 5, 0, 0], "bad reads"),
        (&[0, 1, 0, 0, 0, 0, 0, 9], "behind its end"),
    ] {
        let error = PreparedRecord::decode(bad).unwrap_err();
        assert!(error.contains(why), "{bad:?}: {error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode_next_id(&bytes);
        if let Ok(record) = PreparedRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }
}
