//! Logical decoding: from records of the log to changes that output plugins and subscribers are told.
//!
//! What a change means in SQL is in the record's [note](super::note), and the new rows are in its batch. From here on they are
//! handed to the server in the form in which it has changes of heaps, so that everything after that (transactions put in order,
//! wide values put together, plugins) is the server's own. Wide values are in heap tables, whose records it decodes itself.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, ReorderBufferChange, ReorderBufferChangeType, ReorderBufferTupleBuf};
use ssd_engine::format::batch;
use ssd_engine::format::row_version;

use super::note::{Action, Note};
use super::{CHANGE, record};
use crate::error;
use crate::ffi::externs;
use crate::ops::read::row_of;
use crate::ops::tuple::{self, Header};

/// What the server hands over with a record.
#[repr(C)]
struct Handed {
    start: pg_sys::XLogRecPtr,
    _end: pg_sys::XLogRecPtr,
    reader: *mut pg_sys::XLogReaderState,
}

/// Bytes of a heap tuple's header.
const HEADER: usize = 23;

/// Reads one record.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn decode(
    context: *mut pg_sys::LogicalDecodingContext,
    handed: *mut pg_sys::XLogRecordBuffer,
) {
    // SAFETY: the server's arguments; the record was read.
    unsafe {
        let (context, handed) = (&*context, &*handed.cast::<Handed>());
        let header = &(*(*handed.reader).record).header;
        let xid = header.xl_xid;
        pg_sys::ReorderBufferProcessXid(context.reorder, xid, handed.start);
        let (info, data, _) = record(handed.reader);
        // As for heaps: before there is a snapshot, changes cannot be understood; building it needs this call, though.
        if info != CHANGE
            || externs::SnapBuildCurrentState(context.snapshot_builder) < externs::SNAPBUILD_FULL_SNAPSHOT
            || !externs::guarded(|| externs::SnapBuildProcessChange(context.snapshot_builder, xid, handed.start))
            || context.fast_forward
        {
            return;
        }
        let Some((note, batch)) = data.get(8..).and_then(Note::decode) else { corrupt() };
        let origin = (*(*handed.reader).record).record_origin;
        let database = u32::from((*context.slot).data.database);
        if note.node[1] != database || filters_origin(context, origin) {
            return;
        }
        let queue = Queue { reorder: context.reorder, xid, at: handed.start, origin, note };
        match note.action {
            Action::Insert | Action::InsertMore | Action::SpeculativeInsert => queue.inserts(batch),
            Action::Update => {
                let Some(row) = rows(batch).next() else { corrupt() };
                queue.push(ReorderBufferChangeType::REORDER_BUFFER_CHANGE_UPDATE, Some(row), true);
            }
            Action::Delete => queue.push(ReorderBufferChangeType::REORDER_BUFFER_CHANGE_DELETE, None, true),
            Action::SpeculativeConfirm => {
                queue.push(ReorderBufferChangeType::REORDER_BUFFER_CHANGE_INTERNAL_SPEC_CONFIRM, None, true);
            }
            Action::SpeculativeAbort => {
                queue.push(ReorderBufferChangeType::REORDER_BUFFER_CHANGE_INTERNAL_SPEC_ABORT, None, true);
            }
        }
    }
}

fn corrupt() -> ! {
    error::fail(
        pgrx::PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        "ssdlsm: a record of the log cannot be decoded",
        "It may have been written by another version of ssdlsm.",
    );
}

/// Whether the plugin does not want changes that came from `origin`.
unsafe fn filters_origin(context: &pg_sys::LogicalDecodingContext, origin: pg_sys::RepOriginId) -> bool {
    // SAFETY: guarded; the server takes it as mutable for what it notes about the call in other fields.
    unsafe {
        context.callbacks.filter_by_origin_cb.is_some()
            && pg_sys::filter_by_origin_cb_wrapper(std::ptr::from_ref(context).cast_mut(), origin)
    }
}

/// The rows that a batch writes, in its order.
fn rows(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    batch::ops(batch).map_while(Result::ok).filter_map(|op| {
        let version = row_version::decode(op.value).ok().filter(|version| version.kind.is_row())?;
        row_of(&version).ok().map(|(_, row)| row)
    })
}

/// Where changes of one record go.
struct Queue<'q> {
    reorder: *mut pg_sys::ReorderBuffer,
    xid: pg_sys::TransactionId,
    at: pg_sys::XLogRecPtr,
    origin: pg_sys::RepOriginId,
    note: Note<'q>,
}

impl Queue<'_> {
    /// All rows of a batch, as inserted.
    unsafe fn inserts(&self, batch: &[u8]) {
        let action = if self.note.action == Action::SpeculativeInsert {
            ReorderBufferChangeType::REORDER_BUFFER_CHANGE_INTERNAL_SPEC_INSERT
        } else {
            ReorderBufferChangeType::REORDER_BUFFER_CHANGE_INSERT
        };
        let mut rows = rows(batch).peekable();
        while let Some(row) = rows.next() {
            // Wide values of the statement's rows come before all of them, so they are forgotten after the last.
            let is_last = rows.peek().is_none() && self.note.action != Action::InsertMore;
            // SAFETY: the caller's context.
            unsafe { self.push(action, Some(row), is_last) };
        }
    }

    /// One change; `clear`: the wide values that the log had before it are not needed after it.
    unsafe fn push(&self, action: ReorderBufferChangeType::Type, new: Option<&[u8]>, clear: bool) {
        // SAFETY: the change is the server's, which takes it back. Queueing may call the plugin, whose errors are to pass as they
        // are; no value with a destructor is alive then.
        unsafe {
            let change: *mut ReorderBufferChange = pg_sys::ReorderBufferGetChange(self.reorder);
            let [tablespace, database, number] = self.note.node.map(pg_sys::Oid::from);
            (*change).action = action;
            (*change).origin_id = self.origin;
            let data = &mut (*change).data.tp;
            data.relnode = pg_sys::RelFileNode { spcNode: tablespace, dbNode: database, relNode: number };
            data.clear_toast_afterwards = clear;
            data.newtuple = new.map_or(std::ptr::null_mut(), |row| self.tuple(row));
            let old = Some(self.note.old).filter(|old| !old.is_empty());
            data.oldtuple = old.map_or(std::ptr::null_mut(), |row| self.tuple(row));
            externs::ReorderBufferQueueChange(self.reorder, self.xid, self.at, change, false);
        }
    }

    /// A row as the server has it.
    unsafe fn tuple(&self, row: &[u8]) -> *mut ReorderBufferTupleBuf {
        let Some(len) = tuple::heap_len(row) else { corrupt() };
        let nowhere =
            pg_sys::ItemPointerData { ip_blkid: pg_sys::BlockIdData { bi_hi: 0xFFFF, bi_lo: 0xFFFF }, ip_posid: 0 };
        // SAFETY: the server's buffer has room for a header of 23 bytes and as many more as asked for, and is aligned.
        unsafe {
            let buffer = pg_sys::ReorderBufferGetTupleBuf(self.reorder, len - HEADER);
            let held = &mut (*buffer).tuple;
            held.t_len = len as u32;
            held.t_self = nowhere;
            held.t_tableOid = pg_sys::InvalidOid;
            tuple::decode(row, &Header { ctid: nowhere, ..Header::default() }, held.t_data.cast());
            buffer
        }
    }
}
