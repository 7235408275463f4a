//! Text and JSON output on a directory that is the same each time, beside files in `testdata`.

use std::path::{Path, PathBuf};

use crate::sample::Sample;

/// Compares with `testdata/NAME.txt`, or writes it when the environment says so.
fn check(name: &str, text: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "testdata", &format!("{name}.txt")].iter().collect();
    if std::env::var_os("SSD_GOLDEN").is_some_and(|value| value == "write") {
        return std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == want, "{} differs; the command now says\n{text}", path.display());
}

/// Runs each line and shows it as a session of a shell.
fn session(sample: &Sample, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let said = sample.run(line);
        text += &format!("$ ssd-engine {line}\n{}{}", said.out, said.err);
        if said.code != 0 {
            text += &format!("exit code {}\n", said.code);
        }
        text += "\n";
    }
    text
}

#[test]
fn golden_inspect_sst() {
    let sample = Sample::crashed();
    let mut text = String::new();
    for name in sample.names(".sst") {
        text += &session(&sample, &[&format!("inspect {name} --blocks --entries --limit 8")]);
    }
    check("inspect_sst", &text);
}

#[test]
fn golden_inspect_log() {
    let sample = Sample::crashed();
    let segments = sample.names(".wal");
    let (first, last) = (segments.first().unwrap(), segments.last().unwrap());
    let lines = [format!("inspect {first} --limit 4"), format!("inspect {last} --entries --limit 0")];
    let mut text = session(&sample, &[&lines[0]]);
    if first != last {
        text += &session(&sample, &[&lines[1]]);
    }
    text += &session(&sample, &["inspect LOGBUF --entries --limit 3"]);
    check("inspect_log", &text);
}

#[test]
fn golden_inspect_manifest() {
    let sample = Sample::crashed();
    let manifest = sample.manifest();
    let (plain, summary) = (format!("inspect {manifest}"), format!("inspect {manifest} --summary"));
    check("inspect_manifest", &session(&sample, &[&plain, &summary, "inspect CURRENT"]));
}

#[test]
fn golden_json() {
    let sample = Sample::closed();
    let manifest = format!("inspect {} --summary --json", sample.manifest());
    check("json", &session(&sample, &["stats /db --json", "verify /db --json", "inspect CURRENT --json", &manifest]));
}

#[test]
fn golden_directory() {
    check("directory", &session(&Sample::crashed(), &["stats /db --files", "verify /db", "repair /db"]));
    check("directory_closed", &session(&Sample::closed(), &["stats /db", "verify /db"]));
}

#[test]
fn golden_repair() {
    let sample = Sample::crashed();
    assert!(sample.env.flip_bit(&sample.path("CURRENT"), 8 * 20));
    let file = sample.names(".sst").pop().unwrap();
    assert!(sample.env.cut(&sample.path(&file), 1000));
    check("repair", &session(&sample, &["verify /db", "repair /db --dry-run", "repair /db", "verify /db"]));
}

#[test]
fn golden_damage() {
    let sample = Sample::closed();
    let file = sample.names(".sst").pop().unwrap();
    assert!(sample.env.flip_bit(&sample.path(&file), 8 * 100));
    let line = format!("inspect {file} --blocks --limit 2");
    sample.env.write_file(Path::new("/db/notes.txt"), b"remember the milk");
    check("damage", &session(&sample, &["verify /db", &line, "inspect notes.txt", "inspect /db", "verify /nowhere"]));
}

#[test]
fn golden_help() {
    check(
        "help",
        &session(&Sample::closed(), &["--help", "inspect --help", "verify --help", "repair --help", "simulate"]),
    );
}

#[test]
fn golden_simulate() {
    let sample = Sample::crashed();
    let line = "simulate --data 2 --memtable 16 --file 16 --rows sequential";
    check("simulate", &session(&sample, &[line, &format!("{line} --json")]));
}
