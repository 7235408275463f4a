//! `cargo xtask bench txn`: transactions of the engine beside those of RocksDB and fjall.

use std::process::ExitCode;

use ssd_bench::command::Bench;
use ssd_bench::{report, txn};

fn main() -> ExitCode {
    let bench = Bench {
        subject: &report::TXN,
        about: "Measures transactions beside other stores: the same work, on the same data, in turns.",
        stores: txn::STORES,
        plan: txn::plan::plan,
    };
    bench.main()
}
