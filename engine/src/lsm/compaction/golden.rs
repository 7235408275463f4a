//! Compares what the compaction code says with a file under `testdata`, or writes the file; see `cargo xtask golden`.

/// Checks that `recorded`, the content of `testdata/name`, is what the code says `today`.
pub(super) fn check(name: &str, recorded: &str, today: &str) {
    if std::env::var_os("SSD_GOLDEN").is_some_and(|mode| mode == "write") {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lsm/compaction/testdata").join(name);
        std::fs::write(path, today).expect("the golden file is writable");
    } else {
        assert_eq!(recorded, today, "{name} differs; `cargo xtask golden` writes it anew");
    }
}
