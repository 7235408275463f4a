//! Runs very many statements in one session of Postgres and watches memory and open files:
//! `soak-pg [--statements N] [--am heap|ssdlsm] [--dir DIR]`. Last line: `soak: ok` or `soak: N grew`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

use std::path::PathBuf;
use std::process::ExitCode;

use ssd_pg_regress::suite::AccessMethod;
use ssd_tests::pg_soak::{self, Order};

fn main() -> ExitCode {
    match order().and_then(|order| pg_soak::run(&order, &|line| println!("{line}"))) {
        Ok(grown) if grown.is_empty() => {
            println!("soak: ok");
            ExitCode::SUCCESS
        }
        Ok(grown) => {
            for what in &grown {
                println!("{what}");
            }
            println!("soak: {} grew", grown.len());
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

fn order() -> Result<Order, String> {
    let mut order = Order {
        statements: 1_000_000,
        access_method: AccessMethod::Extension,
        dir: std::env::temp_dir().join("ssdb-soak-pg"),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--statements" => {
                order.statements = value.parse().map_err(|_| format!("{name} takes a number, not {value}"))?;
            }
            "--dir" => order.dir = PathBuf::from(&value),
            "--am" if value == "heap" => order.access_method = AccessMethod::Heap,
            "--am" if value == "ssdlsm" => order.access_method = AccessMethod::Extension,
            _ => return Err(format!("unknown argument: {name} {value}")),
        }
    }
    Ok(order)
}
