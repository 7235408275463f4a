//! `cargo xtask bench engine`: the engine beside RocksDB and fjall.

use std::process::ExitCode;

use ssd_bench::command::Bench;
use ssd_bench::{plan, report, store};

fn main() -> ExitCode {
    let bench = Bench {
        subject: &report::ENGINE,
        about: "Measures the engine beside other stores: the same work, on the same data, in turns.",
        stores: store::STORES,
        plan: plan::plan,
    };
    bench.main()
}
