//! The resource manager: the engine's batches in the server's write-ahead log.
//!
//! A record is the first sequence number (8 bytes, little-endian) and a batch (docs/formats/batch.md of the engine). Replay
//! applies it unless files have it already; equal key and sequence number is the same entry, so that twice is once. Where changes
//! are to be decoded, a [note] stands between the two.
//!
//! A record of a conflict says that index entries or rows go which snapshots older than a transaction may want: standbys cancel
//! queries that have such snapshots, as they do for a heap.
//!
//! Two ways in which a checkpoint could complete without the guardian are closed here: `cleanup` runs before the checkpoint at
//! the end of recovery, and the wrapped replay of checkpoint records runs before each restartpoint that rests on it.

mod decode;
pub mod note;

use std::ffi::c_char;

use pgrx::pg_guard;
use pgrx::pg_sys;
use ssd_engine::base::ids::{Lsn, SeqNo, TxnId};
use ssd_engine::base::key::split_full_key;
use ssd_engine::lsm::hosted::Placed;

use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::trees;
use crate::xact::ids::narrow;
use note::Note;

/// The resource manager's number.
pub const RMGR: u8 = 138;
/// A batch of the engine.
const BATCH: u8 = 0x10;
/// A batch of the engine, with a note for logical decoding before it.
const CHANGE: u8 = 0x20;
/// A conflict with snapshots of standbys: tablespace, database, file, and the newest transaction whose end they must have seen (4
/// bytes each, little-endian).
const CONFLICT: u8 = 0x30;
/// The resource manager of checkpoints.
const RM_XLOG_ID: usize = 0;
const XLOG_CHECKPOINT_SHUTDOWN: u8 = 0x00;
const XLOG_CHECKPOINT_ONLINE: u8 = 0x10;

static mut REDO_OF_XLOG: Option<unsafe extern "C-unwind" fn(*mut pg_sys::XLogReaderState)> = None;

/// Makes the resource manager known, and wraps the replay of checkpoints.
pub fn register() {
    let manager = pg_sys::RmgrData {
        rm_name: c"ssdlsm".as_ptr(),
        rm_redo: Some(redo),
        rm_desc: Some(desc),
        rm_identify: Some(identify),
        rm_startup: Some(startup),
        rm_cleanup: Some(cleanup),
        rm_mask: None,
        rm_decode: Some(decode::decode),
    };
    // SAFETY: in the postmaster, while libraries are preloaded; the table and the manager live for ever.
    unsafe {
        pg_sys::RegisterCustomRmgr(RMGR, Box::leak(Box::new(manager)));
        let table: *mut pg_sys::RmgrData = (&raw mut pg_sys::RmgrTable).cast();
        let of_xlog = table.add(RM_XLOG_ID);
        REDO_OF_XLOG = (*of_xlog).rm_redo;
        (*of_xlog).rm_redo = Some(redo_of_xlog);
    }
}

/// Logs a batch, with an encoded note unless that is empty, and inserts it, in one critical section.
pub fn log_and_insert(placed: Placed<'_>, note: &[u8]) -> Lsn {
    let first = placed.first().0.to_le_bytes();
    let (batch, len) = (placed.batch().as_ptr(), placed.batch().len() as i32);
    let kind = if note.is_empty() { BATCH } else { CHANGE };
    // SAFETY: the pieces live until the record is in; the insert cannot fail, and an error in XLogInsert ends the server.
    unsafe {
        externs::guarded(|| {
            externs::XLogBeginInsert();
            externs::XLogRegisterData(first.as_ptr().cast(), first.len() as i32);
            if kind == CHANGE {
                externs::XLogRegisterData(note.as_ptr().cast(), note.len() as i32);
                externs::XLogSetRecordFlags(pg_sys::XLOG_INCLUDE_ORIGIN as u8);
            }
            externs::XLogRegisterData(batch.cast(), len);
        });
        pg_sys::CritSectionCount += 1;
        let end = externs::XLogInsert(RMGR, kind);
        placed.insert();
        pg_sys::CritSectionCount -= 1;
        Lsn(end)
    }
}

/// Logs that what goes from the table of `node` may be wanted by snapshots that are not newer than all transactions before `oldest`.
pub fn log_conflict(node: &pg_sys::RelFileNode, oldest: TxnId) {
    let newest_end = u32::from(narrow(TxnId(oldest.0.saturating_sub(1))));
    let words = [u32::from(node.spcNode), u32::from(node.dbNode), u32::from(node.relNode), newest_end];
    let bytes = words.map(u32::to_le_bytes).concat();
    // SAFETY: the bytes live until the record is in.
    unsafe {
        externs::guarded(|| {
            externs::XLogBeginInsert();
            externs::XLogRegisterData(bytes.as_ptr().cast(), bytes.len() as i32);
            externs::XLogInsert(RMGR, CONFLICT);
        });
    }
}

/// Cancels the queries of a standby that a conflict is about.
fn resolve_conflict(data: &[u8]) {
    let words: Vec<u32> = data.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    let &[tablespace, database, file, newest_end] = &words[..] else {
        pgrx::error!("ssdlsm: a conflict in the log has another length");
    };
    let node = pg_sys::RelFileNode {
        spcNode: pg_sys::Oid::from(tablespace),
        dbNode: pg_sys::Oid::from(database),
        relNode: pg_sys::Oid::from(file),
    };
    // SAFETY: a variable of this process; the call is guarded.
    unsafe {
        if pg_sys::standbyState >= pg_sys::HotStandbyState::STANDBY_SNAPSHOT_PENDING {
            pg_sys::ResolveRecoveryConflictWithSnapshot(pg_sys::TransactionId::from_inner(newest_end), node);
        }
    }
}

/// The main data of the record that `reader` stands on, with its info byte and position.
unsafe fn record<'r>(reader: *mut pg_sys::XLogReaderState) -> (u8, &'r [u8], u64) {
    // SAFETY: a record was read before it is replayed or described.
    unsafe {
        let decoded = &*(*reader).record;
        let data = std::slice::from_raw_parts(decoded.main_data.cast::<u8>(), decoded.main_data_len as usize);
        (decoded.header.xl_info & !(pg_sys::XLR_INFO_MASK as u8), data, (*reader).ReadRecPtr)
    }
}

/// First sequence number and batch of a record; `None` for a record of another kind.
fn batch_of(info: u8, data: &[u8]) -> Option<(SeqNo, &[u8])> {
    let (first, rest) = data.split_first_chunk::<8>()?;
    let batch = match info {
        BATCH => rest,
        CHANGE => Note::decode(rest)?.1,
        _ => return None,
    };
    Some((SeqNo(u64::from_le_bytes(*first)), batch))
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    link::flush_here();
    let _ = link::process();
}

#[pg_guard]
unsafe extern "C-unwind" fn redo(reader: *mut pg_sys::XLogReaderState) {
    // SAFETY: called by replay.
    let (info, data, at) = unsafe { record(reader) };
    if info == CONFLICT {
        resolve_conflict(data);
        return;
    }
    let Some((first, batch)) = batch_of(info, data) else {
        pgrx::error!("ssdlsm: record of an unknown kind {info} in the log");
    };
    let lsm = link::lsm();
    let is_lock =
        |op: ssd_engine::format::batch::Op<'_>| split_full_key(op.key).is_some_and(|(tree, _)| tree == link::LOCK_TREE);
    if ssd_engine::format::batch::ops(batch).map_while(Result::ok).any(is_lock) {
        lsm.control().note_spilled_locks();
    }
    lsm.replay_hosted(batch, first, Lsn(at)).or_raise();
}

#[pg_guard]
unsafe extern "C-unwind" fn cleanup() {
    let lsm = link::lsm();
    trees::reset_unlogged(lsm).or_raise();
    lsm.flush_below(Lsn(u64::MAX)).or_raise();
}

#[pg_guard]
unsafe extern "C-unwind" fn redo_of_xlog(reader: *mut pg_sys::XLogReaderState) {
    // SAFETY: called by replay, on a record of the server's own kinds.
    unsafe {
        let (info, data, _) = record(reader);
        if matches!(info, XLOG_CHECKPOINT_ONLINE | XLOG_CHECKPOINT_SHUTDOWN) {
            let checkpoint: pg_sys::CheckPoint = std::ptr::read_unaligned(data.as_ptr().cast());
            link::flush_here();
            link::lsm().flush_for_checkpoint(Lsn(checkpoint.redo)).or_raise();
        }
        if let Some(original) = REDO_OF_XLOG {
            original(reader);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn desc(buf: pg_sys::StringInfo, reader: *mut pg_sys::XLogReaderState) {
    // SAFETY: called with a record and a string to append to.
    unsafe {
        let (info, data, _) = record(reader);
        let text = if info == CONFLICT {
            let words: Vec<_> = data.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
            format!("tablespace, database, file, latest removed transaction {words:?}")
        } else {
            let Some((first, batch)) = batch_of(info, data) else { return };
            let count = ssd_engine::format::batch::ops(batch).count();
            let mut text = format!("first {} operations {count} bytes {}", first.0, batch.len());
            if let Some((note, _)) = data.get(8..).and_then(Note::decode).filter(|_| info == CHANGE) {
                let [tablespace, database, number] = note.node;
                text.push_str(&format!("; {:?} {tablespace}/{database}/{number}", note.action));
            }
            text
        };
        pg_sys::appendBinaryStringInfo(buf, text.as_ptr().cast(), text.len() as i32);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn identify(info: u8) -> *const c_char {
    match info & !(pg_sys::XLR_INFO_MASK as u8) {
        BATCH => c"BATCH".as_ptr(),
        CHANGE => c"CHANGE".as_ptr(),
        CONFLICT => c"CONFLICT".as_ptr(),
        _ => std::ptr::null(),
    }
}
