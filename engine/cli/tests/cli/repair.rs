//! Repair brings back what files still hold, and never deletes.

use std::collections::BTreeSet;

use crate::sample::{DIR, Sample};

fn rows(sample: &Sample, tree: &str) -> Vec<(String, String)> {
    let engine = sample.open().unwrap();
    let tree = engine.find_tree(tree.as_bytes()).unwrap().expect("the tree has its name");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let rows = tree.scan::<Vec<u8>>(..).unwrap().map(|row| row.map(|(key, value)| (text(key), text(value))));
    let rows = rows.collect::<Result<_, _>>().unwrap();
    drop(tree);
    engine.close().unwrap();
    rows
}

/// Everything that was in some file before is in some file now.
fn assert_nothing_deleted(before: &Sample, after: &Sample) {
    let bytes = |sample: &Sample| sample.contents().into_iter().map(|(_, bytes)| bytes).collect::<BTreeSet<_>>();
    // The lock is its holder's, and what CURRENT said is told by the names of manifests.
    let names = ["LOCK", "CURRENT"];
    let kept = bytes(after);
    for (path, bytes) in before.contents() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(kept.contains(&bytes) || names.contains(&&*name), "{name} is gone");
    }
}

#[test]
fn a_lost_manifest_is_rebuilt_and_the_log_replayed() {
    let (want_fruit, want_numbers) = (rows(&Sample::crashed(), "fruit"), rows(&Sample::crashed(), "numbers"));
    for lose in ["CURRENT", "MANIFEST"] {
        let (before, sample) = (Sample::crashed(), Sample::crashed());
        for sample in [&before, &sample] {
            let name = if lose == "CURRENT" { "CURRENT".to_owned() } else { sample.manifest() };
            assert!(sample.env.cut(&sample.path(&name), 10));
        }
        assert!(sample.open().is_err(), "{lose}");
        let said = sample.run("repair /db");
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        assert_nothing_deleted(&before, &sample);
        assert_eq!(sample.run("verify /db").code, 0, "{}", sample.run("verify /db").out);
        if lose == "CURRENT" {
            assert_eq!(rows(&sample, "fruit"), want_fruit);
            assert_eq!(rows(&sample, "numbers"), want_numbers);
        } else {
            // With the manifest the names of trees are gone, too.
            assert_eq!(rows(&sample, "recovered-1"), want_fruit);
            assert_eq!(rows(&sample, "recovered-2"), want_numbers);
        }
    }
}

#[test]
fn an_unreadable_sst_goes_to_lost_and_the_others_stay() {
    let (before, sample) = (Sample::closed(), Sample::closed());
    let file = sample.names(".sst").pop().unwrap();
    for sample in [&before, &sample] {
        assert!(sample.env.cut(&sample.path(&file), 100));
    }
    assert!(sample.open().is_err());
    let plan = sample.run("repair /db --dry-run");
    assert!(plan.out.contains("a dry run") && plan.out.contains(&file), "{}", plan.out);
    assert!(sample.names(".sst").contains(&file));
    assert_eq!(sample.run("repair /db").code, 0);
    assert!(sample.env.read_file(&sample.path("lost").join(&file)).is_some());
    assert_nothing_deleted(&before, &sample);
    assert_eq!(sample.run("verify /db").code, 0);
    // All that the lost file had is still in the log.
    assert_eq!(rows(&sample, "fruit"), rows(&Sample::closed(), "fruit"));
    assert_eq!(rows(&sample, "numbers"), rows(&Sample::closed(), "numbers"));
}

#[test]
fn a_damaged_log_goes_to_lost_whole() {
    let sample = Sample::crashed();
    let segment = sample.names(".wal").pop().unwrap();
    assert!(sample.env.flip_bit(&sample.path(&segment), 8 * 20));
    assert!(sample.open().is_err());
    let said = sample.run("repair /db");
    assert!(said.code == 0 && said.out.contains("damaged, moved to lost"), "{}{}", said.out, said.err);
    assert!(sample.env.read_file(&sample.path("lost").join(&segment)).is_some());
    let fruit = rows(&sample, "fruit");
    assert!(fruit.iter().any(|(key, _)| key == "apple") && fruit.iter().all(|(key, _)| key != "plum"), "{fruit:?}");
}

#[test]
fn a_missing_sst_is_no_obstacle() {
    let sample = Sample::closed();
    let file = sample.names(".sst").remove(0);
    ssd_engine::env::Env::remove(&*sample.env, &sample.path(&file)).unwrap();
    let error = sample.open().unwrap_err().to_string();
    assert!(error.contains(&file), "{error}");
    let verified = sample.run("verify /db");
    assert!(verified.code == 1 && verified.out.contains(&file), "{}", verified.out);
    assert_eq!(sample.run("repair /db").code, 0);
    assert_eq!(sample.run("verify /db").code, 0);
    sample.open().unwrap().close().unwrap();
}

#[test]
fn repair_that_dies_half_way_can_be_started_again() {
    use ssd_engine::env::fault::FaultKind;
    use ssd_engine::env::memory::Crash;
    let want = rows(&Sample::crashed(), "fruit");
    for at in 0..60 {
        let sample = Sample::crashed();
        assert!(sample.env.cut(&sample.path("CURRENT"), 5));
        sample.env.faults().fail_at(at, FaultKind::Crash);
        let options = crate::sample::options(&sample.env);
        let first = ssd_engine::repair(DIR, &options);
        sample.env.crash(Crash::Power);
        if first.is_err() && sample.open().is_err() {
            ssd_engine::repair(DIR, &options).unwrap();
        }
        assert_eq!(rows(&sample, "fruit"), want, "died at operation {at}");
    }
}
