//! Finds in a server's log what no test of Postgres's suites is to leave there: crashes, broken assertions, leaks.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::failure::{Failure, Result};

/// Parts of lines, each a fault of the server. (A lock that is not held when it is given back warns the client, too, so
/// the test's output shows it; tests of advisory locks do that on purpose.)
const FAULTS: [&str; 7] = [
    "PANIC:  ",
    "TRAP: ",
    "was terminated by signal",
    "terminating any other active server processes",
    " leak: ",
    "problem in alloc set",
    "thread panicked",
];

/// Lines shown of one log.
const SHOWN: usize = 10;

/// The lines of a log that tell of a fault.
pub(super) fn troubles(log: &Path) -> Result<Vec<String>> {
    let file = File::open(log).map_err(|e| Failure::file(log, "open", &e))?;
    let mut found = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|e| Failure::file(log, "read", &e))?;
        let line = String::from_utf8_lossy(&line);
        if is_fault(&line) && found.len() < SHOWN {
            found.push(line.into_owned());
        }
    }
    Ok(found)
}

/// Whether a line tells of a fault. Statements that the log repeats may hold any word.
fn is_fault(line: &str) -> bool {
    !line.contains("STATEMENT:  ") && FAULTS.iter().any(|fault| line.contains(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_from_errors() {
        assert!(is_fault("2026-01-01 LOG:  server process (PID 7) was terminated by signal 11: Segmentation fault"));
        assert!(is_fault("2026-01-01 PANIC:  could not write"));
        assert!(is_fault("2026-01-01 WARNING:  buffer refcount leak: [12] (rel=base/1/2, blockNum=0)"));
        assert!(!is_fault("2026-01-01 ERROR:  division by zero"));
        assert!(!is_fault("2026-01-01 STATEMENT:  select 'PANIC:  '"));
    }
}
