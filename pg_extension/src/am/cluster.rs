//! VACUUM FULL and CLUSTER: a table's rows written anew, in the order of an index if there is one.
//!
//! Rows take new numbers, versions are counted from 0 again, and keep their writers: snapshots older than the command read the same
//! rows as before. What nobody can see is left behind.

use std::collections::HashSet;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, HeapTuple, ScanDirection};
use ssd_engine::base::ids::{CommandId, TreeId, TxnId};
use ssd_engine::format::row_version::{RowKind, RowVersion, Stamp};

use super::columns::HeapRow;
use super::insert::size_of_row;
use super::owned::own;
use super::progress::{self, Blocks};
use super::relation::{is_logged, tree_of};
use super::sign;
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::groups::{Group, Groups, is_seen_by_all};
use crate::ops::numbers;
use crate::ops::read::row_of;
use crate::ops::tid::{NUMBER_MAX, Root, Tid};
use crate::ops::tuple;
use crate::ops::write::{Batch, Moved};
use crate::xact::ids::{narrow, widen};
use crate::xact::status::Status;

const BATCH_BYTES: usize = 128 << 10;

struct Copier {
    old: pg_sys::Relation,
    new: pg_sys::Relation,
    from: TreeId,
    to: TreeId,
    oldest: TxnId,
    logged: bool,
    batch: Batch,
    values: Vec<Datum>,
    nulls: Vec<bool>,
    live: f64,
    vacuumed: f64,
    recently_dead: f64,
}

/// Copies `old` to `new`.
#[pg_guard]
pub unsafe extern "C-unwind" fn copy(
    old: pg_sys::Relation,
    new: pg_sys::Relation,
    index: pg_sys::Relation,
    use_sort: bool,
    oldest: pg_sys::TransactionId,
    _xid_cutoff: *mut pg_sys::TransactionId,
    _multi_cutoff: *mut pg_sys::MultiXactId,
    tuples: *mut f64,
    vacuumed: *mut f64,
    recently_dead: *mut f64,
) {
    // SAFETY: the server's arguments.
    unsafe {
        let lsm = link::writer().store.lsm();
        let natts = (*(*new).rd_att).natts as usize;
        let copier = own(Copier {
            old,
            new,
            from: tree_of(old),
            to: tree_of(new),
            oldest: widen(oldest),
            logged: is_logged(new),
            batch: Batch::default(),
            values: vec![Datum::from(0usize); natts],
            nulls: vec![false; natts],
            live: 0.0,
            vacuumed: 0.0,
            recently_dead: 0.0,
        });
        if !index.is_null() && use_sort {
            copier.copy_sorted(index);
        } else if index.is_null() {
            progress::set(pg_sys::PROGRESS_CLUSTER_PHASE, pg_sys::PROGRESS_CLUSTER_PHASE_SEQ_SCAN_HEAP);
            copier.copy_rest(&HashSet::new(), true);
        } else {
            let done = own(HashSet::new());
            copier.copy_by_index(index, done);
            // What no entry leads to: rows that the index does not take, or dead ones.
            copier.copy_rest(done, false);
        }
        copier.batch.write(lsm, copier.logged).or_raise();
        numbers::note_counted(lsm, copier.to, None).or_raise();
        *tuples = copier.live;
        *vacuumed = copier.vacuumed;
        *recently_dead = copier.recently_dead;
    }
}

/// Marks a tuple in a sort that is all there is of its row. The server has no meaning for the bit.
const IS_WHOLE: u16 = 0x0800;

impl Copier {
    /// Copies the rows in the order of `index`; `done` gets them.
    unsafe fn copy_by_index(&mut self, index: pg_sys::Relation, done: &mut HashSet<Root>) {
        // SAFETY: guarded; the relations are open.
        unsafe {
            progress::set_all([
                (pg_sys::PROGRESS_CLUSTER_PHASE, pg_sys::PROGRESS_CLUSTER_PHASE_INDEX_SCAN_HEAP.into()),
                (pg_sys::PROGRESS_CLUSTER_INDEX_RELID, u32::from((*index).rd_id).into()),
            ]);
            let scan = pg_sys::index_beginscan(self.old, index, &raw mut pg_sys::SnapshotAnyData, 0, 0);
            pg_sys::index_rescan(scan, std::ptr::null_mut(), 0, std::ptr::null_mut(), 0);
            loop {
                link::check_for_interrupts();
                let tid = pg_sys::index_getnext_tid(scan, ScanDirection::ForwardScanDirection);
                if tid.is_null() {
                    break;
                }
                let Some(Tid { root, .. }) = Tid::decode(&*tid) else { continue };
                if done.insert(root) {
                    self.copy_row(root);
                }
            }
            pg_sys::index_endscan(scan);
        }
    }

    /// Copies the rows that are not `done`, in the order of their places. `as_scan`: this is the scan of the table, and not a part of
    /// another phase.
    unsafe fn copy_rest(&mut self, done: &HashSet<Root>, as_scan: bool) {
        let mut blocks = as_scan.then(|| {
            // SAFETY: the relation is open.
            unsafe { super::scan::count_scan(self.old) };
            let columns = (pg_sys::PROGRESS_CLUSTER_TOTAL_HEAP_BLKS, pg_sys::PROGRESS_CLUSTER_HEAP_BLKS_SCANNED);
            // SAFETY: as above.
            Blocks::begin(columns, 0, unsafe { super::planner::blocks(self.old) })
        });
        let groups = own(Groups::new(link::lsm(), self.from, 0, None));
        while let Some(group) = groups.next_group().or_raise() {
            link::check_for_interrupts();
            if let Some(blocks) = &mut blocks
                && blocks.at(group.root.block.into())
            {
                // SAFETY: as above.
                unsafe { super::scan::count_block(self.old) };
            }
            if !done.contains(&group.root) {
                let kept = self.choose(group);
                self.write(group.root, &kept);
            }
        }
        if let Some(blocks) = blocks {
            blocks.end();
        }
    }

    /// Copies the rows in the order that the server's sort gives them, by the keys of `index`. A row that has one version goes
    /// through the sort as it is; of others the sort gets the newest version, and all of them are read again afterwards.
    unsafe fn copy_sorted(&mut self, index: pg_sys::Relation) {
        // SAFETY: guarded; as the server does for heaps. The sort copies what it is given.
        unsafe {
            progress::set_all([
                (pg_sys::PROGRESS_CLUSTER_PHASE, pg_sys::PROGRESS_CLUSTER_PHASE_SEQ_SCAN_HEAP.into()),
                (pg_sys::PROGRESS_CLUSTER_INDEX_RELID, u32::from((*index).rd_id).into()),
            ]);
            let (memory, options) = (pg_sys::maintenance_work_mem, pg_sys::TUPLESORT_NONE as i32);
            let sort =
                pg_sys::tuplesort_begin_cluster((*self.old).rd_att, index, memory, std::ptr::null_mut(), options);
            let groups = own(Groups::new(link::lsm(), self.from, 0, None));
            while let Some(group) = groups.next_group().or_raise() {
                link::check_for_interrupts();
                let kept = self.choose(group);
                let Some(row) = kept.iter().find(|version| version.kind.is_row()) else { continue };
                let mut row = HeapRow::new(self.old, Tid::of_root(group.root), row_of(row).or_raise().1);
                let tuple = row.tuple();
                if let [only] = &kept[..] {
                    mark_whole(tuple, only.stamp);
                }
                pg_sys::tuplesort_putheaptuple(sort, tuple);
            }
            progress::set(pg_sys::PROGRESS_CLUSTER_PHASE, pg_sys::PROGRESS_CLUSTER_PHASE_SORT_TUPLES);
            pg_sys::tuplesort_performsort(sort);
            progress::set(pg_sys::PROGRESS_CLUSTER_PHASE, pg_sys::PROGRESS_CLUSTER_PHASE_WRITE_NEW_HEAP);
            loop {
                link::check_for_interrupts();
                let tuple = pg_sys::tuplesort_getheaptuple(sort, true);
                if tuple.is_null() {
                    break;
                }
                if let Some(stamp) = stamp_of_whole(tuple) {
                    let (payload, bytes) = self.reform(tuple);
                    let version = RowVersion { kind: RowKind::Put, number: 0, stamp, payload: &payload };
                    let full = self.place(bytes).full_key(self.to);
                    self.batch.version(&full, &version);
                    self.write_if_long();
                } else if let Some(Tid { root, .. }) = Tid::decode(&(*tuple).t_self) {
                    self.copy_again(root);
                }
            }
            pg_sys::tuplesort_end(sort);
        }
    }

    fn copy_row(&mut self, root: Root) {
        let mut groups = Groups::of_row(link::lsm(), self.from, root);
        if let Some(group) = groups.next_group().or_raise() {
            let kept = self.choose(group);
            self.write(root, &kept);
        }
    }

    /// Copies a row that was counted before.
    fn copy_again(&mut self, root: Root) {
        let counted = (self.live, self.vacuumed, self.recently_dead);
        self.copy_row(root);
        (self.live, self.vacuumed, self.recently_dead) = counted;
    }

    /// The versions of a row that somebody may see, newest first; none for one that is dead to all. Counts the row.
    fn choose<'g>(&mut self, group: &'g Group) -> Vec<RowVersion<'g>> {
        let status = Status::now();
        let mut kept = group.live(&status).or_raise();
        let Some(newest) = kept.first() else { return kept };
        if newest.kind.is_row() {
            self.live += 1.0;
        } else if is_seen_by_all(newest, self.oldest, &status).or_raise() {
            self.vacuumed += 1.0;
            return Vec::new();
        } else {
            self.recently_dead += 1.0;
        }
        let copied = (self.live + self.recently_dead) as u64;
        progress::set_all([
            (pg_sys::PROGRESS_CLUSTER_HEAP_TUPLES_SCANNED, copied),
            (pg_sys::PROGRESS_CLUSTER_HEAP_TUPLES_WRITTEN, copied),
        ]);
        // Whatever is older than a version that all see is seen by nobody.
        let seen_by_all = kept.iter().position(|version| is_seen_by_all(version, self.oldest, &status).or_raise());
        kept.truncate(seen_by_all.map_or(kept.len(), |at| at + 1));
        kept
    }

    /// Writes the versions of a row, newest first, to a new place.
    fn write(&mut self, root: Root, kept: &[RowVersion<'_>]) {
        if kept.is_empty() {
            return;
        }
        let mut rows: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        for version in kept.iter().filter(|version| version.kind.is_row()) {
            // SAFETY: both relations are open.
            unsafe {
                let mut old = HeapRow::new(self.old, Tid::of_root(root), row_of(version).or_raise().1);
                let (row, heap_bytes) = self.reform(old.tuple());
                bytes = heap_bytes;
                rows.push(row);
            }
        }
        let full = self.place(bytes).full_key(self.to);
        let mut number = 0;
        // Oldest first: later operations are newer.
        for version in kept.iter().rev() {
            if version.kind.is_row() {
                let row = rows.pop().expect("one for each version that is a row");
                let new = RowVersion { kind: RowKind::Put, number, stamp: version.stamp, payload: &row };
                self.batch.version(&full, &new);
                number = (number + 1).min(NUMBER_MAX);
            } else if let Some(stamp) = version.stamp {
                if version.kind == RowKind::Moved {
                    let moved = Moved { to: None, ..Moved::decode(version.payload).or_raise() };
                    self.batch.moved(&full, stamp, moved);
                } else {
                    self.batch.tombstone(&full, stamp);
                }
            }
        }
        self.write_if_long();
    }

    /// A new place, for a row of which a heap's tuple has `bytes`.
    fn place(&self, bytes: u64) -> Root {
        // SAFETY: the new table is open.
        unsafe {
            let size = size_of_row(self.new, bytes);
            let root = numbers::take(link::lsm(), self.to, std::iter::once(size)).or_raise()[0];
            sign::make(self.new);
            root
        }
    }

    fn write_if_long(&mut self) {
        if self.batch.bytes().len() > BATCH_BYTES {
            self.batch.write(link::lsm(), self.logged).or_raise();
            self.batch.clear();
        }
    }

    /// The row in `old` without dropped columns, its wide values in the new table's own; and what a heap would take.
    unsafe fn reform(&mut self, old: HeapTuple) -> (Vec<u8>, u64) {
        // SAFETY: guarded; tuples are of the present memory context and freed here.
        unsafe {
            let descriptor = (*self.new).rd_att;
            pg_sys::heap_deform_tuple(old, (*self.old).rd_att, self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
            let attributes = (&raw const (*descriptor).attrs).cast::<pg_sys::FormData_pg_attribute>();
            for at in 0..self.nulls.len() {
                self.nulls[at] |= (*attributes.add(at)).attisdropped;
            }
            let formed = pg_sys::heap_form_tuple(descriptor, self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
            let tuple = self.toasted(formed);
            let mut out = Vec::new();
            tuple::encode(tuple, &mut out);
            let bytes = u64::from((*tuple).t_len).next_multiple_of(8);
            if tuple != formed {
                pg_sys::heap_freetuple(tuple);
            }
            pg_sys::heap_freetuple(formed);
            (out, bytes)
        }
    }

    unsafe fn toasted(&self, tuple: HeapTuple) -> HeapTuple {
        // SAFETY: as in `reform`.
        unsafe {
            let wide = (*tuple).t_len > 2032 || (*(*tuple).t_data).t_infomask & pg_sys::HEAP_HASEXTERNAL as u16 != 0;
            if !wide {
                return tuple;
            }
            let options = (pg_sys::HEAP_INSERT_SKIP_FSM | pg_sys::HEAP_INSERT_NO_LOGICAL) as i32;
            externs::guarded(|| externs::heap_toast_insert_or_update(self.new, tuple, std::ptr::null_mut(), options))
        }
    }
}

/// Marks `tuple` as all there is of its row, written by `stamp`: unless the writer is older than what its short id can tell.
unsafe fn mark_whole(tuple: HeapTuple, stamp: Option<Stamp>) {
    let xid = stamp.map_or(pg_sys::FrozenTransactionId, |stamp| narrow(stamp.txn));
    if stamp.is_some_and(|stamp| widen(xid) != stamp.txn) {
        return;
    }
    // SAFETY: a tuple of ours.
    unsafe {
        let data = &mut *(*tuple).t_data;
        data.t_choice.t_heap.t_xmin = xid;
        data.t_choice.t_heap.t_field3.t_cid = stamp.map_or(0, |stamp| stamp.command.0);
        data.t_infomask2 |= IS_WHOLE;
    }
}

/// The writer of a tuple that is all there is of its row.
unsafe fn stamp_of_whole(tuple: HeapTuple) -> Option<Option<Stamp>> {
    // SAFETY: a tuple that went through the sort.
    unsafe {
        let data = &*(*tuple).t_data;
        let (xid, command) = (data.t_choice.t_heap.t_xmin, data.t_choice.t_heap.t_field3.t_cid);
        let stamp = Stamp { txn: widen(xid), command: CommandId(command) };
        (data.t_infomask2 & IS_WHOLE != 0).then(|| (xid != pg_sys::FrozenTransactionId).then_some(stamp))
    }
}
