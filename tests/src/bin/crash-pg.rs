//! Kills Postgres under load and checks what is left: `crash-pg [--rounds N] [--seed S]`. Last line: `N passed, N failed`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

use std::path::PathBuf;
use std::process::ExitCode;

use ssd_pg_regress::suite::AccessMethod;
use ssd_tests::pg_crash::round::{self, Order};

fn main() -> ExitCode {
    match order().and_then(|order| {
        println!("seed {}", order.seed);
        let failed = round::run(&order, &|line| println!("{line}"))?;
        println!("{} passed, {failed} failed", order.rounds - failed);
        Ok(failed)
    }) {
        Ok(failed) => ExitCode::from(u8::from(failed > 0)),
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the arguments; `cargo xtask crash pg --help` explains them.
fn order() -> Result<Order, String> {
    let mut order = Order {
        rounds: 20,
        seed: 1,
        access_method: AccessMethod::Extension,
        standby: false,
        dir: std::env::temp_dir().join("ssdb-crash-pg"),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--standby" {
            order.standby = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} takes a number, not {value}"));
        match name.as_str() {
            "--rounds" => order.rounds = number()?,
            "--seed" => order.seed = number()?,
            "--dir" => order.dir = PathBuf::from(&value),
            "--am" if value == "heap" => order.access_method = AccessMethod::Heap,
            "--am" if value == "ssdlsm" => order.access_method = AccessMethod::Extension,
            _ => return Err(format!("unknown argument: {name} {value}")),
        }
    }
    Ok(order)
}
