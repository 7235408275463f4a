//! The program itself, on real files: exit codes, two processes, a read-only look.

use std::path::Path;
use std::process::{Command, Output};

use ssd_engine::{Engine, Options};

fn options() -> Options {
    Options {
        memtable_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        log_segment_bytes: 1 << 20,
        log_ring_bytes: 64 << 10,
        disk_reserve_bytes: 0,
        background_threads: 1,
        ..Options::default()
    }
}

fn command(words: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssd-engine")).args(words).arg(path).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn exit_codes_tell_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), options()).unwrap();
    let tree = engine.tree("t").unwrap();
    for number in 0..1000u32 {
        tree.put(&number.to_be_bytes(), &[7; 100]).unwrap();
    }
    engine.flush().unwrap();
    let in_use = command(&["verify"], dir.path());
    assert!(in_use.status.success(), "{}", text(&in_use.stdout));
    let by = format!("in use by process {}", std::process::id());
    assert!(text(&in_use.stdout).contains(&by), "{}", text(&in_use.stdout));
    let refused = command(&["repair", "--force"], dir.path());
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("is held by process"), "{}", text(&refused.stderr));
    drop(tree);
    engine.close().unwrap();

    let fine = command(&["verify"], dir.path());
    assert!(fine.status.success() && text(&fine.stdout).starts_with("ok: 1 SSTs"), "{}", text(&fine.stdout));
    let stats = command(&["stats"], dir.path());
    assert!(stats.status.success() && text(&stats.stdout).contains("trees"), "{}", text(&stats.stdout));

    let mut files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let sst = files.find(|path| path.extension().is_some_and(|e| e == "sst")).unwrap();
    let mut bytes = std::fs::read(&sst).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&sst, bytes).unwrap();
    let damaged = command(&["verify"], dir.path());
    assert_eq!(damaged.status.code(), Some(1));
    assert!(text(&damaged.stdout).contains(&format!("{}, 0: ", sst.display())), "{}", text(&damaged.stdout));
    assert_eq!(command(&["verify"], &dir.path().join("nothing")).status.code(), Some(2));
    assert_eq!(command(&["polish"], dir.path()).status.code(), Some(2));
}
