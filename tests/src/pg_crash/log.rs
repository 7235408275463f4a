//! Finds in a server's log what no blow of ours explains.

use std::fs;
use std::path::Path;

use super::Result;

/// Parts of lines, each a fault of the server.
const FAULTS: [&str; 5] = ["PANIC:  ", "TRAP: ", " leak: ", "problem in alloc set", "panicked"];

/// The end of a process that nobody struck.
const SIGNAL: &str = "was terminated by signal ";
/// SIGKILL: ours.
const KILLED: &str = "was terminated by signal 9";

/// The length of a log.
#[must_use]
pub fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |meta| meta.len())
}

/// Checks what a log has gained since it was `from` long.
///
/// # Errors
/// When there is a fault, which is quoted, or the log cannot be read.
pub fn check(log: &Path, from: u64) -> Result<()> {
    let bytes = fs::read(log).map_err(|e| format!("could not read \"{}\": {e}", log.display()))?;
    let new = bytes.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
    match String::from_utf8_lossy(new).lines().find(|line| is_fault(line)) {
        Some(line) => Err(format!("the server's log: {line}")),
        None => Ok(()),
    }
}

fn is_fault(line: &str) -> bool {
    let dies = line.contains(SIGNAL) && !line.contains(KILLED);
    !line.contains("STATEMENT:  ") && (dies || FAULTS.iter().any(|fault| line.contains(fault)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_blows_are_no_faults() {
        assert!(!is_fault("LOG:  server process (PID 7) was terminated by signal 9: Killed"));
        assert!(is_fault("LOG:  server process (PID 7) was terminated by signal 11: Segmentation fault"));
        assert!(is_fault("PANIC:  could not write"));
        assert!(!is_fault("ERROR:  canceling statement"));
    }
}
