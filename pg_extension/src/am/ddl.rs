//! What data-definition commands do to a table's storage.
//!
//! The file of the main fork stays empty: it is the sign of life of the tree. It is created, copied and removed by the server with
//! the transaction that does so.

use pgrx::PgSqlErrorCode;
use pgrx::pg_guard;
use pgrx::pg_sys::{self, ForkNumber, RelFileNode};
use ssd_engine::base::key::{Kind, full_key, prefix_successor};
use ssd_engine::lsm::merge::Direction;
use ssd_engine::lsm::scan::{Choice, Chooser, Scan};

use super::relation::{is_logged, tree_of, tree_of_node};
use crate::error::{self, OrRaise};
use crate::ffi::externs;
use crate::link;
use crate::ops::numbers;
use crate::ops::write::Batch;

/// Bytes of a batch that copies rows.
const COPY_BYTES: usize = 256 << 10;

/// Creates the storage of a new table, or new storage for an old one.
#[pg_guard]
pub unsafe extern "C-unwind" fn set_new_filenode(
    rel: pg_sys::Relation,
    node: *const RelFileNode,
    persistence: std::ffi::c_char,
    freeze_xid: *mut pg_sys::TransactionId,
    min_multi: *mut pg_sys::MultiXactId,
) {
    // SAFETY: the server's arguments.
    unsafe {
        let lsm = link::writer().store.lsm();
        let kind = (*(*rel).rd_rel).relkind as u8;
        if kind == pg_sys::RELKIND_TOASTVALUE {
            error::unsupported("being the access method of a TOAST table");
        }
        *freeze_xid = pg_sys::RecentXmin;
        *min_multi = pg_sys::GetOldestMultiXactId();
        let storage = pg_sys::RelationCreateStorage(*node, persistence, true);
        if persistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED {
            pg_sys::smgrcreate(storage, ForkNumber::INIT_FORKNUM, false);
            externs::guarded(|| externs::log_smgrcreate(&raw const (*storage).smgr_rnode.node, ForkNumber::INIT_FORKNUM));
            pg_sys::smgrimmedsync(storage, ForkNumber::INIT_FORKNUM);
        }
        pg_sys::smgrclose(storage);
        let tree = tree_of_node(&*node);
        if lsm.tree_has_entries(tree).or_raise() {
            // A file number that has come round again; what was left of its former life ends here.
            let mut batch = Batch::default();
            batch.delete_tree(tree);
            batch.write(lsm, true).or_raise();
        }
        numbers::begin_at(lsm, tree, 0).or_raise();
    }
}

/// Empties a table at once and for good: one that was created in this transaction, or a temporary one.
#[pg_guard]
pub unsafe extern "C-unwind" fn nontransactional_truncate(rel: pg_sys::Relation) {
    // SAFETY: the server's argument.
    unsafe {
        let (lsm, tree) = (link::writer().store.lsm(), tree_of(rel));
        if lsm.tree_has_entries(tree).or_raise() {
            let mut batch = Batch::default();
            batch.delete_tree(tree);
            batch.write(lsm, is_logged(rel)).or_raise();
        }
        numbers::begin_at(lsm, tree, 0).or_raise();
        pg_sys::RelationTruncate(rel, 0);
    }
}

/// Takes every version there is.
struct Everything;

impl Chooser for Everything {
    fn choose(&mut self, _first: bool, _key: &[u8], _value: &[u8]) -> ssd_engine::Result<Choice> {
        Ok(Choice::RowAndOlder)
    }
}

/// Copies a table with all its versions, to the place that `node` names.
#[pg_guard]
pub unsafe extern "C-unwind" fn copy_data(rel: pg_sys::Relation, node: *const RelFileNode) {
    // SAFETY: the server's arguments.
    unsafe {
        let lsm = link::writer().store.lsm();
        let (from, to) = (tree_of(rel), tree_of_node(&*node));
        if lsm.tree_has_entries(to).or_raise() {
            error::fail(
                PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
                "the new file number of the table is in use",
                "Run the command again; it takes another number.",
            );
        }
        let persistence = (*(*rel).rd_rel).relpersistence;
        let storage = pg_sys::RelationCreateStorage(*node, persistence, true);
        if persistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED {
            pg_sys::smgrcreate(storage, ForkNumber::INIT_FORKNUM, false);
            externs::guarded(|| externs::log_smgrcreate(&raw const (*storage).smgr_rnode.node, ForkNumber::INIT_FORKNUM));
            pg_sys::smgrimmedsync(storage, ForkNumber::INIT_FORKNUM);
        }
        pg_sys::smgrclose(storage);
        copy_tree(from, to, is_logged(rel));
        pg_sys::RelationDropStorage(rel);
    }
}

/// Copies all versions of `from` to `to`, with their writers, oldest first, and how far row numbers have come.
pub(crate) fn copy_tree(from: ssd_engine::TreeId, to: ssd_engine::TreeId, logged: bool) {
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
    let blocks = numbers::blocks(lsm, from).or_raise();
    numbers::begin_at(lsm, to, blocks).or_raise();
}
