//! Checks of a whole version, for `verify`, paranoid builds and tests: everything that must hold and can be told from the
//! manifest alone.

use std::collections::HashSet;

use crate::base::ids::Level;
use crate::base::limits::LEVEL_COUNT;
use crate::format::version_edit::FileMeta;

use super::version::Version;

/// Everything that is wrong with `version`; empty when nothing is.
#[must_use]
pub fn check(version: &Version) -> Vec<String> {
    let mut problems = Vec::new();
    let mut numbers = HashSet::new();
    for (level, file) in version.files() {
        check_file(version, level, file, &mut problems);
        if !numbers.insert(file.number) {
            problems.push(format!("{level}: file {} occurs twice", file.number));
        }
    }
    for level in (0..LEVEL_COUNT as u8).map(Level) {
        check_level(version, level, &mut problems);
    }
    check_sublevels(version, &mut problems);
    for (id, tree) in version.trees.iter() {
        if *id != tree.id || id.0 >= version.next_tree {
            problems.push(format!("{id}: filed as {}, the next id being {}", tree.id, version.next_tree));
        }
    }
    problems
}

fn check_file(version: &Version, level: Level, file: &FileMeta, problems: &mut Vec<String>) {
    let mut wrong = |why: String| problems.push(format!("{level}: file {}: {why}", file.number));
    if let Err(why) = file.check_bounds() {
        wrong(why);
    }
    if file.number.0 >= version.next_file {
        wrong(format!("its number is not below the next, {}", version.next_file));
    }
    if file.largest_seqno > version.last_seqno {
        wrong(format!("it has sequence number {}, past the last, {}", file.largest_seqno, version.last_seqno));
    }
    if file.size == 0 {
        wrong("it has no bytes".to_owned());
    }
    if file.entries == 0 && file.range_deletes == 0 {
        wrong("it has no entries".to_owned());
    }
    if file.deletes > file.entries {
        wrong(format!("{} deletes among {} entries", file.deletes, file.entries));
    }
    if file.largest_exclusive && file.range_deletes == 0 {
        wrong("its largest key is exclusive, but it has no range tombstone".to_owned());
    }
    if file.min_txn > file.max_txn || (file.min_txn == 0) != (file.max_txn == 0) {
        wrong(format!("transactions {} to {} are out of order", file.min_txn, file.max_txn));
    }
}

fn check_level(version: &Version, level: Level, problems: &mut Vec<String>) {
    let files = version.level(level);
    for two in files.windows(2) {
        let (a, b) = (&two[0], &two[1]);
        let in_order = if level == Level(0) {
            (a.largest_seqno, a.number) > (b.largest_seqno, b.number)
        } else {
            a.end() <= b.start()
        };
        if !in_order {
            problems.push(format!("{level}: files {} and {} are out of order or overlap", a.number, b.number));
        }
    }
    let bytes = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    if bytes != version.level_bytes(level) {
        problems.push(format!("{level}: {bytes} bytes counted as {}", version.level_bytes(level)));
    }
    if level == Level(0) {
        return;
    }
    for (at, file) in files.iter().enumerate() {
        if version.file_for(level, &file.smallest).is_none_or(|found| found.number != file.number)
            || version.seek(level, &file.largest) != at + usize::from(file.largest_exclusive)
        {
            problems.push(format!("{level}: a search does not find file {}", file.number));
        }
    }
}

fn check_sublevels(version: &Version, problems: &mut Vec<String>) {
    let files = version.level(Level(0));
    let sublevels = version.sublevels();
    let placed: usize = (0..sublevels.count()).map(|row| sublevels.row(row).len()).sum();
    if placed != files.len() {
        problems.push(format!("L0: {placed} of {} files are in sublevels", files.len()));
        return;
    }
    for (newer, file) in files.iter().enumerate() {
        for (older, below) in files.iter().enumerate().skip(newer + 1) {
            if sublevels.of(newer) <= sublevels.of(older) && file.overlaps(below) {
                problems.push(format!("L0: file {} is not above file {}, which is older", file.number, below.number));
            }
        }
    }
}

#[cfg(test)]
mod tests;
