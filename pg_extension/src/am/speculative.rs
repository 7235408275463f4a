//! Speculative inserts: rows that may still be taken back, for ON CONFLICT.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, TupleTableSlot};
use ssd_engine::base::key::Kind;
use ssd_engine::format::row_version::{RowKind, RowVersion};

use super::columns::HeapRow;
use super::counts;
use super::identity;
use super::insert::prepare;
use super::modify::{check_conflict_in, stamp, written};
use super::relation::{is_logged, tree_of};
use super::sign;
use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::numbers;
use crate::ops::read::{self, Found};
use crate::ops::tid::Tid;
use crate::ops::write::Batch;
use crate::wal::note::Action;
use crate::xact::status::Status;

/// Inserts the row in `slot` for the time being.
#[pg_guard]
pub unsafe extern "C-unwind" fn insert(
    rel: pg_sys::Relation,
    slot: *mut TupleTableSlot,
    cid: u32,
    options: i32,
    _bistate: *mut pg_sys::BulkInsertStateData,
    token: u32,
) {
    // SAFETY: the server's arguments.
    unsafe {
        let (lsm, tree) = (link::writer().store.lsm(), tree_of(rel));
        let stamp = stamp(cid);
        check_conflict_in(rel, None);
        let row = prepare(rel, slot, std::ptr::null_mut(), options);
        let root = numbers::take(lsm, tree, std::iter::once(row.size)).or_raise()[0];
        sign::make(rel);
        let mut payload = token.to_le_bytes().to_vec();
        payload.extend_from_slice(&row.payload);
        let mut batch = Batch::default();
        let version = RowVersion { kind: RowKind::Speculative, number: 0, stamp: Some(stamp), payload: &payload };
        batch.version(&root.full_key(tree), &version);
        identity::note(&mut batch, rel, Action::SpeculativeInsert, &[]);
        batch.write(lsm, is_logged(rel)).or_raise();
        written(rel, slot, Tid::of_root(root), Some(stamp));
        counts::inserted(rel, 1);
    }
}

/// Makes the row one like others, or takes it back as if it had never been.
#[pg_guard]
pub unsafe extern "C-unwind" fn complete(
    rel: pg_sys::Relation,
    slot: *mut TupleTableSlot,
    _token: u32,
    succeeded: bool,
) {
    // SAFETY: the server's arguments.
    unsafe {
        let (lsm, tree) = (link::writer().store.lsm(), tree_of(rel));
        let Some(tid) = Tid::decode(&(*slot).tts_tid) else { return };
        let mut found = Found::default();
        if !read::fetch_exact(lsm, tree, tid, &Status::now(), &mut found).or_raise() {
            pgrx::error!("ssdlsm: a speculatively inserted row is gone");
        }
        let full = tid.root.full_key(tree);
        let mut batch = Batch::default();
        let action = if succeeded { Action::SpeculativeConfirm } else { Action::SpeculativeAbort };
        identity::note(&mut batch, rel, action, &[]);
        if succeeded {
            let stamp = found.stamp.expect("a speculative version is never frozen");
            batch.put(&full, 0, stamp, &found.row);
        } else {
            let mut row = HeapRow::new(rel, tid, &found.row);
            let old = row.tuple();
            externs::guarded(|| externs::heap_toast_delete(rel, old, true));
            batch.op(Kind::Delete, &full, &[]);
        }
        batch.write(lsm, is_logged(rel)).or_raise();
    }
}
