//! Files and edits for tests, fixed and drawn.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A file with bounds and sequence numbers; everything else follows from its number.
pub(crate) fn file(number: u64, smallest: &[u8], largest: &[u8], seqnos: (u64, u64)) -> FileMeta {
    FileMeta {
        number: FileNumber(number),
        size: 4096 * number,
        smallest: smallest.to_vec(),
        largest: largest.to_vec(),
        largest_exclusive: false,
        smallest_seqno: SeqNo(seqnos.0),
        largest_seqno: SeqNo(seqnos.1),
        entries: 10 * number,
        deletes: number,
        range_deletes: 0,
        raw_bytes: 9000 * number,
        min_txn: 0,
        max_txn: 0,
        created_unix: 1_700_000_000,
    }
}

/// The same with an exclusive largest key.
pub(crate) fn open_file(number: u64, smallest: &[u8], largest: &[u8], seqnos: (u64, u64)) -> FileMeta {
    FileMeta { largest_exclusive: true, range_deletes: 1, ..file(number, smallest, largest, seqnos) }
}

/// An edit with every kind of item.
pub(crate) fn full_edit() -> VersionEdit {
    let mut second = open_file(300, &[1, 5, b'a'], &[1, 6], (7, SeqNo::MAX.0));
    (second.min_txn, second.max_txn) = (1000, 70_000);
    VersionEdit {
        identity: Some(Identity { uuid: *b"0123456789abcdef", format: 3, created_unix: 1_700_000_000 }),
        version: Some(99),
        durable: Some(Lsn(0x1_0000_0001)),
        next_file: Some(301),
        last_seqno: Some(SeqNo::MAX),
        next_tree: Some(6),
        trees: vec![
            TreeEdit::Created { id: TreeId(5), name: b"users".to_vec(), options: vec![1, 2, 3] },
            TreeEdit::Dropped { id: TreeId(4) },
        ],
        deleted: vec![(Level(0), FileNumber(127)), (Level(6), FileNumber(128))],
        added: vec![
            (Level(1), Arc::new(file(299, &[1, 4, b'a'], &[1, 4, b'b'], (5, 6)))),
            (Level(6), Arc::new(second)),
        ],
        cursors: vec![(Level(3), vec![1, 5, b'm'])],
    }
}

/// Short keys over few letters, so that they collide, with zeros, which padding must not confuse.
pub(crate) fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(prop::sample::select(&[0u8, 1, 97, 255][..]), 0..4),
        vec(prop::sample::select(&[0u8, 97][..]), 6..20),
        vec(any::<u8>(), 0..12),
    ]
}

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, any::<u64>()]
}

/// Any file that can be encoded, sensible or not.
pub(crate) fn any_file() -> impl Strategy<Value = FileMeta> {
    let seqnos = (0..=SeqNo::MAX.0, 0..=SeqNo::MAX.0);
    (any_key(), any_key(), seqnos, any::<bool>(), vec(any_count(), 9)).prop_map(
        |(smallest, largest, seqnos, open, n)| FileMeta {
            number: FileNumber(n[0]),
            size: n[1],
            smallest,
            largest,
            largest_exclusive: open,
            smallest_seqno: SeqNo(seqnos.0),
            largest_seqno: SeqNo(seqnos.1),
            entries: n[2],
            deletes: n[3],
            range_deletes: n[4],
            raw_bytes: n[5],
            min_txn: n[6],
            max_txn: n[7],
            created_unix: n[8],
        },
    )
}

fn any_level() -> impl Strategy<Value = Level> {
    (0..LEVEL_COUNT as u8).prop_map(Level)
}

fn any_tree() -> impl Strategy<Value = TreeEdit> {
    let created = (any_count(), any_key(), any_key()).prop_map(|(id, name, options)| {
        let id = TreeId(id);
        TreeEdit::Created { id, name, options }
    });
    prop_oneof![created, any_count().prop_map(|id| TreeEdit::Dropped { id: TreeId(id) })]
}

/// Any edit that can be encoded, sensible or not.
pub(crate) fn any_edit() -> impl Strategy<Value = VersionEdit> {
    let identity = (any::<[u8; 16]>(), any::<u32>(), any_count());
    let identity = identity.prop_map(|(uuid, format, created_unix)| Identity { uuid, format, created_unix });
    let maybe = || prop::option::of(any_count());
    (
        prop::option::of(identity),
        (maybe(), maybe(), maybe(), maybe(), prop::option::of(0..=SeqNo::MAX.0)),
        vec(any_tree(), 0..3),
        vec((any_level(), any_count().prop_map(FileNumber)), 0..4),
        vec((any_level(), any_file().prop_map(Arc::new)), 0..4),
        vec((any_level(), any_key()), 0..3),
    )
        .prop_map(|(identity, scalars, trees, deleted, added, cursors)| VersionEdit {
            identity,
            version: scalars.0,
            durable: scalars.1.map(Lsn),
            next_file: scalars.2,
            next_tree: scalars.3,
            last_seqno: scalars.4.map(SeqNo),
            trees,
            deleted,
            added,
            cursors,
        })
}

/// Bytes of a hex dump: pairs of digits, with comments from `#` to the end of the line.
pub(crate) fn unhex(dump: &str) -> Vec<u8> {
    let digits = dump.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
    let digits: String = digits.collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
