//! Files that were cut or flipped: the error names file and offset, and nothing is touched.

use std::path::Path;

use ssd_engine::Class;
use ssd_engine::db::open::LOCK;
use ssd_engine::env::default_env;
use ssd_engine::format::log_record::RecordKind;
use ssd_engine::wal::LogPlace;
use ssd_engine::wal::check::{CheckLine, check};

use crate::place::{Place, assert_corrupt, cut, data, flip, len, refused, rows, tree};

/// Damages a file, and checks that `open` refuses the directory and changes no data.
fn assert_refused(place: &Place, file: &Path, damage: impl FnOnce(&Path)) {
    damage(file);
    let before = data(&place.db());
    assert_corrupt(place.open(), file);
    assert_eq!(data(&place.db()), before);
}

#[test]
fn current() {
    for keep in [0, 5, 16, 20] {
        let place = Place::closed();
        assert_refused(&place, &place.db().join("CURRENT"), |file| cut(file, keep));
    }
    for at in [0, 12, 15, 20] {
        let place = Place::closed();
        assert_refused(&place, &place.db().join("CURRENT"), |file| flip(file, at));
    }
    let place = Place::closed();
    let manifest = place.file("MANIFEST-", "");
    std::fs::remove_file(manifest).unwrap();
    assert_corrupt(place.open(), &place.db().join("CURRENT"));
}

#[test]
fn manifest() {
    for keep in [0, 20, 40] {
        let place = Place::closed();
        assert_refused(&place, &place.file("MANIFEST-", ""), |file| cut(file, keep));
    }
    for at in [0, 9, 17, 33, 38, 60] {
        let place = Place::closed();
        assert_refused(&place, &place.file("MANIFEST-", ""), |file| flip(file, at));
    }
}

#[test]
fn a_torn_end_of_the_manifest_is_what_a_crash_leaves() {
    let place = Place::closed();
    let manifest = place.file("MANIFEST-", "");
    cut(&manifest, len(&manifest) - 1);
    place.assert_whole();
}

#[test]
fn sst_footer() {
    let sst = |place: &Place| place.file("", ".sst");
    for cut_off in [1, 4096, 5000] {
        let place = Place::closed();
        assert_refused(&place, &sst(&place), |file| cut(file, len(file) - cut_off));
    }
    let place = Place::closed();
    assert_refused(&place, &sst(&place), |file| cut(file, 0));
    for from_end in [1, 9, 20, 40, 300] {
        let place = Place::closed();
        assert_refused(&place, &sst(&place), |file| flip(file, len(file) - from_end));
    }
    let place = Place::closed();
    let gone = sst(&place);
    std::fs::remove_file(&gone).unwrap();
    let text = refused(place.open(), Class::Corruption);
    assert!(text.contains(&*gone.to_string_lossy()) && text.contains("missing"), "{text}");
}

#[test]
fn sst_block() {
    let place = Place::closed();
    let sst = place.file("", ".sst");
    flip(&sst, 100);
    let before = data(&place.db());
    let engine = place.open().unwrap();
    let tree = tree(&engine);
    assert_corrupt(tree.get(b"0001"), &sst);
    assert_corrupt(tree.multi_get(&[b"0499", b"0001"]), &sst);
    assert_corrupt(tree.scan::<Vec<u8>>(..).unwrap().collect::<Result<Vec<_>, _>>(), &sst);
    assert_corrupt(engine.verify(), &sst);
    assert!(tree.get(b"0499").unwrap().is_some(), "other blocks can be read");
    assert_eq!(tree.scan(b"0400".to_vec()..).unwrap().map(Result::unwrap).count(), 100);
    assert_corrupt(engine.compact(), &sst);
    drop(tree);
    engine.close().unwrap();
    assert_eq!(data(&place.db()).get(&sst), before.get(&sst));
}

#[test]
fn log_of_a_process_that_died() {
    let place = Place::unclosed();
    let segment = place.file("", ".wal");
    assert_refused(&place, &segment, |file| cut(file, 8192));
    let place = Place::unclosed();
    assert_refused(&place, &place.file("", ".wal"), |file| flip(file, 17));
    let place = Place::unclosed();
    let (file, offset) = last_record(&place, RecordKind::Batch);
    assert_refused(&place, &file, |file| flip(file, offset + 50));
    let place = Place::unclosed();
    assert_eq!(rows(&tree(&place.open().unwrap())), 501);
}

#[test]
fn closing_record_of_the_log() {
    for byte in [2, 10, 20, 30] {
        let place = Place::closed();
        let (file, offset) = last_record(&place, RecordKind::Noop);
        assert_refused(&place, &file, |file| flip(file, offset + byte));
        flip(&file, offset + byte);
        place.assert_whole();
    }
}

/// The last record of the log: its file and the offset there.
fn last_record(place: &Place, want: RecordKind) -> (std::path::PathBuf, u64) {
    let env = default_env();
    assert_eq!(env.lock_holder(&place.db().join(LOCK)).unwrap(), None);
    let log = LogPlace::discover(&env, &place.db(), true).unwrap().expect("there is a log");
    let mut last = None;
    check(&log, None, &mut |line| {
        if let CheckLine::Record { kind, lsn, .. } = line {
            last = Some((*kind, *lsn));
        }
    })
    .unwrap();
    let (kind, lsn) = last.expect("the log has records");
    assert_eq!(kind, want);
    let bytes = log.options.segment_bytes;
    (place.db().join(ssd_engine::wal::segment_name(lsn.0 / bytes + 1)), 4096 + lsn.0 % bytes)
}
