use super::*;
use crate::format::version_edit::samples::{file, open_file};

fn levels(files: Vec<FileMeta>) -> Vec<(u64, u8)> {
    place(files).iter().map(|(level, file)| (file.number.0, level.0)).collect()
}

#[test]
fn order_that_is_certain_is_kept() {
    let zeroed = file(1, b"a", b"f", (0, 0));
    let beside = file(2, b"g", b"k", (0, 0));
    let above = file(3, b"c", b"h", (5, 9));
    let top = file(4, b"a", b"z", (10, 20));
    assert_eq!(levels(vec![top, above, beside, zeroed]), [(1, 6), (2, 6), (3, 5), (4, 4)]);
}

#[test]
fn what_is_tangled_goes_to_l0_with_all_that_is_newer() {
    let old = file(1, b"a", b"f", (1, 3));
    let tangled = file(2, b"c", b"h", (5, 9));
    let with = file(3, b"g", b"k", (7, 12));
    let newer = file(4, b"j", b"m", (20, 30));
    let newest = file(5, b"m", b"o", (40, 50));
    let apart = file(6, b"x", b"z", (1, 99));
    let files = vec![old, tangled, with, newer, newest, apart];
    assert_eq!(levels(files), [(1, 6), (2, 0), (3, 0), (4, 0), (5, 0), (6, 6)]);
}

#[test]
fn touching_files_overlap_only_in_an_inclusive_key() {
    assert_eq!(levels(vec![open_file(1, b"a", b"c", (1, 5)), file(2, b"c", b"d", (3, 9))]), [(1, 6), (2, 6)]);
    assert_eq!(levels(vec![file(1, b"a", b"c", (1, 5)), file(2, b"c", b"d", (3, 9))]), [(1, 0), (2, 0)]);
}

#[test]
fn more_layers_than_levels_end_in_l0() {
    let files = (1..=9).map(|n| file(n, b"a", b"b", (10 * n, 10 * n + 5))).collect();
    let want = [(1, 6), (2, 5), (3, 4), (4, 3), (5, 2), (6, 1), (7, 0), (8, 0), (9, 0)];
    assert_eq!(levels(files), want);
}

#[test]
fn later_outputs_with_zeroed_entries_come_first() {
    let placed = place(vec![file(8, b"a", b"c", (0, 0)), file(5, b"b", b"d", (0, 500))]);
    let seqnos: Vec<_> = placed.iter().map(|(level, file)| (file.number.0, level.0, file.largest_seqno.0)).collect();
    assert_eq!(seqnos, [(5, 0, 500), (8, 0, 500)]);
}

fn known() -> Known {
    Known {
        identity: Identity { uuid: [7; 16], format: 1, created_unix: 5 },
        version: 1000,
        durable: Lsn(77),
        next_file: 12,
        trees: BTreeMap::from([(TreeId(4), (b"users".to_vec(), vec![1]))]),
    }
}

#[test]
fn the_snapshot_has_every_readable_file_and_every_tree() {
    let io = || Error::io("000003.sst".as_ref(), "read", std::io::Error::other("bad sector"));
    let repaired = rebuild(&[3, 1, 2, 4, 30].map(FileNumber), known(), &mut |number| match number.0 {
        1 => Ok(Summary { meta: file(1, &[1, 4, b'a'], &[1, 6, b'b'], (1, 5)), trees: vec![] }),
        2 => Ok(Summary { meta: file(2, &[1, 4, b'c'], &[1, 4, b'd'], (6, 8)), trees: vec![TreeId(9)] }),
        3 => Err(io()),
        4 => Ok(Summary { meta: file(5, b"a", b"b", (1, 2)), trees: vec![] }),
        _ => Ok(Summary { meta: file(30, b"b", b"a", (1, 2)), trees: vec![] }),
    });
    let skipped: Vec<_> = repaired.skipped.iter().map(|(number, error)| (number.0, error.to_string())).collect();
    assert_eq!(skipped.iter().map(|skip| skip.0).collect::<Vec<_>>(), [3, 4, 30]);
    assert!(skipped[1].1.contains("says that it is file 000005") && skipped[2].1.contains("past its largest"));
    assert_eq!(repaired.nameless, [TreeId(6), TreeId(9)]);
    let snapshot = repaired.snapshot;
    assert_eq!((snapshot.version, snapshot.durable, snapshot.last_seqno), (Some(1000), Some(Lsn(77)), Some(SeqNo(8))));
    assert_eq!((snapshot.next_file, snapshot.next_tree, snapshot.added.len()), (Some(31), Some(10), 2));
    let names: Vec<_> = snapshot
        .trees
        .iter()
        .map(|tree| match tree {
            TreeEdit::Created { name, .. } => String::from_utf8_lossy(name).into_owned(),
            TreeEdit::Dropped { .. } => "dropped".to_owned(),
        })
        .collect();
    assert_eq!(names, ["users", "recovered-6", "recovered-9"]);
    let nothing = rebuild(&[], known(), &mut |_| Err(io()));
    assert!(nothing.snapshot.added.is_empty() && nothing.skipped.is_empty());
}
