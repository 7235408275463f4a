//! Golden bytes, round trips, and bytes that are no version.

use proptest::prelude::*;

use super::*;
use crate::format::golden;

fn version(kind: RowKind, number: u16, stamp: Option<(u64, u32)>, payload: &[u8]) -> RowVersion<'_> {
    let stamp = stamp.map(|(txn, command)| Stamp { txn: TxnId(txn), command: CommandId(command) });
    RowVersion { kind, number, stamp, payload }
}

fn bytes(version: &RowVersion<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    version.encode(&mut out);
    out
}

#[test]
fn golden() {
    let samples = [
        version(RowKind::Put, 0, None, b"row"),
        version(RowKind::Put, 0, Some((1, 0)), b"row"),
        version(RowKind::Put, 511, Some((1 << 32, 200)), b""),
        version(RowKind::Tombstone, 3, Some((700, 1)), b""),
        version(RowKind::Tombstone, 0, None, b""),
        version(RowKind::Moved, 0, Some((9, 2)), b"new key"),
        version(RowKind::Speculative, 0, Some((9, 2)), b"row"),
    ];
    let lines: String = samples.iter().map(|sample| golden::hex(&bytes(sample))).collect();
    assert_eq!(lines, include_str!("testdata/row_versions.hex"));
}

#[test]
fn what_is_no_version_is_refused() {
    for (bad, why) in [
        (&[][..], "empty"),
        (&[0x80], "unknown kind"),
        (&[0x87], "unknown kind"),
        (&[0x91], "unknown flags"),
        (&[0x89, 0], "bad number"),
        (&[0x89, 0x80, 0x80, 0x04], "bad number"),
        (&[0x01], "transaction id"),
        (&[0x01, 0, 0], "transaction id"),
        (&[0x01, 5], "command id"),
        (&[0x01, 5, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F], "command id"),
        (&[0x82, 1], "payload"),
        (&[0x83], "no new key"),
        (&[0x84, 1], "frozen"),
    ] {
        let error = decode(bad).unwrap_err();
        assert!(error.contains(why), "{bad:?}: {error:?}");
    }
}

proptest! {
    #[test]
    fn every_version_reads_back(
        kind in prop_oneof![
            Just(RowKind::Put), Just(RowKind::Tombstone), Just(RowKind::Moved), Just(RowKind::Speculative)
        ],
        number in prop_oneof![Just(0u16), any::<u16>()],
        stamp in proptest::option::of((1u64.., any::<u32>())),
        payload in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let payload = match kind {
            RowKind::Tombstone => Vec::new(),
            RowKind::Moved => [&b"k"[..], &payload].concat(),
            _ => payload,
        };
        let stamp = if kind == RowKind::Speculative { stamp.or(Some((1, 0))) } else { stamp };
        let written = version(kind, number, stamp, &payload);
        let encoded = bytes(&written);
        prop_assert_eq!(decode(&encoded), Ok(written));
        if kind != RowKind::Speculative {
            let frozen = bytes(&written.frozen());
            prop_assert_eq!(decode(&frozen), Ok(written.frozen()));
            prop_assert!(frozen.len() <= encoded.len());
        }
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(data in proptest::collection::vec(any::<u8>(), 0..16)) {
        if let Ok(version) = decode(&data) {
            prop_assert_eq!(bytes(&version), data);
        }
    }
}
