//! VACUUM FULL and CLUSTER: a table's rows written anew, in the order of an index if there is one.
//!
//! Rows take new numbers, versions are counted from 0 again, and keep their writers: snapshots older than the command read the same
//! rows as before. What nobody can see is left behind.

use std::collections::HashSet;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, HeapTuple, ScanDirection};
use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::format::row_version::{RowKind, RowVersion};

use super::columns;
use super::modify::size_of_row;
use super::owned::own;
use super::progress::{self, Blocks};
use super::relation::{is_logged, tree_of};
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::groups::{Group, Groups, is_seen_by_all};
use crate::ops::numbers;
use crate::ops::read::row_of;
use crate::ops::tid::{NUMBER_MAX, Root, Tid};
use crate::ops::tuple;
use crate::ops::write::{Batch, Moved};
use crate::xact::ids::widen;
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
    _use_sort: bool,
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
        let done = own(HashSet::<Root>::new());
        if !index.is_null() {
            progress::set_all([
                (pg_sys::PROGRESS_CLUSTER_PHASE, pg_sys::PROGRESS_CLUSTER_PHASE_INDEX_SCAN_HEAP.into()),
                (pg_sys::PROGRESS_CLUSTER_INDEX_RELID, u32::from((*index).rd_id).into()),
            ]);
            let scan = pg_sys::index_beginscan(old, index, &raw mut pg_sys::SnapshotAnyData, 0, 0);
            pg_sys::index_rescan(scan, std::ptr::null_mut(), 0, std::ptr::null_mut(), 0);
            loop {
                link::check_for_interrupts();
                let tid = pg_sys::index_getnext_tid(scan, ScanDirection::ForwardScanDirection);
                if tid.is_null() {
                    break;
                }
                let Some(Tid { root, .. }) = Tid::decode(&*tid) else { continue };
                if done.insert(root) {
                    let mut groups = Groups::of_row(lsm, copier.from, root);
                    if let Some(group) = groups.next_group().or_raise() {
                        copier.copy(&group);
                    }
                }
            }
            pg_sys::index_endscan(scan);
        }
        let groups = own(Groups::new(lsm, copier.from, 0, None));
        // After an index this finds what it does not have, and is told as a part of that phase.
        let mut blocks = index.is_null().then(|| {
            progress::set(pg_sys::PROGRESS_CLUSTER_PHASE, pg_sys::PROGRESS_CLUSTER_PHASE_SEQ_SCAN_HEAP);
            super::scan::count_scan(old);
            let columns = (pg_sys::PROGRESS_CLUSTER_TOTAL_HEAP_BLKS, pg_sys::PROGRESS_CLUSTER_HEAP_BLKS_SCANNED);
            Blocks::begin(columns, 0, super::planner::blocks(old))
        });
        while let Some(group) = groups.next_group().or_raise() {
            link::check_for_interrupts();
            if let Some(blocks) = &mut blocks
                && blocks.at(group.root.block.into())
            {
                super::scan::count_block(old);
            }
            if index.is_null() || done.insert(group.root) {
                copier.copy(&group);
            }
        }
        if let Some(blocks) = blocks {
            blocks.end();
        }
        copier.batch.write(lsm, copier.logged).or_raise();
        *tuples = copier.live;
        *vacuumed = copier.vacuumed;
        *recently_dead = copier.recently_dead;
    }
}

impl Copier {
    fn copy(&mut self, group: &Group) {
        let status = Status::now();
        let live = group.live(&status).or_raise();
        let Some(newest) = live.first() else { return };
        if !newest.kind.is_row() && is_seen_by_all(newest, self.oldest, &status).or_raise() {
            self.vacuumed += 1.0;
            return;
        }
        if newest.kind.is_row() {
            self.live += 1.0;
        } else {
            self.recently_dead += 1.0;
        }
        let copied = (self.live + self.recently_dead) as u64;
        progress::set_all([
            (pg_sys::PROGRESS_CLUSTER_HEAP_TUPLES_SCANNED, copied),
            (pg_sys::PROGRESS_CLUSTER_HEAP_TUPLES_WRITTEN, copied),
        ]);
        // Whatever is older than a version that all see is seen by nobody.
        let mut kept = Vec::new();
        for version in &live {
            kept.push(*version);
            if is_seen_by_all(version, self.oldest, &status).or_raise() {
                break;
            }
        }
        let lsm = link::lsm();
        let mut rows: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        for version in kept.iter().filter(|version| version.kind.is_row()) {
            // SAFETY: both relations are open.
            let (row, heap_bytes) = unsafe { self.rewrite(group.root, row_of(version).or_raise().1) };
            bytes = heap_bytes;
            rows.push(row);
        }
        // SAFETY: the new table is open.
        let size = unsafe { size_of_row(self.new, bytes) };
        let root = numbers::take(lsm, self.to, std::iter::once(size)).or_raise()[0];
        let full = root.full_key(self.to);
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
        if self.batch.bytes().len() > BATCH_BYTES {
            self.batch.write(lsm, self.logged).or_raise();
            self.batch.clear();
        }
    }

    /// The row without dropped columns, its wide values in the new table's own; and what a heap would take.
    unsafe fn rewrite(&mut self, root: Root, row: &[u8]) -> (Vec<u8>, u64) {
        // SAFETY: guarded; tuples are of the present memory context and freed here.
        unsafe {
            let old = columns::heap_tuple(self.old, Tid::of_root(root), row);
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
            pg_sys::heap_freetuple(old);
            (out, bytes)
        }
    }

    unsafe fn toasted(&self, tuple: HeapTuple) -> HeapTuple {
        // SAFETY: as in `rewrite`.
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
