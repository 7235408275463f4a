//! What the callbacks know of a relation: its tree, and whether its changes are logged.

use pgrx::pg_sys;
use ssd_engine::base::ids::TreeId;

/// The tree of the relation whose files `node` names.
///
/// Its number is made of database and file number, so nothing has to be looked up. A file number that comes back after its counter
/// has turned meets an old tree: `set_new_filenode` clears it then.
#[must_use]
pub fn tree_of_node(node: &pg_sys::RelFileNode) -> TreeId {
    // Keeps clear of the few trees of the library's own, also for database 0.
    TreeId(((u64::from(u32::from(node.dbNode)) + 1) << 32) | u64::from(u32::from(node.relNode)))
}

/// The numbers of all trees of a database.
#[must_use]
pub fn trees_of_database(database: pg_sys::Oid) -> std::ops::Range<u64> {
    let number = u64::from(u32::from(database)) + 1;
    number << 32..(number + 1) << 32
}

/// Database and file number of a tree.
#[must_use]
pub const fn node_of_tree(tree: TreeId) -> (u32, u32) {
    (((tree.0 >> 32) as u32).wrapping_sub(1), tree.0 as u32)
}

/// The tree of `rel`. When the relation is first used, this raises an error if its file is not the one of that tree, or the tree is
/// missing (see [`sign`](super::sign)).
///
/// # Safety
/// `rel` is an open relation.
#[inline]
#[must_use]
pub unsafe fn tree_of(rel: pg_sys::Relation) -> TreeId {
    // SAFETY: the caller's promise.
    unsafe {
        if (*rel).rd_amcache.is_null() {
            super::sign::check(rel);
        }
        tree_of_node(&(*rel).rd_node)
    }
}

/// Whether changes of `rel` go to the server's log.
///
/// # Safety
/// `rel` is an open relation.
#[must_use]
pub unsafe fn is_logged(rel: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*(*rel).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT }
}
