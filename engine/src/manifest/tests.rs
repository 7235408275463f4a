use std::path::PathBuf;

use super::*;
use crate::base::ids::{Level, TreeId};
use crate::env::fault::FaultKind;
use crate::env::memory::{Crash, MemoryEnv};
use crate::error::Class;
use crate::format::version_edit::TreeEdit;
use crate::format::version_edit::samples::file;

const DIR: &str = "/db";

fn dir() -> &'static Path {
    Path::new(DIR)
}

/// An edit that makes the state longer by `id`; a snapshot has several.
fn edit(ids: impl IntoIterator<Item = u64>) -> VersionEdit {
    let tree = |id| TreeEdit::Created { id: TreeId(id), name: format!("tree {id}").into_bytes(), options: vec![] };
    VersionEdit { trees: ids.into_iter().map(tree).collect(), ..VersionEdit::default() }
}

fn ids(edit: &VersionEdit) -> impl Iterator<Item = u64> {
    edit.trees.iter().map(|tree| match tree {
        TreeEdit::Created { id, .. } | TreeEdit::Dropped { id } => id.0,
    })
}

/// Loads and returns the state too.
fn load(env: &Arc<dyn Env>) -> Result<(Vec<u64>, Loaded)> {
    let mut state = Vec::new();
    let loaded = Manifest::load(env, dir(), &mut |edit| {
        state.extend(ids(&edit));
        Ok(())
    })?;
    Ok((state, loaded))
}

fn up_to(count: u64) -> Vec<u64> {
    (0..count).collect()
}

/// A new world; `seed` decides what a crash leaves.
fn world(seed: u64) -> (Arc<MemoryEnv>, Arc<dyn Env>) {
    let world = MemoryEnv::new(seed);
    world.create_dir(dir()).unwrap();
    world.sync_dir(dir()).unwrap();
    (Arc::clone(&world), world)
}

/// Another world with the same files.
fn fork(world: &MemoryEnv) -> (Arc<MemoryEnv>, Arc<dyn Env>) {
    let copy = self::world(0);
    contents(world).into_iter().for_each(|(path, bytes)| copy.0.write_file(&path, &bytes));
    copy
}

fn contents(world: &MemoryEnv) -> Vec<(PathBuf, Vec<u8>)> {
    world.files().into_iter().map(|path| (path.clone(), world.read_file(&path).unwrap())).collect()
}

/// A world with a manifest of a snapshot and `count - 1` edits, and where each of its records ends.
fn written(count: u64) -> (Arc<MemoryEnv>, Arc<dyn Env>, Vec<u64>) {
    let (world, env) = world(1);
    let mut manifest = Manifest::create(&env, dir(), FileNumber(7), &edit([0])).unwrap();
    let mut ends = vec![manifest.end_offset()];
    ends.extend((1..count).map(|id| manifest.append(&edit([id])).unwrap()));
    (world, env, ends)
}

fn path(name: &str) -> PathBuf {
    dir().join(name)
}

#[test]
fn what_was_appended_is_loaded_and_appended_to() {
    let (_, env, ends) = written(20);
    let (state, loaded) = load(&env).unwrap();
    let end = ends[19];
    let want =
        Loaded { number: FileNumber(7), end_offset: end, torn: None, bytes: end, records: 20, snapshot_end: ends[0] };
    assert_eq!((state, loaded), (up_to(20), want));
    assert!(Manifest::exists(&env, dir()).unwrap());
    let mut manifest = Manifest::resume(&env, dir(), &loaded).unwrap();
    manifest.append(&edit([20])).unwrap();
    assert_eq!(load(&env).unwrap().0, up_to(21));
    Manifest::create(&env, dir(), FileNumber(8), &edit(up_to(21))).unwrap();
    let (state, loaded) = load(&env).unwrap();
    assert_eq!((state, loaded.number, loaded.records), (up_to(21), FileNumber(8), 1));
}

#[test]
fn a_file_cut_anywhere_gives_a_prefix_or_a_clean_error() {
    let (world, env, ends) = written(20);
    let name = path("MANIFEST-000007");
    let bytes = world.read_file(&name).unwrap();
    for cut in 0..bytes.len() {
        world.write_file(&name, &bytes[..cut]);
        let before = contents(&world);
        let whole = ends.iter().filter(|&&end| end <= cut as u64).count();
        match load(&env) {
            Ok((state, loaded)) => {
                assert_eq!(state, up_to(whole as u64), "cut to {cut}");
                assert_eq!(loaded.end_offset, ends[whole - 1]);
                let torn = (loaded.end_offset < cut as u64).then_some(loaded.end_offset);
                assert_eq!(loaded.torn, torn);
                assert_eq!(Manifest::resume(&env, dir(), &loaded).is_err(), torn.is_some());
            }
            Err(error) => {
                assert!(whole == 0 && error.class() == Class::Corruption, "cut to {cut}: {error}");
                assert!(error.to_string().contains("MANIFEST-000007"));
            }
        }
        assert_eq!(contents(&world), before, "loading changes nothing");
    }
}

#[test]
fn a_byte_flipped_anywhere_gives_a_clean_error_or_a_torn_tail() {
    let (world, env, ends) = written(20);
    let name = path("MANIFEST-000007");
    let bytes = world.read_file(&name).unwrap();
    for at in 0..bytes.len() {
        for mask in [1, 0x10, 0x80, 0xFF] {
            let mut bad = bytes.clone();
            bad[at] ^= mask;
            world.write_file(&name, &bad);
            match load(&env) {
                Ok((state, loaded)) => {
                    assert!(at as u64 >= ends[18], "byte {at} is not in the last record");
                    assert_eq!((state, loaded.torn), (up_to(19), Some(ends[18])));
                }
                Err(error) => {
                    let start = ends.iter().rev().find(|&&end| end <= at as u64).copied();
                    let start = start.unwrap_or(if at < HEADER_LEN { 0 } else { HEADER_LEN as u64 });
                    assert!((at as u64) < ends[18]);
                    assert!(
                        matches!(&error, Error::Corruption { path, offset, .. } if *path == name && *offset == start),
                        "byte {at}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_current_cut_or_flipped_anywhere_is_refused() {
    let (world, env, _) = written(2);
    let name = path("CURRENT");
    let text = world.read_file(&name).unwrap();
    for at in 0..text.len() {
        let mut bad = text.clone();
        bad[at] ^= 4;
        for bytes in [&bad[..], &text[..at]] {
            world.write_file(&name, bytes);
            let error = load(&env).unwrap_err();
            assert!(matches!(&error, Error::Corruption { path, .. } if *path == name), "{error}");
            assert!(Manifest::exists(&env, dir()).is_err());
        }
    }
    world.write_file(&name, &[b'x'; 5000]);
    assert!(load(&env).unwrap_err().to_string().contains("5000 bytes"));
}

/// Runs a short life: creation, edits, two rewrites. Returns how many edits were acknowledged and how many were tried.
fn live(env: &Arc<dyn Env>) -> (u64, u64) {
    let Ok(mut manifest) = Manifest::create(env, dir(), FileNumber(1), &edit([0])) else {
        return (0, 1);
    };
    let mut done = 1;
    for round in 1..4 {
        for _ in 0..3 {
            if let Err(error) = manifest.append(&edit([done])) {
                if manifest.poisoned().is_some() {
                    assert_eq!(manifest.append(&edit([done])).unwrap_err().class(), Class::Closed);
                    return (done, done + 1);
                }
                assert!(error.is_no_space(), "{error}");
                manifest.append(&edit([done])).unwrap();
            }
            done += 1;
        }
        match Manifest::create(env, dir(), FileNumber(10 * round), &edit(0..done)) {
            Ok(next) => manifest = next,
            Err(_) => return (done, done),
        }
    }
    (done, done)
}

/// Fails the `nth` operation of a life in this way, then the power; whether the fault struck.
fn fail_and_crash(nth: u64, kind: FaultKind, seed: u64) -> bool {
    let (world, env) = world(seed);
    world.faults().fail_at(nth, kind);
    let (acknowledged, tried) = live(&env);
    let struck = world.faults().op_count() >= nth;
    world.crash(Crash::Power);
    check_after_crash(&env, acknowledged, tried);
    struck
}

#[test]
fn an_edit_that_finds_the_disk_full_leaves_nothing_behind() {
    let (world, env) = world(9);
    let mut manifest = Manifest::create(&env, dir(), FileNumber(1), &edit([0])).unwrap();
    let path = path("MANIFEST-000001");
    let before = world.read_file(&path).unwrap();
    world.disk_capacity(Some(4096 * world.files().len() as u64));
    // Large enough to need another page.
    let error = manifest.append(&edit(1..3000)).unwrap_err();
    assert!(error.is_no_space() && manifest.poisoned().is_none(), "{error}");
    assert_eq!(world.read_file(&path).unwrap(), before);
    world.disk_capacity(None);
    manifest.append(&edit([1])).unwrap();
    world.crash(Crash::Power);
    assert_eq!(load(&env).unwrap().0, [0, 1]);
}

#[test]
fn failing_at_any_operation_loses_nothing_acknowledged() {
    use FaultKind::{Crash as Death, Eio, NoSpace, ShortWrite, SyncLost};
    for kind in [Death, Eio, NoSpace, ShortWrite, SyncLost] {
        let mut strikes = 0;
        for nth in 1..100 {
            strikes += (0..16).filter(|&seed| fail_and_crash(nth, kind, seed)).count();
        }
        assert!(strikes > 16 * 20, "{kind:?} struck {strikes} times");
    }
}

fn check_after_crash(env: &Arc<dyn Env>, acknowledged: u64, tried: u64) {
    if !Manifest::exists(env, dir()).unwrap() {
        assert_eq!(acknowledged, 0);
        Manifest::create(env, dir(), FileNumber(1), &edit([0])).unwrap();
        assert_eq!(load(env).unwrap().0, [0]);
        return;
    }
    let (state, loaded) = load(env).unwrap();
    let found = state.len() as u64;
    assert_eq!(state, up_to(found));
    assert!((acknowledged..=tried).contains(&found), "{found} of {acknowledged} to {tried}");
    let mut manifest = match loaded.torn {
        None => Manifest::resume(env, dir(), &loaded).unwrap(),
        // The numbers of manifests that a crash left behind may be drawn again.
        Some(_) => Manifest::create(env, dir(), FileNumber(loaded.number.0 + 10), &edit(0..found)).unwrap(),
    };
    manifest.append(&edit([found])).unwrap();
    assert_eq!(load(env).unwrap().0, up_to(found + 1));
}

#[test]
fn a_directory_that_lost_current_is_not_taken_for_a_new_one() {
    let missing = |env: &Arc<dyn Env>| Manifest::exists(env, dir());
    let (world, env) = world(1);
    assert!(!missing(&env).unwrap());
    assert!(load(&env).unwrap_err().to_string().contains("holds no database"));
    world.write_file(&path("LOCK"), b"");
    world.write_file(&path("CURRENT.tmp"), b"MANIF");
    world.write_file(&path("MANIFEST-000001"), b"half a head");
    assert!(!missing(&env).unwrap(), "what a creation that was cut short leaves behind");
    for (name, bytes) in [("000012.sst", &b"data"[..]), ("000003.wal", b"log")] {
        let (world, env) = fork(&world);
        world.write_file(&path(name), bytes);
        for error in [missing(&env).map(drop).unwrap_err(), load(&env).map(drop).unwrap_err()] {
            assert_eq!(error.class(), Class::Corruption);
            let text = error.to_string();
            assert!(text.contains("/db/CURRENT") && text.contains(name), "{text}");
        }
    }
    let (_, used, _) = written(2);
    used.remove(&path("CURRENT")).unwrap();
    assert!(missing(&used).unwrap_err().to_string().contains("MANIFEST-000007"), "it has an edit");
    Manifest::write_new(&env, dir(), FileNumber(1), &edit([0, 1])).unwrap();
    assert!(!missing(&env).unwrap(), "a new database may start with trees");
    let added = vec![(Level(6), Arc::new(file(3, b"a", b"b", (1, 2))))];
    for snapshot in [VersionEdit { version: Some(2), ..edit([]) }, VersionEdit { version: Some(1), added, ..edit([]) }]
    {
        let (_, env) = fork(&world);
        Manifest::write_new(&env, dir(), FileNumber(2), &snapshot).unwrap();
        assert!(missing(&env).is_err(), "a later snapshot, or one with a file");
    }
}

#[test]
fn files_that_are_not_ours_are_named() {
    let (world, env, ends) = written(3);
    let refusal = |name: &str, bytes: &[u8]| {
        let (world, env) = fork(&world);
        world.write_file(&path(name), bytes);
        load(&env).unwrap_err()
    };
    let good = world.read_file(&path("MANIFEST-000007")).unwrap();
    let error = refusal("CURRENT", &current::encode(FileNumber(8)));
    assert!(error.to_string().contains("/db/CURRENT\" at offset 0: it names MANIFEST-000008, which does not exist"));
    assert!(refusal("CURRENT", b"MANIFEST-000007\n").to_string().contains("offset 16: no checksum line"));
    assert!(refusal("MANIFEST-000007", &[b'x'; 100]).to_string().contains("offset 0: not a manifest"));
    let copied = [&FileHeader { number: FileNumber(9), snapshot_end: ends[0] }.encode(), &good[HEADER_LEN..]].concat();
    assert!(refusal("MANIFEST-000007", &copied).to_string().contains("belongs to MANIFEST-000009"));
    let end = FileHeader { number: FileNumber(7), snapshot_end: ends[1] }.encode();
    let wrong_end = [&end, &good[HEADER_LEN..]].concat();
    assert!(refusal("MANIFEST-000007", &wrong_end).to_string().contains("the snapshot ends at"));
    let mut later = good.clone();
    push_record(&mut later, FileNumber(7), 3, &[0x7F, 0]);
    let error = refusal("MANIFEST-000007", &later);
    assert_eq!(error.class(), Class::Usage);
    assert!(error.to_string().contains(&format!("MANIFEST-000007\" at offset {}: edit item with tag 127", ends[2])));
    assert!(error.hint().contains("later"));
    let refused = Manifest::load(&env, dir(), &mut |edit| match ids(&edit).next() {
        Some(1) => Err("tree 1 is not wanted".to_owned()),
        _ => Ok(()),
    });
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&format!("offset {}", ends[0])) && text.contains("tree 1 is not wanted"), "{text}");
}

#[test]
fn writers_and_followers_go_on_from_each_other() {
    let (_, env, ends) = written(2);
    let (_, loaded) = load(&env).unwrap();
    let mut one = Manifest::resume(&env, dir(), &loaded).unwrap();
    let mut two = Manifest::resume(&env, dir(), &loaded).unwrap();
    let end = one.append(&edit([2])).and_then(|_| one.append(&edit([3]))).unwrap();
    assert_eq!(two.append(&edit([9])).unwrap_err().class(), Class::Conflict);
    let mut seen = Vec::new();
    let mut note = |edit: VersionEdit| {
        seen.extend(ids(&edit));
        Ok(())
    };
    two.catch_up(end, &mut note).unwrap();
    two.catch_up(end, &mut note).unwrap();
    let end = two.append(&edit([4])).unwrap();
    Manifest::follow(&env, dir(), FileNumber(7), ends[1], end, &mut note).unwrap();
    Manifest::follow(&env, dir(), FileNumber(7), HEADER_LEN as u64, ends[1], &mut note).unwrap();
    Manifest::follow(&env, dir(), FileNumber(7), end, end, &mut note).unwrap();
    assert_eq!(seen, [2, 3, 2, 3, 4, 0, 1]);
    assert_eq!(load(&env).unwrap().0, up_to(5));
    for (from, upto) in [(ends[1] + 1, end), (ends[1], end - 1), (ends[1], end + 1)] {
        let mut count = 0;
        let counted = &mut |_| {
            count += 1;
            Ok(())
        };
        let error = Manifest::follow(&env, dir(), FileNumber(7), from, upto, counted).unwrap_err();
        assert_eq!((error.class(), count), (Class::Corruption, 0), "{error}");
    }
}

#[test]
fn a_new_manifest_that_fails_leaves_the_old_one_usable() {
    let (world, env, _) = written(2);
    let mut old = Manifest::resume(&env, dir(), &load(&env).unwrap().1).unwrap();
    for nth in 1..=4 {
        world.faults().fail_at(nth, FaultKind::Eio);
        assert!(Manifest::write_new(&env, dir(), FileNumber(8), &edit([0, 1])).is_err());
    }
    let mut new = Manifest::write_new(&env, dir(), FileNumber(8), &edit([0, 1])).unwrap();
    old.append(&edit([2])).unwrap();
    assert_eq!(load(&env).unwrap().0, up_to(3), "not in force before the switch");
    world.faults().fail_at(3, FaultKind::Eio);
    assert!(new.switch(&env, dir()).is_err());
    assert_eq!(new.append(&edit([3])).unwrap_err().class(), Class::Closed);
    let error = Manifest::write_new(&env, dir(), FileNumber(7), &edit([0])).map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Usage, "the one in force is not replaced");
    assert_eq!(load(&env).unwrap().0, up_to(3));
}

#[test]
fn edits_that_would_not_read_back_are_not_written() {
    let (_, env, ends) = written(2);
    let mut manifest = Manifest::resume(&env, dir(), &load(&env).unwrap().1).unwrap();
    let bad = VersionEdit { deleted: vec![(Level(9), FileNumber(1))], ..VersionEdit::default() };
    assert_eq!(manifest.append(&bad).unwrap_err().class(), Class::Usage);
    assert_eq!((manifest.end_offset(), manifest.poisoned()), (ends[1], None));
    assert_eq!(Manifest::write_new(&env, dir(), FileNumber(9), &bad).map(drop).unwrap_err().class(), Class::Usage);
    manifest.append(&edit([2])).unwrap();
}

#[test]
fn growth_asks_for_a_rewrite() {
    let (_, env) = world(1);
    let big = |len: usize| {
        let created = TreeEdit::Created { id: TreeId(1), name: vec![], options: vec![7; len] };
        VersionEdit { trees: vec![created], ..VersionEdit::default() }
    };
    let mut small = Manifest::create(&env, dir(), FileNumber(1), &big(10)).unwrap();
    let grown = (0..20).position(|_| {
        small.append(&big(100 << 10)).unwrap();
        small.should_rewrite()
    });
    assert_eq!(grown, Some(10), "past 1 MiB");
    let mut large = Manifest::create(&env, dir(), FileNumber(2), &big(512 << 10)).unwrap();
    let grown = (0..9).position(|_| {
        large.append(&big(512 << 10)).unwrap();
        large.should_rewrite()
    });
    assert_eq!(grown, Some(3), "past four times the snapshot");
    assert_eq!(parse_manifest_name("MANIFEST-000002"), Some(FileNumber(2)));
    for name in ["MANIFEST-2", "MANIFEST-0000002", "MANIFEST-", "MANIFEST-+00002", "manifest-000002", "CURRENT"] {
        assert_eq!(parse_manifest_name(name), None, "{name}");
    }
}

#[test]
fn real_files_behave_the_same() {
    let temporary = tempfile::tempdir().unwrap();
    let (env, dir) = (crate::env::default_env(), temporary.path());
    let count = |env: &Arc<dyn Env>| {
        let mut count = 0;
        let counted = &mut |edit: VersionEdit| {
            count += ids(&edit).count();
            Ok(())
        };
        Manifest::load(env, dir, counted).map(|loaded| (count, loaded))
    };
    assert!(!Manifest::exists(&env, dir).unwrap());
    Manifest::write_new(&env, dir, FileNumber(1), &edit([0])).unwrap();
    let mut manifest = Manifest::create(&env, dir, FileNumber(1), &edit([0])).unwrap();
    manifest.append(&edit([1])).unwrap();
    let (found, loaded) = count(&env).unwrap();
    assert_eq!((found, loaded.end_offset), (2, manifest.end_offset()));
    Manifest::create(&env, dir, FileNumber(2), &edit(0..2)).unwrap();
    Manifest::resume(&env, dir, &count(&env).unwrap().1).unwrap().append(&edit([2])).unwrap();
    assert_eq!(count(&env).unwrap().0, 3);
    env.remove(&dir.join("MANIFEST-000002")).unwrap();
    assert_eq!(count(&env).unwrap_err().class(), Class::Corruption);
}
