//! Rows by the entries of indexes, which name roots.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, IndexFetchTableData, ItemPointer, TupleTableSlot};
use ssd_engine::mvcc::snapshot::Snapshot;

use super::counts;
use super::last;
use super::neighbours::{self, Neighbours, Reader};
use super::owned::own;
use super::relation::tree_of;
use super::slot;
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::read;
use crate::ops::tid::{Root, Tid};
use crate::xact::ids::{narrow, widen};
use crate::xact::snapshot::{convert, is_serializable};
use crate::xact::status::Status;

/// Our state.
#[repr(C)]
struct Fetch {
    base: IndexFetchTableData,
    /// The row that was fetched last.
    last: Option<Root>,
    /// Made when rows come in the order of the table; null before. In `context`.
    neighbours: *mut Neighbours,
    context: pg_sys::MemoryContext,
}

impl Fetch {
    /// What reads ahead, once two rows that lie side by side have been fetched.
    unsafe fn neighbours(&mut self, root: Root) -> Option<&mut Neighbours> {
        let last = self.last.replace(root);
        // SAFETY: guarded. The context goes with the fetch, or with the one it was begun in.
        unsafe {
            if self.neighbours.is_null() {
                last.and_then(|last| neighbours::way(last, root))?;
                self.context = pg_sys::AllocSetContextCreateInternal(
                    pg_sys::GetMemoryChunkContext((&raw mut *self).cast()),
                    c"ssdlsm rows in order".as_ptr(),
                    0,
                    1 << 10,
                    8 << 10,
                );
                let outer = pg_sys::MemoryContextSwitchTo(self.context);
                self.neighbours = own(Neighbours::default());
                pg_sys::MemoryContextSwitchTo(outer);
            }
            Some(&mut *self.neighbours)
        }
    }
}

// The next three are called for each index that a plan uses, each time it runs. Without a guard they have nothing to drop.

/// Begins to fetch.
///
/// # Safety
/// Called by the server.
pub unsafe extern "C-unwind" fn begin(rel: pg_sys::Relation) -> *mut IndexFetchTableData {
    // SAFETY: nothing is lost if there is no memory.
    unsafe {
        let fetch = externs::palloc(size_of::<Fetch>()).cast::<Fetch>();
        let base = IndexFetchTableData { rel };
        fetch.write(Fetch { base, last: None, neighbours: std::ptr::null_mut(), context: std::ptr::null_mut() });
        fetch.cast()
    }
}

/// Starts over.
///
/// # Safety
/// Called by the server.
pub unsafe extern "C-unwind" fn reset(data: *mut IndexFetchTableData) {
    // SAFETY: from `begin`.
    unsafe {
        let fetch = data.cast::<Fetch>();
        if !(*fetch).neighbours.is_null() {
            forget(fetch);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn forget(fetch: *mut Fetch) {
    // SAFETY: called where there are some.
    unsafe { (*(*fetch).neighbours).forget() };
}

/// Ends.
///
/// # Safety
/// Called by the server.
pub unsafe extern "C-unwind" fn end(data: *mut IndexFetchTableData) {
    // SAFETY: from `begin`.
    unsafe {
        let fetch = data.cast::<Fetch>();
        if !(*fetch).context.is_null() {
            end_context(fetch);
        }
        externs::pfree(fetch.cast());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn end_context(fetch: *mut Fetch) {
    // SAFETY: guarded; called where there is one.
    unsafe { pg_sys::MemoryContextDelete((*fetch).context) };
}

/// Whether the row at the root `tid` is the next of those that were read ahead; `slot` shows it then.
///
/// # Safety
/// As [`tuple`].
#[inline]
unsafe fn shows_next(
    data: *mut IndexFetchTableData,
    tid: ItemPointer,
    snapshot: pg_sys::Snapshot,
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let (rel, neighbours) = ((*data).rel, (*data.cast::<Fetch>()).neighbours);
        if neighbours.is_null() || (*rel).pgstat_info.is_null() || !slot::has_nothing_to_free(slot) {
            return false;
        }
        let Some(next) = Tid::decode(&*tid).and_then(|tid| (*neighbours).next(tid.root, Reader::of(snapshot))) else {
            return false;
        };
        slot::show(slot, (*rel).rd_id, next.tuple);
        if next.is_in_new_block {
            counts::block(Some(&mut (*(*rel).pgstat_info).t_counts));
        }
        *tid = (*slot).tts_tid;
        true
    }
}

/// The version of the row at the root `tid` that `snapshot` sees; writes its place to `tid`.
///
/// A root has one version at most for each snapshot, so it is never called again for the same entry. `all_dead` says that no
/// snapshot has one any more; row numbers are not used again, so that stays true.
///
/// # Safety
/// Called by the server.
pub unsafe extern "C-unwind" fn tuple(
    data: *mut IndexFetchTableData,
    tid: ItemPointer,
    snapshot: pg_sys::Snapshot,
    slot: *mut TupleTableSlot,
    call_again: *mut bool,
    all_dead: *mut bool,
) -> bool {
    // SAFETY: the server's arguments. A row that was read ahead needs no guard: nothing about it panics or raises.
    unsafe {
        *call_again = false;
        if !all_dead.is_null() {
            *all_dead = false;
        }
        shows_next(data, tid, snapshot, slot) || fetch(data, tid, snapshot, slot, all_dead)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn fetch(
    data: *mut IndexFetchTableData,
    tid: ItemPointer,
    snapshot: pg_sys::Snapshot,
    slot: *mut TupleTableSlot,
    all_dead: *mut bool,
) -> bool {
    // SAFETY: the server's arguments.
    unsafe {
        let rel = (*data).rel;
        let Some(Tid { root, .. }) = Tid::decode(&*tid) else { return false };
        let (lsm, tree, status) = (link::lsm(), tree_of(rel), Status::new(snapshot));
        let converted = convert(snapshot);
        // Serializable transactions lock each version before they look at it.
        if matches!(converted, Snapshot::At(_))
            && !is_serializable()
            && let Some(neighbours) = (*data.cast::<Fetch>()).neighbours(root)
            && neighbours.show(rel, (tree, root), (&converted, &status), slot)
        {
            neighbours.serve(Reader::of(snapshot));
            super::scan::count_block(rel);
            *tid = (*slot).tts_tid;
            return true;
        }
        let mut found = last::room();
        let there = match converted {
            Snapshot::Dirty => {
                let dirty = read::fetch_dirty(lsm, (tree, root), &status, &mut found).or_raise();
                let given = &mut *snapshot;
                let xid = |txn: Option<ssd_engine::base::ids::TxnId>| txn.map_or(pg_sys::InvalidTransactionId, narrow);
                given.xmin = xid(dirty.and_then(|dirty| dirty.inserting));
                given.xmax = xid(dirty.and_then(|dirty| dirty.changing));
                given.speculativeToken = dirty.map_or(0, |dirty| dirty.token);
                dirty.is_some()
            }
            other => read::fetch(lsm, (tree, root), &other, &status, &mut found).or_raise(),
        };
        if !there {
            super::fetch::note_passed(rel, snapshot, &found.passed);
            if !all_dead.is_null() {
                *all_dead = is_dead_to_all(rel, root);
            }
            return false;
        }
        super::scan::count_block(rel);
        let place = Tid { root, number: found.number };
        super::fetch::note_read(rel, snapshot, place, &found);
        slot::store_found(slot, (*rel).rd_id, root, &found);
        last::keep(tree, root, found);
        *tid = place.encode();
        true
    }
}

/// Whether nobody may see the row at `root`.
unsafe fn is_dead_to_all(rel: pg_sys::Relation, root: Root) -> bool {
    // SAFETY: guarded; the relation is open.
    unsafe {
        let seen_by_all = |txn| super::fetch::is_seen_by_all(rel, txn);
        !read::may_be_seen(link::lsm(), tree_of(rel), root, &Status::now(), &seen_by_all).or_raise()
    }
}

/// Says which of an index page's entries may be deleted, and which snapshots of a standby that would hurt.
///
/// Only entries that are known to be dead are asked for again; a page that is merely full is none of our business, since an update
/// that changes no indexed column makes no entry.
#[pg_guard]
pub unsafe extern "C-unwind" fn delete_tuples(
    rel: pg_sys::Relation,
    state: *mut pg_sys::TM_IndexDeleteOp,
) -> pg_sys::TransactionId {
    // SAFETY: the server's argument: as many entries and states as it says.
    unsafe {
        let state = &mut *state;
        if state.bottomup {
            state.ndeltids = 0;
            return pg_sys::InvalidTransactionId;
        }
        let entries = std::slice::from_raw_parts_mut(state.deltids, state.ndeltids as usize);
        let mut kept = 0;
        for at in 0..entries.len() {
            let status = &mut *state.status.add(entries[at].id as usize);
            if !status.knowndeletable {
                status.knowndeletable = Tid::decode(&entries[at].tid).is_none_or(|tid| is_dead_to_all(rel, tid.root));
            }
            if status.knowndeletable {
                entries.swap(kept, at);
                kept += 1;
            }
        }
        state.ndeltids = kept as i32;
        // Which transactions ended those rows may be forgotten; all of them were older than this.
        let oldest = widen(pg_sys::GetOldestNonRemovableTransactionId(rel));
        narrow(ssd_engine::base::ids::TxnId(oldest.0.saturating_sub(1)))
    }
}
