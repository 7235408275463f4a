//! Damaged, foreign and empty files: never a panic, and the message names file and offset.

use std::path::Path;

use crate::sample::Sample;

/// Every file that `inspect` understands.
fn files(sample: &Sample) -> Vec<String> {
    let mut names = sample.names(".sst");
    names.extend(sample.names(".wal"));
    names.extend([sample.manifest(), "CURRENT".to_owned(), "LOGBUF".to_owned()]);
    names
}

fn inspect(sample: &Sample, name: &str) -> crate::sample::Said {
    sample.run(&format!("inspect {name} --blocks --entries --limit 2"))
}

/// The message of a problem with `name`: the path, then an offset.
fn names_place(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let place = line.split_once(&format!("/db/{name}, ")).and_then(|(_, rest)| rest.split_once(": "));
        place.is_some_and(|(offset, _)| offset.parse::<u64>().is_ok())
    })
}

#[test]
fn cut_files_are_problems_with_a_place() {
    let whole = Sample::closed();
    for name in files(&whole) {
        let len = whole.bytes(&name).len() as u64;
        let torn_tail_is_legal = name.starts_with("MANIFEST");
        let cuts = [0, 1, 7, 30, len / 3, len / 2, len - 4096.min(len / 2), len - 1];
        for keep in cuts.into_iter().filter(|&keep| keep < len) {
            let sample = Sample::closed();
            assert!(sample.env.cut(&sample.path(&name), keep));
            let said = inspect(&sample, &name);
            let told = said.code == 1 && names_place(&said.out, &name);
            let torn = said.code == 0 && torn_tail_is_legal && said.out.contains("torn");
            // A cut between two edits looks like the end.
            let clean = said.code == 0 && torn_tail_is_legal && said.out.contains("ending") && keep > 36;
            assert!(told || torn || clean, "{name} cut to {keep}: {} {}{}", said.code, said.out, said.err);
            let verified = sample.run("verify /db");
            let log_buffer = name == "LOGBUF";
            assert!(
                verified.code == 1 || log_buffer || torn_tail_is_legal,
                "{name} cut to {keep}: {}{}",
                verified.out,
                verified.err
            );
        }
    }
}

#[test]
fn flipped_bits_never_panic_and_are_found_where_a_checksum_covers_them() {
    let whole = Sample::closed();
    for name in files(&whole) {
        let bits = whole.bytes(&name).len() as u64 * 8;
        for at in 0..40 {
            let sample = Sample::closed();
            assert!(sample.env.flip_bit(&sample.path(&name), (at * 977 + at * at * 13) % bits));
            let said = inspect(&sample, &name);
            assert!(said.code == 0 || names_place(&said.out, &name) || !said.err.is_empty(), "{name}: {}", said.out);
            let verified = sample.run("verify /db");
            assert!(verified.code < 2, "{name}: {}", verified.err);
            if name.ends_with(".sst") {
                assert!(verified.code == 1 && names_place(&verified.out, &name), "{name}: {}", verified.out);
            }
        }
    }
}

#[test]
fn each_damaged_block_of_a_file_is_told() {
    let sample = Sample::closed();
    let name = sample.names(".sst").into_iter().max_by_key(|name| sample.bytes(name).len()).unwrap();
    let listed = sample.run(&format!("inspect {name} --blocks --json"));
    let blocks = listed.out.matches("\"compression\"").count();
    assert!(blocks >= 2, "{}", listed.out);
    let data_end = sample.bytes(&name).len() as u64 / 2;
    for at in [10, data_end - 10] {
        assert!(sample.env.flip_bit(&sample.path(&name), at * 8));
    }
    let verified = sample.run("verify /db");
    assert!(verified.out.matches("block checksum mismatch").count() >= 2, "{}", verified.out);
}

#[test]
fn foreign_files_and_empty_directories_are_refused() {
    let sample = Sample::closed();
    sample.env.write_file(Path::new("/db/000099.sst"), b"GIF89a is no SST of ours");
    let said = inspect(&sample, "000099.sst");
    assert!(said.code == 1 && names_place(&said.out, "000099.sst"), "{}{}", said.out, said.err);
    sample.env.write_file(Path::new("/empty/gone"), b"");
    sample.env.write_file(Path::new("/other/notes.txt"), b"text");
    for words in
        ["verify /other", "stats /other", "repair /other", "verify /nowhere", "stats /nowhere", "repair /nowhere"]
    {
        let said = sample.run(words);
        let dir = words.split_once(' ').unwrap().1;
        assert!(said.code == 2 && said.err.contains(dir) && said.out.is_empty(), "{words}: {}{}", said.out, said.err);
    }
    let said = sample.run("inspect /other/notes.txt");
    assert!(said.code == 2 && said.err.contains("/other/notes.txt"), "{}", said.err);
    assert_eq!(sample.run("inspect /empty/gone").code, 2);
}

#[test]
fn nothing_but_repair_changes_anything() {
    for sample in [Sample::closed(), Sample::crashed()] {
        let before = sample.contents();
        for words in ["verify /db", "stats /db", "repair /db --dry-run --force", "repair /db"] {
            assert_eq!(sample.run(words).code, 0, "{words}");
        }
        for name in files(&sample) {
            assert_eq!(inspect(&sample, &name).code, 0, "{name}");
        }
        assert!(sample.contents() == before);
    }
}

#[test]
fn a_directory_in_use_is_said_to_be() {
    let sample = Sample::closed();
    let engine = sample.open().unwrap();
    let fruit = engine.tree("fruit").unwrap();
    fruit.put(b"fig", b"brown").unwrap();
    for words in ["verify /db", "stats /db", "inspect CURRENT", "inspect LOGBUF"] {
        let said = sample.run(words);
        assert!(said.code == 0 && said.out.contains("in use by another engine"), "{words}: {}{}", said.out, said.err);
    }
    let said = sample.run("repair /db --force");
    assert!(said.code == 2 && said.err.contains("held by another engine"), "{}{}", said.out, said.err);
    fruit.put(b"lime", b"green").unwrap();
    engine.close().unwrap();
    assert!(sample.run("verify /db").out.starts_with("ok"));
}
