//! What data-definition commands do to a table's storage.
//!
//! The file of the main fork stays empty: it is the sign of life of the tree. It is created, copied and removed by the server with
//! the transaction that does so.

use pgrx::PgSqlErrorCode;
use pgrx::pg_guard;
use pgrx::pg_sys::{self, ForkNumber, RelFileNode};

use super::relation::{is_logged, tree_of, tree_of_node};
use crate::error::{self, OrRaise};
use crate::ffi::externs;
use crate::link;
use crate::ops::numbers;
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
        let storage = pg_sys::RelationCreateStorage(*node, persistence, true);
        if persistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED {
            pg_sys::smgrcreate(storage, ForkNumber::INIT_FORKNUM, false);
            externs::guarded(|| {
                externs::log_smgrcreate(&raw const (*storage).smgr_rnode.node, ForkNumber::INIT_FORKNUM)
            });
            pg_sys::smgrimmedsync(storage, ForkNumber::INIT_FORKNUM);
        }
        pg_sys::smgrclose(storage);
        let tree = tree_of_node(&*node);
        if lsm.tree_has_entries(tree).or_raise() {
            // A file number that has come round again; what was left of its former life ends here.
            link::wait_for_collectors();
            let mut batch = Batch::default();
            batch.delete_tree(tree);
            batch.write(lsm, true).or_raise();
        }
        numbers::begin_at(lsm, tree, numbers::Extent::default()).or_raise();
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
        numbers::begin_at(lsm, tree, numbers::Extent::default()).or_raise();
        pg_sys::RelationTruncate(rel, 0);
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
            externs::guarded(|| {
                externs::log_smgrcreate(&raw const (*storage).smgr_rnode.node, ForkNumber::INIT_FORKNUM)
            });
            pg_sys::smgrimmedsync(storage, ForkNumber::INIT_FORKNUM);
        }
        pg_sys::smgrclose(storage);
        super::copy::tree(from, to, is_logged(rel));
        pg_sys::RelationDropStorage(rel);
    }
}
