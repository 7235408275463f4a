//! Compares a standby with its primary: `pg_dumpall` of both must print the same.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::Stage;
use crate::cluster::Cluster;
use crate::failure::{Failure, Result};
use crate::program;

/// Logs the next value of every sequence: a sequence's log runs ahead of its value by up to 32.
const SETTLE_SEQUENCES: &str = "DO $$ DECLARE s regclass; BEGIN FOR s IN SELECT seqrelid FROM pg_sequence q \
    JOIN pg_class c ON c.oid = q.seqrelid WHERE c.relpersistence = 'p' LOOP PERFORM setval(s, nextval(s)); END LOOP; \
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END $$";

/// Waits for the standby and compares; says where they differ.
pub(super) fn compare(stage: &Stage<'_>, primary: &Cluster, standby: &Cluster, dir: &Path) -> Result<Option<String>> {
    let databases = primary.sql("postgres", "SELECT datname FROM pg_database WHERE datallowconn")?;
    for database in databases.lines() {
        primary.sql(database, SETTLE_SEQUENCES)?;
    }
    primary.wait_for(standby)?;
    let output = dir.join("dumps");
    stage.account.make_dir(&output)?;
    let mut files = Vec::new();
    for (name, server) in [("primary", primary), ("standby", standby)] {
        let file = output.join(format!("{name}.sql"));
        let mut command = server.client("pg_dumpall");
        command.args(["--no-sync", "--no-unlogged-table-data", "-f"]).arg(&file);
        program::checked(&mut command, &format!("dump the {name}"))?;
        files.push(file);
    }
    Ok(first_difference(&files[0], &files[1])?.map(|line| {
        format!("the dump of the standby differs at line {line}: diff {} {}", files[0].display(), files[1].display())
    }))
}

/// The number of the first line in which two dumps differ.
fn first_difference(one: &PathBuf, other: &PathBuf) -> Result<Option<u64>> {
    let lines = |path: &PathBuf| -> Result<_> {
        let file = File::open(path).map_err(|e| Failure::file(path, "open", &e))?;
        Ok(BufReader::new(file).split(b'\n').map(|line| line.unwrap_or_default()))
    };
    let (mut one, mut other) = (lines(one)?, lines(other)?);
    let mut number = 0;
    loop {
        number += 1;
        match (one.next(), other.next()) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) if a == b || is_restriction(&a) && is_restriction(&b) => {}
            _ => return Ok(Some(number)),
        }
    }
}

/// `\restrict KEY` and `\unrestrict KEY`: every dump has a key of its own.
fn is_restriction(line: &[u8]) -> bool {
    line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_dumps_do_not_count() {
        assert!(is_restriction(b"\\restrict abc"));
        assert!(is_restriction(b"\\unrestrict abc"));
        assert!(!is_restriction(b"\\connect abc"));
    }
}
