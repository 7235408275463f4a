//! The sign of life: the one page of a table's main fork, which names the tree that has the rows.
//!
//! The file is the server's: it creates, copies and removes it with the transaction that does so, and backups take it along. But a
//! file alone is no table. So the page is there once the table has had a row, as a heap's first page would be, and when a table is
//! used for the first time (by this process, or since its definition changed) a page that names another tree, or whose tree the
//! engine does not know, is an error: what pg_upgrade or a copy of single files leaves behind must not pass for an empty table.
//!
//! 1. The engine knows the tree (an entry of the tree of numbers, logged) before the page is written, and the page is logged
//!    before the first row is: at every position of the log that a crash or a standby may stop at, a page has its tree.
//! 2. A file without a page says nothing: the table had no rows, VACUUM has found it empty, or it is unlogged and the server has
//!    emptied its file (and this library its tree) after a crash. The init fork of an unlogged table stays empty therefore.
//! 3. It goes through the server's buffers and log like every page: checksum, torn writes, replay and backups are the server's.
//!
//! What was found is kept in `rd_amcache`, which the server throws away with the rest of what it knows of the relation. Whoever
//! removes a page holds the strongest lock until its end is known to all.

use std::ffi::CStr;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Buffer, ForkNumber, RelFileNode, Relation};

use super::relation::{is_logged, tree_of_node};
use crate::error::{self, OrRaise};
use crate::link;
use crate::ops::numbers;

/// Begins the page's contents: whose it is, and the format's version.
const MAGIC: [u8; 8] = *b"ssdlsm\0\x01";
/// Where a page's contents begin.
const AT: usize = 24;
/// Bytes of the contents.
const LEN: usize = 16;
/// `InvalidSubTransactionId`.
const NO_SUBTRANSACTION: pg_sys::SubTransactionId = 0;
const PAGE: usize = pg_sys::BLCKSZ as usize;
const HINT: &str = "pg_upgrade and copies of single files do not bring the rows of ssdlsm tables: restore the whole data \
    directory, with its folder \"ssdlsm\", or load a dump. DROP TABLE and TRUNCATE give up what was in the table.";

/// What a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sign {
    database: u32,
    number: u32,
}

impl Sign {
    fn of(node: &RelFileNode) -> Self {
        Self { database: u32::from(node.dbNode), number: u32::from(node.relNode) }
    }

    fn encode(self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.database.to_le_bytes());
        out[12..].copy_from_slice(&self.number.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (bytes[..8] == MAGIC).then(|| Self { database: word(8), number: word(12) })
    }
}

/// What is in `rd_amcache`.
#[repr(C)]
struct Known {
    has_page: bool,
}

unsafe fn remember(rel: Relation, has_page: bool) {
    // SAFETY: the relation is open; the server frees the memory, which is a chunk of the context that it wants.
    unsafe {
        if (*rel).rd_amcache.is_null() {
            (*rel).rd_amcache = pg_sys::MemoryContextAlloc(pg_sys::CacheMemoryContext, size_of::<Known>());
        }
        *(*rel).rd_amcache.cast::<Known>() = Known { has_page };
    }
}

/// Forgets that there is a page: it was removed.
///
/// # Safety
/// `rel` is open.
pub unsafe fn forget(rel: Relation) {
    // SAFETY: the caller's promise.
    unsafe { remember(rel, false) };
}

/// Looks at the table's page, once for what this process knows of the relation, and raises an error when it is not the one of its
/// tree.
///
/// # Safety
/// `rel` is open and has storage.
#[cold]
pub unsafe fn check(rel: Relation) {
    // SAFETY: guarded; the caller's promise.
    unsafe {
        let blocks = blocks_of(rel);
        if blocks == 0 {
            return remember(rel, false);
        }
        let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
        let buffer = pg_sys::ReadBufferExtended(rel, ForkNumber::MAIN_FORKNUM, 0, mode, std::ptr::null_mut());
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let is_new = page_is_new(buffer);
        let found = read(buffer);
        pg_sys::UnlockReleaseBuffer(buffer);
        // Extended, and never written because of a crash.
        if is_new {
            return remember(rel, false);
        }
        let node = &(*rel).rd_node;
        let (name, file) = (name_of(rel), path_of(node));
        match found {
            None => error::fail_with_detail(
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("the file of table \"{name}\" is not one of an ssdlsm table"),
                format!("The first page of its {file} does not name a tree of rows."),
                HINT,
            ),
            Some(sign) if sign != Sign::of(node) => error::fail_with_detail(
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("the file of table \"{name}\" belongs to another table"),
                format!("Its {file} names file {} of database {}.", sign.number, sign.database),
                HINT,
            ),
            Some(_) if !numbers::is_known(link::lsm(), tree_of_node(node)).or_raise() => error::fail_with_detail(
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("the rows of table \"{name}\" are missing"),
                format!("Its {file} is there, and the engine in \"ssdlsm\" does not know the table."),
                HINT,
            ),
            Some(_) => remember(rel, true),
        }
    }
}

/// Blocks of the main fork's file.
unsafe fn blocks_of(rel: Relation) -> pg_sys::BlockNumber {
    // SAFETY: guarded; the relation is open. `RelationGetSmgr` of the server.
    unsafe {
        if (*rel).rd_smgr.is_null() {
            let storage = pg_sys::smgropen((*rel).rd_node, (*rel).rd_backend);
            pg_sys::smgrsetowner(&raw mut (*rel).rd_smgr, storage);
        }
        pg_sys::smgrnblocks((*rel).rd_smgr, ForkNumber::MAIN_FORKNUM)
    }
}

/// Makes sure that the table has its page, before its first row is written and after a place for it was taken.
///
/// # Safety
/// `rel` is open, with a lock that allows changes; not under a latch.
#[inline]
pub unsafe fn make(rel: Relation) {
    // SAFETY: the caller's promise.
    unsafe {
        let known = (*rel).rd_amcache.cast::<Known>();
        if known.is_null() || !(*known).has_page {
            make_now(rel);
        }
    }
}

#[cold]
unsafe fn make_now(rel: Relation) {
    // SAFETY: guarded; the caller's promise. An error in the critical section is a panic of the server.
    unsafe {
        pg_sys::LockRelationForExtension(rel, pg_sys::ExclusiveLock as i32);
        let blocks = blocks_of(rel);
        let block = if blocks == 0 { pg_sys::InvalidBlockNumber } else { 0 };
        let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
        let buffer = pg_sys::ReadBufferExtended(rel, ForkNumber::MAIN_FORKNUM, block, mode, std::ptr::null_mut());
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        if page_is_new(buffer) {
            write(buffer, Sign::of(&(*rel).rd_node), needs_wal(rel));
        }
        pg_sys::UnlockReleaseBuffer(buffer);
        pg_sys::UnlockRelationForExtension(rel, pg_sys::ExclusiveLock as i32);
        remember(rel, true);
    }
}

/// Writes the page of new storage that no buffer knows yet.
///
/// # Safety
/// `storage` is open, empty, and that of `node`.
pub unsafe fn write_to_new(storage: pg_sys::SMgrRelation, node: &RelFileNode, logged: bool) {
    // SAFETY: guarded; a page of the server's size, aligned as it wants.
    unsafe {
        let page = pg_sys::palloc0(PAGE).cast::<std::ffi::c_char>();
        fill(page, Sign::of(node));
        if logged && log_is_needed() {
            let mut node = *node;
            pg_sys::log_newpage(&raw mut node, ForkNumber::MAIN_FORKNUM, 0, page, true);
        }
        pg_sys::PageSetChecksumInplace(page, 0);
        // The checkpointer is told to sync it.
        pg_sys::smgrextend(storage, ForkNumber::MAIN_FORKNUM, 0, page, false);
        pg_sys::pfree(page.cast());
    }
}

/// Lets the page of `node`, which was copied together with the database `from`, name its own tree.
///
/// # Safety
/// The file is there, and nobody else uses it yet.
pub unsafe fn rename(node: RelFileNode, from: pg_sys::Oid, permanent: bool) {
    // SAFETY: guarded; the caller's promise.
    unsafe {
        let storage = pg_sys::smgropen(node, pg_sys::InvalidBackendId);
        if pg_sys::smgrnblocks(storage, ForkNumber::MAIN_FORKNUM) == 0 {
            return;
        }
        let (fork, mode) = (ForkNumber::MAIN_FORKNUM, pg_sys::ReadBufferMode::RBM_NORMAL);
        let buffer = pg_sys::ReadBufferWithoutRelcache(node, fork, 0, mode, std::ptr::null_mut(), permanent);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        let old = Sign { database: u32::from(from), number: u32::from(node.relNode) };
        if !page_is_new(buffer) && read(buffer) == Some(old) {
            write(buffer, Sign::of(&node), permanent && log_is_needed());
        }
        pg_sys::UnlockReleaseBuffer(buffer);
    }
}

/// Fills the buffer's page and logs it. The buffer is locked exclusively.
unsafe fn write(buffer: Buffer, sign: Sign, logged: bool) {
    // SAFETY: guarded; the caller's promise.
    unsafe {
        pg_sys::CritSectionCount += 1;
        fill(pg_sys::BufferGetPage(buffer), sign);
        pg_sys::MarkBufferDirty(buffer);
        if logged {
            pg_sys::log_newpage_buffer(buffer, true);
        }
        pg_sys::CritSectionCount -= 1;
    }
}

unsafe fn fill(page: pg_sys::Page, sign: Sign) {
    // SAFETY: guarded; a page of the server's size. What lies before `pd_lower` counts as used.
    unsafe {
        pg_sys::PageInit(page, PAGE, 0);
        let contents = sign.encode();
        std::ptr::copy_nonoverlapping(contents.as_ptr(), page.cast::<u8>().add(AT), LEN);
        (*page.cast::<pg_sys::PageHeaderData>()).pd_lower = (AT + LEN) as u16;
    }
}

unsafe fn read(buffer: Buffer) -> Option<Sign> {
    let mut bytes = [0; LEN];
    // SAFETY: the buffer is pinned and locked.
    unsafe {
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        std::ptr::copy_nonoverlapping(page.add(AT), bytes.as_mut_ptr(), LEN);
    }
    Sign::decode(&bytes)
}

/// Whether the page has never been written.
unsafe fn page_is_new(buffer: Buffer) -> bool {
    // SAFETY: the buffer is pinned and locked.
    unsafe { (*pg_sys::BufferGetPage(buffer).cast::<pg_sys::PageHeaderData>()).pd_upper == 0 }
}

/// `XLogIsNeeded()`.
unsafe fn log_is_needed() -> bool {
    // SAFETY: a setting of this process.
    unsafe { pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32 }
}

/// `RelationNeedsWAL`: without archive or standbys, what a transaction creates is synced at its end instead.
unsafe fn needs_wal(rel: Relation) -> bool {
    // SAFETY: the relation is open.
    unsafe {
        let is_new = (*rel).rd_createSubid != NO_SUBTRANSACTION || (*rel).rd_firstRelfilenodeSubid != NO_SUBTRANSACTION;
        is_logged(rel) && (log_is_needed() || !is_new)
    }
}

/// The relation's name.
unsafe fn name_of(rel: Relation) -> String {
    // SAFETY: the relation is open; a name ends with a zero.
    unsafe { CStr::from_ptr((*(*rel).rd_rel).relname.data.as_ptr()).to_string_lossy().into_owned() }
}

fn path_of(node: &RelFileNode) -> String {
    format!("file {} of database {}", u32::from(node.relNode), u32::from(node.dbNode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_which_tree_it_belongs_to() {
        let sign = Sign { database: 5, number: 16_384 };
        let bytes = sign.encode();
        assert_eq!(Sign::decode(&bytes), Some(sign));
        for at in 0..8 {
            let mut other = bytes;
            other[at] ^= 1;
            assert_eq!(Sign::decode(&other), None, "byte {at}");
        }
        assert_eq!(Sign::decode(&[0; LEN]), None);
    }
}
