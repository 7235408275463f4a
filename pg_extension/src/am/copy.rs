//! Copies of whole trees: for tables that move, and for databases made from a template.

use pgrx::pg_sys;
use ssd_engine::base::ids::TreeId;
use ssd_engine::base::key::{Kind, full_key, prefix_successor};
use ssd_engine::lsm::merge::Direction;
use ssd_engine::lsm::scan::{Choice, Chooser, Scan};

use super::relation::trees_of_database;
use super::sign;
use crate::error::OrRaise;
use crate::link;
use crate::ops::numbers;
use crate::ops::trees;
use crate::ops::write::Batch;

/// Bytes of a batch that copies rows.
const COPY_BYTES: usize = 256 << 10;

/// Takes every version there is.
struct Everything;

impl Chooser for Everything {
    fn choose(&mut self, _first: bool, _key: &[u8], _value: &[u8]) -> ssd_engine::Result<Choice> {
        Ok(Choice::RowAndOlder)
    }
}

/// Copies how far row numbers have come. Comes before the rows, so that the engine knows the tree.
pub fn extent(from: TreeId, to: TreeId) {
    numbers::copy(link::writer().store.lsm(), from, to).or_raise();
}

/// Copies all versions of `from` to `to`, with their writers, oldest first.
pub fn rows(from: TreeId, to: TreeId, logged: bool) {
    let lsm = link::writer().store.lsm();
    let start = full_key(from, &[]);
    let prefix_len = start.len();
    let mut scan = Scan::unanchored(lsm.clone(), start.clone(), prefix_successor(&start), Direction::Forward);
    let mut batch = Batch::default();
    // Versions of a row come newest first and take rising numbers, so each row's are turned around.
    let mut row: (Vec<u8>, Vec<Vec<u8>>) = Default::default();
    let flush_row = |row: &mut (Vec<u8>, Vec<Vec<u8>>), batch: &mut Batch| {
        for value in row.1.drain(..).rev() {
            batch.op(Kind::Put, &full_key(to, &row.0), &value);
        }
        if batch.bytes().len() > COPY_BYTES {
            link::check_for_interrupts();
            batch.write(lsm, logged).or_raise();
            batch.clear();
        }
    };
    while let Some((key, value)) = scan.next_chosen(&mut Everything).or_raise() {
        let key = &key[prefix_len..];
        if key != row.0 {
            flush_row(&mut row, &mut batch);
            row.0 = key.to_vec();
        }
        row.1.push(value.to_vec());
    }
    flush_row(&mut row, &mut batch);
    batch.write(lsm, logged).or_raise();
}

/// Copies all trees of one database to another, which has the same files: they name the old trees until now.
pub fn database(from: pg_sys::Oid, to: pg_sys::Oid) {
    let lsm = link::lsm();
    let (old, new) = (trees_of_database(from), trees_of_database(to));
    // A number that a dropped database had may be asked for again before the end of its trees has come.
    let stale = trees::all(lsm, TreeId(new.start)..TreeId(new.end)).or_raise();
    if !stale.is_empty() {
        link::wait_for_collectors();
        let lsm = link::writer().store.lsm();
        stale.into_iter().for_each(|tree| trees::end(lsm, tree).or_raise());
    }
    let all = trees::all(lsm, TreeId(old.start)..TreeId(old.end)).or_raise();
    if all.is_empty() {
        return;
    }
    let copy_of = |tree: TreeId| TreeId(new.start + (tree.0 - old.start));
    for &tree in &all {
        extent(tree, copy_of(tree));
    }
    let files = trees::files("").or_raise();
    let unlogged = trees::files("_init").or_raise();
    for file in files.iter().filter(|file| file.database == u32::from(to)) {
        let node = pg_sys::RelFileNode {
            spcNode: pg_sys::Oid::from(file.tablespace),
            dbNode: to,
            relNode: pg_sys::Oid::from(file.number),
        };
        if all.contains(&TreeId(old.start + u64::from(file.number))) {
            // SAFETY: the database is not there yet for anybody else.
            unsafe { sign::rename(node, from, !unlogged.contains(file)) };
        }
    }
    for &tree in &all {
        rows(tree, copy_of(tree), true);
    }
}
