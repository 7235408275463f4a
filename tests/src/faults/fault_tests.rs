//! Every operation of the workload fails once, in every way, with the process and with the machine dying afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ssd_engine::env::fault::FaultKind;
use ssd_engine::env::memory::Crash;

use super::harm::{Harm, operations, run};

/// Runs the workload once for each operation that can fail this way. A failure names the harm that repeats it.
fn each(kind: FaultKind, then: Crash) {
    let operations = operations(kind).unwrap();
    assert!(operations.len() > 40, "{} operations are too few to show anything", operations.len());
    let mut failures = Vec::new();
    for &nth in &operations {
        let harm = Harm { kind, nth, then };
        match catch_unwind(AssertUnwindSafe(|| run(harm))) {
            Ok(Ok(struck)) => assert!(struck, "{harm:?}: the workload is shorter than it was"),
            Ok(Err(what)) => failures.push(format!("{harm:?}: {what}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map_or("panic", String::as_str);
                failures.push(format!("{harm:?}: {text}"));
            }
        }
    }
    let shown = failures.iter().take(10).fold(String::new(), |text, failure| text + "\n" + failure);
    assert!(failures.is_empty(), "{} of {} runs failed:{shown}", failures.len(), operations.len());
}

#[test]
fn every_operation_fails_with_an_io_error_then_the_process_dies() {
    each(FaultKind::Eio, Crash::Process);
}

#[test]
fn every_operation_fails_with_an_io_error_then_the_power_fails() {
    each(FaultKind::Eio, Crash::Power);
}

#[test]
fn every_operation_finds_the_disk_full() {
    each(FaultKind::NoSpace, Crash::Process);
    each(FaultKind::NoSpace, Crash::Power);
}

#[test]
fn every_write_is_short() {
    each(FaultKind::ShortWrite, Crash::Process);
    each(FaultKind::ShortWrite, Crash::Power);
}

#[test]
fn every_sync_loses_what_it_was_to_keep() {
    each(FaultKind::SyncLost, Crash::Process);
    each(FaultKind::SyncLost, Crash::Power);
}

#[test]
fn the_process_dies_in_every_operation() {
    each(FaultKind::Crash, Crash::Process);
}

#[test]
fn the_power_fails_in_every_operation() {
    each(FaultKind::Crash, Crash::Power);
}
