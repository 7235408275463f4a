//! Which trees there are, and the end of those whose files are gone.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pgrx::pg_sys;
use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{full_key, split_full_key};
use ssd_engine::lsm::Lsm;
use ssd_engine::lsm::merge::Direction;
use ssd_engine::lsm::scan::Scan;
use ssd_engine::{Error, Result};

use super::numbers;
use super::write::Batch;
use crate::am::relation::node_of_tree;

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

/// A relation's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileOfRelation {
    /// The tablespace's number.
    pub tablespace: u32,
    /// The database's.
    pub database: u32,
    /// The file's.
    pub number: u32,
}

/// The files of relations with `suffix` after the number, temporary ones among them.
///
/// # Errors
/// I/O.
pub fn files(suffix: &str) -> Result<BTreeSet<FileOfRelation>> {
    list_files(suffix).map_err(|source| Error::io(Path::new("base"), "list files of relations under", source))
}

fn list_files(suffix: &str) -> std::io::Result<BTreeSet<FileOfRelation>> {
    let (default, global) = (u32::from(pg_sys::DEFAULTTABLESPACE_OID), u32::from(pg_sys::GLOBALTABLESPACE_OID));
    let mut found = BTreeSet::new();
    add_database(Path::new("global"), (global, 0), suffix, &mut found)?;
    add_databases(Path::new("base"), default, suffix, &mut found)?;
    for link in fs::read_dir("pg_tblspc")? {
        let link = link?;
        let Some(tablespace) = number_of(&link) else { continue };
        for version in fs::read_dir(link.path())? {
            add_databases(&version?.path(), tablespace, suffix, &mut found)?;
        }
    }
    Ok(found)
}

fn number_of(entry: &fs::DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.parse().ok()
}

fn add_databases(
    dir: &Path,
    tablespace: u32,
    suffix: &str,
    found: &mut BTreeSet<FileOfRelation>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(database) = number_of(&entry) {
            match add_database(&entry.path(), (tablespace, database), suffix, found) {
                // Dropped meanwhile.
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn add_database(
    dir: &Path,
    (tablespace, database): (u32, u32),
    suffix: &str,
    found: &mut BTreeSet<FileOfRelation>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        // Temporary relations are called t{backend}_{number}.
        let name = name.strip_prefix('t').and_then(|rest| rest.split_once('_')).map_or(name, |(_, rest)| rest);
        if let Some(number) = name.strip_suffix(suffix).and_then(|number| number.parse().ok()) {
            found.insert(FileOfRelation { tablespace, database, number });
        }
    }
    Ok(())
}

/// Database and file number of each relation that has a file, with `suffix` after the number.
fn nodes_with_files(suffix: &str) -> Result<BTreeSet<(u32, u32)>> {
    Ok(files(suffix)?.into_iter().map(|file| (file.database, file.number)).collect())
}

/// Whether a relation of the tree's number has a file, in any tablespace.
///
/// # Errors
/// I/O.
pub fn has_file(tree: TreeId) -> Result<bool> {
    Ok(nodes_with_files("")?.contains(&node_of_tree(tree)))
}

/// Ends the trees of relations whose files are gone, and what is known about their places; how many. A tree's file is made before
/// its first entry, so trees are listed before files are.
///
/// # Errors
/// I/O.
pub fn collect(lsm: &Arc<Lsm>) -> Result<usize> {
    let trees = all(lsm, FIRST..TreeId(u64::MAX))?;
    let nodes = nodes_with_files("")?;
    let mut count = 0;
    for tree in trees.into_iter().filter(|tree| !nodes.contains(&node_of_tree(*tree))) {
        end(lsm, tree)?;
        count += 1;
    }
    Ok(count)
}

/// The trees in `range` that have rows, or whose places are known.
///
/// # Errors
/// I/O.
pub fn all(lsm: &Arc<Lsm>, range: Range<TreeId>) -> Result<BTreeSet<TreeId>> {
    let mut trees: BTreeSet<_> = with_entries(lsm, range.clone())?.into_iter().collect();
    trees.extend(numbers::known(lsm, range)?);
    Ok(trees)
}

/// Ends a tree that nobody uses, and what is known about its places.
///
/// # Errors
/// I/O.
pub fn end(lsm: &Arc<Lsm>, tree: TreeId) -> Result<()> {
    let mut batch = Batch::default();
    batch.delete_tree(tree);
    numbers::forget(lsm, &mut batch, tree)?;
    batch.write_to_free(lsm)?;
    numbers::release(tree);
    Ok(())
}

/// Empties the unlogged tables, as the server empties their files, after a crash and at the end of recovery. Not logged: after
/// another crash it is done again.
///
/// # Errors
/// I/O.
pub fn reset_unlogged(lsm: &Arc<Lsm>) -> Result<usize> {
    let nodes = nodes_with_files("_init")?;
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
