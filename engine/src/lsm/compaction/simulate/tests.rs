use std::fmt::Write as _;

use super::*;
use crate::lsm::compaction::golden;

fn run(change: impl FnOnce(&mut SimulateOptions)) -> SimulateReport {
    let mut options = SimulateOptions { row_bytes: 64 << 10, ..SimulateOptions::default() };
    change(&mut options);
    simulate(&options, &mut |_| {})
}

#[test]
fn overwriting_25_gb_by_chance_writes_less_than_ten_times_that() {
    let mut told = SimulateProgress { written_bytes: 0, total_bytes: 0 };
    let options = SimulateOptions { row_bytes: 64 << 10, ..SimulateOptions::default() };
    let report = simulate(&options, &mut |progress| told = progress);
    assert!(report.write_amplification() < 10.0, "{report:#?}");
    assert!(report.space_amplification_max < 1.25, "{report:#?}");
    assert!(report.l0_depth_max <= 8, "{report:#?}");
    assert_eq!((told.total_bytes, report.user_bytes), (25 << 30, 25 << 30));
    assert!(told.written_bytes >= told.total_bytes);
}

#[test]
fn a_simulation_repeats_from_its_seed() {
    let small = |options: &mut SimulateOptions| {
        (options.data_bytes, options.write_bytes) = (4 << 30, 2 << 30);
    };
    assert_eq!(run(small), run(small));
}

/// Overwritten four times, with memtables of 16 MiB.
fn small(options: &mut SimulateOptions, megabytes: u64) {
    (options.data_bytes, options.write_bytes) = (megabytes << 20, megabytes << 22);
    options.engine.memtable_bytes = 16 << 20;
}

/// The table of docs/internals/compaction.md.
#[test]
fn golden_costs() {
    type Change = fn(&mut SimulateOptions);
    let cases: [(&str, Change); 13] = [
        ("25 GB, overwritten once by chance", |_| {}),
        ("the same, in the long run", |o| o.warm_bytes = 25 << 30),
        ("written into an empty engine", |o| o.loaded = false),
        ("most writes to few rows (Zipf 0.99)", |o| o.pattern = Pattern::Zipf(0.99)),
        ("in key order", |o| o.pattern = Pattern::Sequential),
        ("level_multiplier 4", |o| o.engine.level_multiplier = 4),
        ("memtable_bytes 256 MiB", |o| o.engine.memtable_bytes = 256 << 20),
        ("5 GB", |o| (o.data_bytes, o.write_bytes) = (5 << 30, 5 << 30)),
        ("160 MB, overwritten four times, memtables of 16 MiB", |o| small(o, 160)),
        ("320 MB, likewise", |o| small(o, 320)),
        ("640 MB, likewise", |o| small(o, 640)),
        ("1280 MB, likewise", |o| small(o, 1280)),
        ("compaction reads 8 bytes per flushed one", |o| o.compaction_speed = Some(8.0)),
    ];
    let mut table = String::from("write space L0  L1..L6 written per byte of rows         what\n");
    for (what, change) in cases {
        let report = run(|options| {
            options.row_bytes = 128 << 10;
            change(options);
        });
        let _ = write!(
            table,
            "{:5.1} {:5.2} {:2} ",
            report.write_amplification(),
            report.space_amplification_max,
            report.l0_depth_max
        );
        for bytes in &report.compaction_bytes[1..] {
            let _ = write!(table, " {:5.2}", *bytes as f64 / report.user_bytes as f64);
        }
        let _ = writeln!(table, "  {what}");
    }
    golden::check("costs.txt", include_str!("../testdata/costs.txt"), &table);
}
