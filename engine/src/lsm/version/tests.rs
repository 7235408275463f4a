mod repair;

use proptest::collection::vec;
use proptest::prelude::*;

use super::builder::VersionBuilder;
use super::*;
use crate::format::version_edit::samples::{file, full_edit, open_file};
use crate::lsm::check::check;

fn add(level: u8, file: FileMeta) -> (Level, Arc<FileMeta>) {
    (Level(level), Arc::new(file))
}

fn with(added: Vec<(Level, Arc<FileMeta>)>) -> Version {
    Version::empty().apply(&VersionEdit { added, ..VersionEdit::default() }).unwrap()
}

fn numbers<'a>(files: impl IntoIterator<Item = &'a Arc<FileMeta>>) -> Vec<u64> {
    files.into_iter().map(|file| file.number.0).collect()
}

#[test]
fn levels_are_put_in_order() {
    let version = with(vec![
        add(0, file(1, b"a", b"z", (1, 10))),
        add(0, file(3, b"a", b"c", (11, 30))),
        add(0, file(2, b"x", b"z", (12, 30))),
        add(1, file(5, b"m", b"p", (1, 2))),
        add(1, open_file(4, b"a", b"m", (1, 2))),
    ]);
    assert_eq!(numbers(version.level(Level(0))), [3, 2, 1], "newest first, by sequence number and then number");
    assert_eq!(numbers(version.level(Level(1))), [4, 5]);
    assert_eq!((version.number, version.next_file, version.last_seqno), (1, 6, SeqNo(30)));
    assert_eq!((version.file_count(), version.level_bytes(Level(1)), version.total_bytes()), (5, 9 * 4096, 15 * 4096));
    assert_eq!((version.sublevels().count(), version.read_amplification()), (2, 3));
    assert_eq!(numbers(version.l0_for(b"y")), [2, 1]);
    assert_eq!(numbers(version.l0_for(b"zz")), []);
    assert_eq!(numbers(version.l0_overlapping((Bound::Excluded(b"c"), Bound::Excluded(b"x")))), [1]);
    assert_eq!(check(&version), Vec::<String>::new());
}

#[test]
fn point_lookups_mind_exclusive_ends() {
    let version = with(vec![
        add(2, open_file(1, b"b", b"d", (1, 2))),
        add(2, file(2, b"d", b"d", (1, 2))),
        add(2, open_file(3, b"f", b"h", (1, 2))),
    ]);
    let found = |key: &[u8]| version.file_for(Level(2), key).map(|file| file.number.0);
    for (key, want) in [
        (&b"a"[..], None),
        (b"b", Some(1)),
        (b"cz", Some(1)),
        (b"d", Some(2)),
        (b"da", None),
        (b"f", Some(3)),
        (b"gz", Some(3)),
        (b"h", None),
        (b"", None),
    ] {
        assert_eq!(found(key), want, "{key:?}");
    }
    assert_eq!(version.file_for(Level(3), b"d"), None);
}

#[test]
fn contradictions_are_refused_by_name() {
    let version = with(vec![add(0, file(1, b"a", b"b", (1, 2))), add(1, file(2, b"c", b"f", (1, 2)))]);
    let tree = |id| TreeEdit::Created { id: TreeId(id), name: vec![], options: vec![] };
    let edit = VersionEdit::default;
    for (want, bad) in [
        ("L1: files 2 and 3 overlap", VersionEdit { added: vec![add(1, file(3, b"f", b"g", (1, 2)))], ..edit() }),
        ("file 000002 is added but exists", VersionEdit { added: vec![add(2, file(2, b"c", b"f", (1, 2)))], ..edit() }),
        (
            "added twice",
            VersionEdit {
                added: vec![add(2, file(9, b"c", b"f", (1, 2))), add(3, file(9, b"c", b"f", (1, 2)))],
                ..edit()
            },
        ),
        ("L0: file 000002 is deleted but", VersionEdit { deleted: vec![(Level(0), FileNumber(2))], ..edit() }),
        ("deleted twice", VersionEdit { deleted: vec![(Level(0), FileNumber(1)); 2], ..edit() }),
        ("past its largest", VersionEdit { added: vec![add(1, file(3, b"z", b"g", (1, 2)))], ..edit() }),
        ("no level L7", VersionEdit { deleted: vec![(Level(7), FileNumber(1))], ..edit() }),
        ("no level L9", VersionEdit { cursors: vec![(Level(9), vec![])], ..edit() }),
        ("tree 3 is dropped but", VersionEdit { trees: vec![TreeEdit::Dropped { id: TreeId(3) }], ..edit() }),
        ("tree 3 is created but", VersionEdit { trees: vec![tree(3), tree(3)], ..edit() }),
        ("version 0 after", VersionEdit { version: Some(0), ..edit() }),
    ] {
        let want = want.replace("files 2 and 3", "files 000002 and 000003");
        let got = version.apply(&bad).unwrap_err();
        assert!(got.contains(&want), "{got}");
    }
    let later = version.apply(&VersionEdit { durable: Some(Lsn(9)), ..edit() }).unwrap();
    assert!(later.apply(&VersionEdit { durable: Some(Lsn(8)), ..edit() }).unwrap_err().contains("durable"));
    let identity = full_edit().identity;
    let owned = later.apply(&VersionEdit { identity, ..edit() }).unwrap();
    let other = identity.map(|own| Identity { uuid: [0; 16], ..own });
    assert!(owned.apply(&VersionEdit { identity: other, ..edit() }).unwrap_err().contains("another database"));
}

#[test]
fn trivial_moves_and_untouched_levels_share() {
    let before = with(vec![add(0, file(1, b"a", b"b", (1, 2))), add(1, file(2, b"c", b"f", (1, 2)))]);
    let moved = VersionEdit {
        deleted: vec![(Level(1), FileNumber(2))],
        added: vec![(Level(2), Arc::clone(&before.level(Level(1))[0]))],
        cursors: vec![(Level(1), b"f".to_vec())],
        ..VersionEdit::default()
    };
    let after = before.apply(&moved).unwrap();
    assert!(after.level(Level(1)).is_empty() && numbers(after.level(Level(2))) == [2]);
    assert!(after.shares_level(&before, Level(0)) && !after.shares_level(&before, Level(1)));
    assert_eq!(after.cursors[1], b"f");
    assert_eq!(before.file_count(), 2, "the old version is as it was");
}

#[test]
fn counters_never_fall_and_tree_ids_stay_used() {
    let version = Version::empty().apply(&VersionEdit { trees: vec![], ..VersionEdit::default() }).unwrap();
    let high = VersionEdit { next_file: Some(50), last_seqno: Some(SeqNo(70)), ..VersionEdit::default() };
    let low = VersionEdit { next_file: Some(40), last_seqno: Some(SeqNo(60)), ..VersionEdit::default() };
    let version = version.apply(&high).unwrap().apply(&low).unwrap();
    assert_eq!((version.next_file, version.last_seqno), (50, SeqNo(70)));
    let created = TreeEdit::Created { id: TreeId(8), name: b"t".to_vec(), options: vec![] };
    let trees = vec![created, TreeEdit::Dropped { id: TreeId(8) }];
    let version = version.apply(&VersionEdit { trees, ..VersionEdit::default() }).unwrap();
    let again = Version::empty().apply(&version.snapshot_edit()).unwrap();
    assert!(again.trees.is_empty() && again.next_tree == 9, "the id of a dropped tree survives a snapshot");
}

/// What to put into an edit, in terms of files that may or may not be there.
#[derive(Clone, Debug)]
enum Op {
    Add { level: u8, from: u8, len: u8, open: bool, seqno: u64 },
    Delete { which: usize },
    Move { which: usize, to: u8 },
    Head { durable: u64, tree: u64, drop: bool },
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..7u8, 0..60u8, 0..4u8, any::<bool>(), 1..99u64)
            .prop_map(|(level, from, len, open, seqno)| Op::Add { level, from, len, open, seqno }),
        2 => (0..50usize).prop_map(|which| Op::Delete { which }),
        2 => (0..50usize, 0..7u8).prop_map(|(which, to)| Op::Move { which, to }),
        1 => (0..40u64, 1..6u64, any::<bool>()).prop_map(|(durable, tree, drop)| Op::Head { durable, tree, drop }),
    ]
}

/// The plain model: a list of files, checked pair by pair.
#[derive(Clone, Debug, Default)]
struct Model {
    files: Vec<(Level, Arc<FileMeta>)>,
    next: u64,
    durable: u64,
    trees: std::collections::BTreeSet<u64>,
}

impl Model {
    /// Turns drawn operations into an edit and applies it; `false` when the edit is not legal.
    fn step(&mut self, ops: &[Op]) -> (VersionEdit, bool) {
        let mut edit = VersionEdit::default();
        let mut legal = true;
        for op in ops {
            match *op {
                Op::Add { level, from, len, open, seqno } => {
                    self.next += 1;
                    let make = if open { open_file } else { file };
                    let seqnos = (seqno, seqno + u64::from(len));
                    edit.added.push(add(level, make(self.next, &[1, from], &[1, from + len + u8::from(open)], seqnos)));
                }
                Op::Delete { which } if which < self.files.len() => {
                    let (level, file) = self.files[which].clone();
                    legal &= !edit.deleted.iter().any(|deleted| deleted.1 == file.number);
                    edit.deleted.push((level, file.number));
                }
                Op::Move { which, to } if which < self.files.len() => {
                    let (level, file) = self.files[which].clone();
                    legal &= !edit.deleted.iter().any(|deleted| deleted.1 == file.number);
                    edit.deleted.push((level, file.number));
                    edit.added.push((Level(to), file));
                }
                Op::Delete { .. } | Op::Move { .. } => {}
                Op::Head { durable, tree, drop } => {
                    edit.durable = Some(Lsn(durable));
                    legal &= if drop { self.trees.remove(&tree) } else { self.trees.insert(tree) };
                    edit.trees.push(match drop {
                        true => TreeEdit::Dropped { id: TreeId(tree) },
                        false => {
                            TreeEdit::Created { id: TreeId(tree), name: vec![b't'; tree as usize], options: vec![] }
                        }
                    });
                }
            }
        }
        if let Some(durable) = edit.durable {
            legal &= durable.0 >= self.durable;
            self.durable = durable.0;
        }
        self.files.retain(|(_, file)| !edit.deleted.iter().any(|deleted| deleted.1 == file.number));
        self.files.extend(edit.added.iter().cloned());
        (edit, legal && self.disjoint())
    }

    fn disjoint(&self) -> bool {
        let twice = |a: usize, b: usize| self.files[a].1.number == self.files[b].1.number;
        let clash = |a: usize, b: usize| {
            let ((la, fa), (lb, fb)) = (&self.files[a], &self.files[b]);
            la == lb && la.0 > 0 && fa.overlaps(fb)
        };
        (0..self.files.len()).all(|a| (0..a).all(|b| !twice(a, b) && !clash(a, b)))
    }
}

fn check_lookups(version: &Version, files: &[(Level, Arc<FileMeta>)]) {
    let keys: Vec<Vec<u8>> =
        (0..66u8).flat_map(|key| [vec![1, key], vec![1, key, 0]]).chain([vec![], vec![2]]).collect();
    for level in (1..7).map(Level) {
        for key in &keys {
            let want = files.iter().find(|(at, file)| *at == level && file.covers(key)).map(|(_, file)| file.number);
            assert_eq!(version.file_for(level, key).map(|file| file.number), want, "{level} {key:?}");
        }
        for from in keys.iter().step_by(5) {
            for to in keys.iter().step_by(7) {
                for (from, to) in [
                    (Bound::Included(&from[..]), Bound::Excluded(&to[..])),
                    (Bound::Excluded(&from[..]), Bound::Included(&to[..])),
                    (Bound::Unbounded, Bound::Included(&to[..])),
                    (Bound::Excluded(&from[..]), Bound::Unbounded),
                ] {
                    let here = version.level(level);
                    let want: Vec<_> = (0..here.len()).filter(|&at| here[at].overlaps_range((from, to))).collect();
                    assert_eq!(version.overlapping(level, (from, to)).collect::<Vec<_>>(), want, "{from:?} {to:?}");
                }
            }
        }
    }
    for key in &keys {
        let mut want: Vec<_> =
            files.iter().filter(|(at, file)| at.0 == 0 && file.covers(key)).map(|(_, file)| Arc::clone(file)).collect();
        want.sort_by_key(|file| std::cmp::Reverse((file.largest_seqno, file.number)));
        assert_eq!(numbers(version.l0_for(key)), numbers(&want));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn edits_agree_with_the_model_the_builder_and_the_snapshot(steps in vec(vec(any_op(), 1..4), 1..60)) {
        let mut model = Model::default();
        let mut version = Version::empty();
        let mut builder = VersionBuilder::default();
        for ops in &steps {
            let mut next = model.clone();
            let (edit, legal) = next.step(ops);
            let applied = version.apply(&edit);
            prop_assert_eq!(applied.is_ok(), legal, "{:?} on {:?}: {:?}", edit, model, applied.err());
            let Ok(applied) = applied else {
                model.next = next.next;
                continue;
            };
            builder.apply(&VersionEdit::decode(&edit.encode()).unwrap()).unwrap();
            model = next;
            version = applied;
        }
        prop_assert_eq!(version.file_count(), model.files.len());
        check_lookups(&version, &model.files);
        let problems = check(&version);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        prop_assert_eq!(&builder.finish().unwrap(), &version);
        let snapshot = VersionEdit::decode(&version.snapshot_edit().encode()).unwrap();
        prop_assert_eq!(&Version::empty().apply(&snapshot).unwrap(), &version);
        prop_assert_eq!(snapshot, version.snapshot_edit());
    }
}
