//! What data-definition commands do to a table's storage.
//!
//! The file of the main fork is the sign of life of the tree: it is created, copied and removed by the server with the transaction
//! that does so. What is in it: [`sign`].

use pgrx::PgSqlErrorCode;
use pgrx::pg_guard;
use pgrx::pg_sys::{self, ForkNumber, RelFileNode};
use ssd_engine::base::ids::TreeId;

use super::relation::{is_logged, tree_of, tree_of_node};
use super::sign;
use crate::error::{self, OrRaise};
use crate::ffi::externs;
use crate::link;
use crate::ops::numbers;
use crate::ops::trees;
use crate::ops::write::Batch;

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
        let tree = tree_of_node(&*node);
        let is_old = lsm.tree_has_entries(tree).or_raise() || numbers::is_known(lsm, tree).or_raise();
        if is_old {
            refuse_number_in_use(tree);
        }
        let storage = pg_sys::RelationCreateStorage(*node, persistence, true);
        if persistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED {
            pg_sys::smgrcreate(storage, ForkNumber::INIT_FORKNUM, false);
            externs::guarded(|| {
                externs::log_smgrcreate(&raw const (*storage).smgr_rnode.node, ForkNumber::INIT_FORKNUM)
            });
            pg_sys::smgrimmedsync(storage, ForkNumber::INIT_FORKNUM);
        }
        pg_sys::smgrclose(storage);
        if is_old {
            // A file number that has come round again; what was left of its former life ends here.
            link::wait_for_collectors();
            let mut batch = Batch::default();
            batch.delete_tree(tree);
            batch.write(lsm, true).or_raise();
        }
        numbers::begin_at(lsm, tree, numbers::Extent::default()).or_raise();
    }
}

/// The counter of file numbers has turned, and the tree of the next number is still that of a relation of this database in another
/// tablespace, or of a temporary one: the server looks for files of one tablespace and one kind only.
fn refuse_number_in_use(tree: TreeId) {
    if trees::has_file(tree).or_raise() {
        error::fail(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "the new file number of the table is in use",
            "Run the command again; it takes another number.",
        );
    }
}

/// Empties a table at once and for good: one that was created in this transaction, or a temporary one.
#[pg_guard]
pub unsafe extern "C-unwind" fn nontransactional_truncate(rel: pg_sys::Relation) {
    // SAFETY: the server's argument.
    unsafe {
        empty(rel);
    }
}

/// Removes all rows of `rel` and its page, for good.
///
/// # Safety
/// `rel` is open, nobody else uses it or will before he is told, and nobody may see its rows any more.
pub(super) unsafe fn empty(rel: pg_sys::Relation) {
    // SAFETY: the caller's promise; guarded.
    unsafe {
        let (lsm, tree) = (link::writer().store.lsm(), tree_of_node(&(*rel).rd_node));
        if lsm.tree_has_entries(tree).or_raise() {
            let mut batch = Batch::default();
            batch.delete_tree(tree);
            batch.write(lsm, is_logged(rel)).or_raise();
        }
        numbers::begin_at(lsm, tree, numbers::Extent::default()).or_raise();
        pg_sys::RelationTruncate(rel, 0);
        sign::forget(rel);
    }
}

/// Copies a table with all its versions, to the place that `node` names.
#[pg_guard]
pub unsafe extern "C-unwind" fn copy_data(rel: pg_sys::Relation, node: *const RelFileNode) {
    // SAFETY: the server's arguments.
    unsafe {
        let lsm = link::writer().store.lsm();
        let (from, to) = (tree_of(rel), tree_of_node(&*node));
        if lsm.tree_has_entries(to).or_raise() || numbers::is_known(lsm, to).or_raise() {
            refuse_number_in_use(to);
            let mut batch = Batch::default();
            batch.delete_tree(to);
            batch.write(lsm, true).or_raise();
        }
        let persistence = (*(*rel).rd_rel).relpersistence;
        let storage = pg_sys::RelationCreateStorage(*node, persistence, true);
        if persistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED {
            pg_sys::smgrcreate(storage, ForkNumber::INIT_FORKNUM, false);
            externs::guarded(|| {
                externs::log_smgrcreate(&raw const (*storage).smgr_rnode.node, ForkNumber::INIT_FORKNUM)
            });
            pg_sys::smgrimmedsync(storage, ForkNumber::INIT_FORKNUM);
        }
        super::copy::extent(from, to);
        if numbers::extent(lsm, to).or_raise().blocks > 0 {
            sign::write_to_new(storage, &*node, is_logged(rel));
        }
        pg_sys::smgrclose(storage);
        super::copy::rows(from, to, is_logged(rel));
        pg_sys::RelationDropStorage(rel);
    }
}
