//! Which trees there are, and the end of those whose files are gone.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{Kind, full_key, split_full_key};
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::merge::Direction;
use ssd_engine::lsm::scan::Scan;
use ssd_engine::{Error, Result};

use super::write::Batch;
use crate::am::relation::node_of_tree;
use crate::link::NUMBER_TREE;

/// The first number that a tree of a relation can have.
pub const FIRST: TreeId = TreeId(1 << 32);

/// The trees in `range` that have entries.
///
/// # Errors
/// I/O, corruption.
pub fn with_entries(lsm: &Arc<Lsm>, range: Range<TreeId>) -> Result<Vec<TreeId>> {
    let mut found = Vec::new();
    let mut next = range.start;
    let end = full_key(range.end, &[]);
    loop {
        let mut scan = Scan::unanchored(Arc::clone(lsm), full_key(next, &[]), Some(end.clone()), Direction::Forward);
        let Some((key, _)) = scan.next_row()? else { return Ok(found) };
        let Some((tree, _)) = split_full_key(key) else {
            return Err(Error::corruption(Path::new(""), 0, "a key without a tree"));
        };
        found.push(tree);
        next = TreeId(tree.0 + 1);
    }
}

/// Database and file number of each relation that has a file, with `suffix` after the number; temporary ones among them.
///
/// # Errors
/// I/O.
pub fn nodes_with_files(suffix: &str) -> std::io::Result<BTreeSet<(u32, u32)>> {
    let mut nodes = BTreeSet::new();
    add_database(Path::new("global"), 0, suffix, &mut nodes)?;
    add_databases(Path::new("base"), suffix, &mut nodes)?;
    for link in fs::read_dir("pg_tblspc")? {
        for version in fs::read_dir(link?.path())? {
            add_databases(&version?.path(), suffix, &mut nodes)?;
        }
    }
    Ok(nodes)
}

fn add_databases(dir: &Path, suffix: &str, nodes: &mut BTreeSet<(u32, u32)>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(database) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            match add_database(&entry.path(), database, suffix, nodes) {
                // Dropped meanwhile.
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn add_database(dir: &Path, database: u32, suffix: &str, nodes: &mut BTreeSet<(u32, u32)>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        // Temporary relations are called t{backend}_{number}.
        let name = name.strip_prefix('t').and_then(|rest| rest.split_once('_')).map_or(name, |(_, rest)| rest);
        if let Some(number) = name.strip_suffix(suffix).and_then(|number| number.parse().ok()) {
            nodes.insert((database, number));
        }
    }
    Ok(())
}

/// The end of a tree and of what is known about its places.
#[must_use]
pub fn end_of(tree: TreeId) -> Batch {
    let mut batch = Batch::default();
    batch.delete_tree(tree);
    batch.op(Kind::Delete, &full_key(NUMBER_TREE, &tree.0.to_be_bytes()), &[]);
    batch
}

/// Ends the trees of relations whose files are gone; how many. A tree's file is made before its first entry, so trees are listed
/// before files are.
///
/// # Errors
/// I/O.
pub fn collect(lsm: &Arc<Lsm>) -> Result<usize> {
    let trees = with_entries(lsm, FIRST..TreeId(u64::MAX))?;
    let failed = |source| Error::io(Path::new("base"), "list files of relations under", source);
    let nodes = nodes_with_files("").map_err(failed)?;
    let dead: Vec<_> = trees.into_iter().filter(|tree| !nodes.contains(&node_of_tree(*tree))).collect();
    for tree in &dead {
        end_of(*tree).write_to_free(lsm)?;
    }
    Ok(dead.len())
}

/// Empties the unlogged tables, as the server empties their files, after a crash and at the end of recovery. Not logged: after
/// another crash it is done again.
///
/// # Errors
/// I/O.
pub fn reset_unlogged(lsm: &Arc<Lsm>) -> Result<usize> {
    let failed = |source| Error::io(Path::new("base"), "list files of relations under", source);
    let nodes = nodes_with_files("_init").map_err(failed)?;
    let mut count = 0;
    for tree in with_entries(lsm, FIRST..TreeId(u64::MAX))? {
        if nodes.contains(&node_of_tree(tree)) {
            let mut batch = Batch::default();
            batch.delete_tree(tree);
            batch.write(lsm, false)?;
            count += 1;
        }
    }
    Ok(count)
}
