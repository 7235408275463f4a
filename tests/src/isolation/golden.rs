//! The scripts against their records.

use std::path::PathBuf;

use crate::isolation::script::record;

fn check(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/isolation/testdata/{name}.txt"));
    let want = std::fs::read_to_string(&path).unwrap();
    let got = record(&want);
    if std::env::var("SSD_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, got).unwrap();
    } else {
        assert_eq!(got, want, "{name} answers otherwise now");
    }
}

macro_rules! scripts {
    ($($test:ident $name:literal)*) => {$(
        #[test]
        fn $test() {
            check($name);
        }
    )*};
}

scripts! {
    golden_g0 "g0"
    golden_g1a "g1a"
    golden_g1b "g1b"
    golden_g1c "g1c"
    golden_otv "otv"
    golden_pmp "pmp"
    golden_pmp_write "pmp-write"
    golden_p4 "p4"
    golden_g_single "g-single"
    golden_g_single_predicate "g-single-predicate"
    golden_g_single_write "g-single-write"
    golden_g2_item "g2-item"
    golden_g2 "g2"
    golden_g2_two_edges "g2-two-edges"
    golden_savepoints "savepoints"
    golden_row_locks "row-locks"
    golden_deadlock "deadlock"
}
