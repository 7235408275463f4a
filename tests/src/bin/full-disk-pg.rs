//! Fills the disk under Postgres and checks what comes of it: `full-disk-pg [--scene NAME] [--am heap|ssdlsm] [--dir DIR]`. Last
//! line: `N passed, N failed`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who typed it")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use ssd_pg_regress::suite::AccessMethod;
use ssd_tests::pg_crash::full_disk::{self, Order};

/// Says that this process has a mount namespace of its own.
const INSIDE: &str = "SSDB_OWN_MOUNTS";

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        return inside();
    }
    match order().and_then(|order| full_disk::run(&order, &|line| println!("{line}"))) {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            ExitCode::from(u8::from(failed > 0))
        }
        Err(what) => fail(&what),
    }
}

fn fail(what: &str) -> ExitCode {
    eprintln!("error: {what}");
    ExitCode::FAILURE
}

/// Runs this program again where its mounts are nobody else's.
fn inside() -> ExitCode {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(e) => return fail(&format!("this program does not find itself: {e}")),
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(own).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => fail(&format!("could not start unshare: {e}\nhint: this needs Linux and root")),
    }
}

fn order() -> Result<Order, String> {
    let dir = std::env::temp_dir().join("ssdb-full-disk-pg");
    let mut order = Order { access_method: AccessMethod::Extension, scene: None, dir };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--scene" => order.scene = Some(value),
            "--dir" => order.dir = PathBuf::from(&value),
            "--am" if value == "heap" => order.access_method = AccessMethod::Heap,
            "--am" if value == "ssdlsm" => order.access_method = AccessMethod::Extension,
            _ => return Err(format!("unknown argument: {name} {value}")),
        }
    }
    Ok(order)
}
