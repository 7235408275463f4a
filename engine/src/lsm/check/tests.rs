use std::sync::Arc;

use super::*;
use crate::base::ids::SeqNo;
use crate::format::version_edit::VersionEdit;
use crate::format::version_edit::samples::{file, full_edit, open_file};

/// Problems of a version with a single file, which `spoil` has changed.
fn problems_of(spoil: impl FnOnce(&mut FileMeta)) -> String {
    let mut bad = open_file(7, b"a", b"b", (1, 2));
    spoil(&mut bad);
    let edit = VersionEdit { added: vec![(Level(3), Arc::new(bad))], ..VersionEdit::default() };
    check(&Version::empty().apply(&edit).unwrap()).join("; ")
}

#[test]
fn sound_versions_pass() {
    let edit = VersionEdit { trees: Vec::new(), deleted: Vec::new(), ..full_edit() };
    assert_eq!(check(&Version::empty().apply(&edit).unwrap()), Vec::<String>::new());
    assert_eq!(problems_of(|_| ()), "");
}

#[test]
fn files_that_cannot_be_are_named() {
    assert!(problems_of(|file| file.size = 0).contains("L3: file 000007: it has no bytes"));
    assert!(problems_of(|file| (file.entries, file.deletes, file.range_deletes) = (0, 0, 0)).contains("no entries"));
    assert!(problems_of(|file| file.deletes = file.entries + 1).contains("deletes among"));
    assert!(problems_of(|file| file.range_deletes = 0).contains("exclusive"));
    assert!(problems_of(|file| file.max_txn = 3).contains("transactions 0 to 3"));
    assert!(problems_of(|file| (file.min_txn, file.max_txn) = (4, 3)).contains("transactions 4 to 3"));
}

#[test]
fn heads_that_lie_are_named() {
    let edit = VersionEdit { added: vec![(Level(0), Arc::new(file(7, b"a", b"b", (1, 2))))], ..full_edit() };
    let edit = VersionEdit { deleted: Vec::new(), trees: vec![edit.trees[0].clone()], ..edit };
    let mut version = Version::empty().apply(&edit).unwrap();
    (version.next_file, version.next_tree, version.last_seqno) = (7, 5, SeqNo(1));
    let problems = check(&version).join("; ");
    for want in ["not below the next, 7", "tree 5: filed as", "sequence number 2, past the last, 1"] {
        assert!(problems.contains(want), "{want} in {problems}");
    }
}
