//! What `open` finds where the directory should be, and who else has it.

use std::process::Command;

use ssd_engine::base::checksum::Checksum;
use ssd_engine::{Class, Engine, Options};

use crate::place::{Place, assert_corrupt, contents, options, refused};

#[test]
fn a_file_is_no_directory() {
    let place = Place::empty();
    std::fs::write(place.db(), b"hello").unwrap();
    for path in [place.db(), place.db().join("below")] {
        let text = refused(Engine::open(&path, options()), Class::Usage);
        assert!(text.contains(&*path.to_string_lossy()) && text.contains("not a directory"), "{text}");
    }
    assert_eq!(std::fs::read(place.db()).unwrap(), b"hello");
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    for names in [&["notes.txt"][..], &["photo.sst"], &["CURRENT.bak"], &["MANIFEST"], &["notes.tmp", "LOCK"]] {
        let place = Place::empty();
        std::fs::create_dir(place.db()).unwrap();
        for name in names {
            std::fs::write(place.db().join(name), b"mine").unwrap();
        }
        let before = contents(&place.db());
        let text = refused(place.open(), Class::Usage);
        assert!(text.contains("holds something else"), "{text}");
        assert_eq!(contents(&place.db()), before, "{names:?}");
    }
}

#[test]
fn a_store_of_another_kind_is_refused() {
    let place = Place::empty();
    std::fs::create_dir(place.db()).unwrap();
    std::fs::write(place.db().join("CURRENT"), b"MANIFEST-000005\n").unwrap();
    std::fs::write(place.db().join("MANIFEST-000005"), b"leveldb.BytewiseComparator").unwrap();
    std::fs::write(place.db().join("000004.sst"), b"of another engine").unwrap();
    let before = contents(&place.db());
    assert_corrupt(place.open(), &place.db().join("CURRENT"));
    let mut after = contents(&place.db());
    after.remove(&place.db().join("LOCK"));
    assert_eq!(after, before);
}

#[test]
fn a_later_format_says_so() {
    let place = Place::closed();
    let manifest = place.file("MANIFEST-", "");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[8] = 2;
    let checksum = Checksum::of(&bytes[..32]).0.to_le_bytes();
    bytes[32..36].copy_from_slice(&checksum);
    std::fs::write(&manifest, &bytes).unwrap();
    let text = refused(place.open(), Class::Usage);
    assert!(text.contains("MANIFEST-") && text.contains("later"), "{text}");
    assert_eq!(std::fs::read(&manifest).unwrap(), bytes);
}

#[test]
fn a_lost_current_is_damage_and_not_an_empty_directory() {
    for place in [Place::closed(), Place::unclosed()] {
        let current = place.db().join("CURRENT");
        let text = std::fs::read(&current).unwrap();
        std::fs::remove_file(&current).unwrap();
        assert_corrupt(place.open(), &current);
        std::fs::write(&current, text).unwrap();
        place.assert_whole();
    }
}

#[test]
fn a_missing_directory_is_created_only_when_wanted() {
    let place = Place::empty();
    let only_existing = Options { create_if_missing: false, ..options() };
    let text = refused(Engine::open(place.db(), only_existing.clone()), Class::Io);
    assert!(text.contains("db\""), "{text}");
    assert!(!place.db().exists());
    std::fs::create_dir(place.db()).unwrap();
    refused(Engine::open(place.db(), only_existing), Class::Io);
    place.open().unwrap().close().unwrap();
    let text = refused(Engine::open(place.db(), Options { error_if_exists: true, ..options() }), Class::Usage);
    assert!(text.contains("error_if_exists"), "{text}");
}

#[test]
fn foreign_files_beside_an_engine_stay() {
    let place = Place::closed();
    for name in ["photo.sst", "notes.tmp", "MANIFEST.old", "CURRENT.bak"] {
        std::fs::write(place.db().join(name), b"mine").unwrap();
    }
    place.assert_whole();
    for name in ["photo.sst", "notes.tmp", "MANIFEST.old", "CURRENT.bak"] {
        assert_eq!(std::fs::read(place.db().join(name)).unwrap(), b"mine", "{name}");
    }
}

#[test]
fn a_second_opener_in_this_process_is_refused() {
    let place = Place::closed();
    let engine = place.open().unwrap();
    let text = refused(place.open(), Class::Usage);
    assert!(text.contains("LOCK") && text.contains("another engine of this process"), "{text}");
    engine.close().unwrap();
    place.assert_whole();
}

/// Where [`child_opens`] finds the directory to open.
const CHILD: &str = "SSD_ENGINE_TEST_DIR";

/// Not a test of its own: what the other process of the next test does.
#[test]
fn child_opens() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let text = refused(Engine::open(dir, options()), Class::Usage);
    assert!(text.contains(&format!("held by process {}", std::os::unix::process::parent_id())), "{text}");
}

#[test]
fn a_second_opener_in_another_process_is_refused() {
    let place = Place::closed();
    let engine = place.open().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    let child = child.args(["--exact", "directory::child_opens"]).env(CHILD, place.db()).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    engine.close().unwrap();
    place.assert_whole();
}
