//! Runs seeds of the simulation of transactions: `txn-sim [--seeds N] [--seed FIRST] [--steps N] [--jobs N] [--trace N]`.
#![expect(clippy::print_stdout, reason = "a command reports on standard output")]

use std::process::ExitCode;

fn main() -> ExitCode {
    ssd_tests::txn_sim::run::SIMULATOR.main(|line| println!("{line}"))
}
