//! Slots: a heap tuple made from a row, in a buffer of the slot's own or among those that a scan has read ahead.
//!
//! The slot begins like the server's slot for heap tuples, so that most of its functions serve here, too: they read the tuple that
//! `tuple` points to. `tupdata` describes ours, which is in `buffer`, reused from row to row, unless it is a scan's: that stays until
//! the scan goes on behind the rows it has read, and is copied when the slot is to depend on nothing else. A slot is made for each
//! run of a plan, so short rows find room in the slot itself.

use std::ptr;
use std::sync::LazyLock;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, HeapTuple, HeapTupleTableSlot, TupleTableSlot, TupleTableSlotOps};
use ssd_engine::format::row_version::Stamp;

use super::ahead::Tuple;
use super::relation::tree_of;
use crate::error::{self, OrRaise};
use crate::ffi::externs;
use crate::link;
use crate::ops::commands;
use crate::ops::read::Found;
use crate::ops::tid::Tid;
use crate::ops::tuple::{self, Header};
use crate::xact::ids::narrow;

/// Our slot.
#[repr(C)]
struct Slot {
    base: HeapTupleTableSlot,
    /// Memory for a row: `short`, or in the slot's context.
    buffer: *mut u8,
    capacity: usize,
    short: [u64; SHORT / size_of::<u64>()],
}

/// Bytes of a row for which a slot has room itself.
const SHORT: usize = 256;

struct Ops(TupleTableSlotOps);

// SAFETY: a table of functions, never changed.
unsafe impl Send for Ops {}
// SAFETY: as above.
unsafe impl Sync for Ops {}

/// The server's own function reads what our slot shares with its own.
static OPS: LazyLock<Ops> = LazyLock::new(|| Ops(TupleTableSlotOps { getsomeattrs: heap_ops().getsomeattrs, ..OURS }));

const OURS: TupleTableSlotOps = TupleTableSlotOps {
    base_slot_size: size_of::<Slot>(),
    init: Some(init),
    release: Some(release),
    clear: Some(clear),
    getsomeattrs: None,
    getsysattr: Some(get_system_attribute),
    materialize: Some(materialize),
    copyslot: Some(copy_slot),
    get_heap_tuple: Some(get_heap_tuple),
    get_minimal_tuple: None,
    copy_heap_tuple: Some(copy_heap_tuple),
    copy_minimal_tuple: Some(copy_minimal_tuple),
};

/// Which slots the access method's rows go into.
///
/// # Safety
/// Called by the server.
pub unsafe extern "C-unwind" fn callbacks(_rel: pg_sys::Relation) -> *const TupleTableSlotOps {
    &raw const OPS.0
}

const EMPTY: u16 = pg_sys::TTS_FLAG_EMPTY as u16;
const SHOULD_FREE: u16 = pg_sys::TTS_FLAG_SHOULDFREE as u16;

/// The server's own functions for slots of heap tuples.
fn heap_ops() -> &'static TupleTableSlotOps {
    // SAFETY: a constant of the server.
    unsafe { &pg_sys::TTSOpsHeapTuple }
}

unsafe fn ours<'s>(slot: *mut TupleTableSlot) -> &'s mut Slot {
    // SAFETY: these functions are called with our slots only.
    unsafe { &mut *slot.cast() }
}

/// Whether `slot` is one of ours.
///
/// # Safety
/// `slot` is a slot.
#[must_use]
pub unsafe fn is_ours(slot: *mut TupleTableSlot) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*slot).tts_ops == &raw const OPS.0 }
}

#[pg_guard]
unsafe extern "C-unwind" fn init(slot: *mut TupleTableSlot) {
    // SAFETY: called with our slots.
    let slot = unsafe { ours(slot) };
    forget_buffer(slot);
    slot.base.tuple = ptr::null_mut();
}

/// Only the slot's own room is left.
fn forget_buffer(slot: &mut Slot) {
    (slot.buffer, slot.capacity) = ((&raw mut slot.short).cast(), SHORT);
}

#[pg_guard]
unsafe extern "C-unwind" fn release(slot: *mut TupleTableSlot) {
    // SAFETY: as above.
    unsafe {
        free_buffer(ours(slot));
    }
}

unsafe fn free_buffer(slot: &mut Slot) {
    if slot.capacity > SHORT {
        let buffer = slot.buffer;
        forget_buffer(slot);
        // SAFETY: guarded; longer buffers are from `grow`, and freed once.
        unsafe { pg_sys::pfree(buffer.cast()) };
    }
}

/// Lets go of what `slot` has.
///
/// # Safety
/// `slot` is a live slot of ours.
#[pg_guard]
pub unsafe extern "C-unwind" fn clear(slot: *mut TupleTableSlot) {
    // SAFETY: as above.
    unsafe { empty(slot) };
}

/// Lets go of what `slot` has.
#[inline]
unsafe fn empty(slot: *mut TupleTableSlot) {
    // SAFETY: as above; a tuple that is to be freed was made by `materialize`.
    unsafe {
        let ours = ours(slot);
        let base = &mut ours.base.base;
        if base.tts_flags & SHOULD_FREE != 0 {
            pg_sys::heap_freetuple(ours.base.tuple);
            base.tts_flags &= !SHOULD_FREE;
        }
        base.tts_nvalid = 0;
        base.tts_flags |= EMPTY;
        base.tts_tid = no_tid();
        ours.base.off = 0;
        ours.base.tuple = ptr::null_mut();
    }
}

const fn no_tid() -> pg_sys::ItemPointerData {
    pg_sys::ItemPointerData { ip_blkid: pg_sys::BlockIdData { bi_hi: 0xFFFF, bi_lo: 0xFFFF }, ip_posid: 0 }
}

#[pg_guard]
unsafe extern "C-unwind" fn get_system_attribute(
    slot: *mut TupleTableSlot,
    number: i32,
    is_null: *mut bool,
) -> pg_sys::Datum {
    // SAFETY: as above.
    unsafe {
        if matches!(number, pg_sys::MinCommandIdAttributeNumber | pg_sys::MaxCommandIdAttributeNumber)
            && let Some(command) = shown_command(slot)
        {
            *is_null = false;
            return pg_sys::Datum::from(command);
        }
        (heap_ops().getsysattr.expect("every kind of slot has it"))(slot, number, is_null)
    }
}

/// The command that the version in `slot` shows: looked up when somebody asks for it, which is rare.
#[cold]
unsafe fn shown_command(slot: *mut TupleTableSlot) -> Option<u32> {
    // SAFETY: a slot of ours; the calls are guarded. Whoever asks has the table locked.
    unsafe {
        let tuple = ours(slot).base.tuple;
        let tid = Tid::decode(&(*slot).tts_tid)?;
        if tuple.is_null() || (*slot).tts_tableOid == pg_sys::InvalidOid {
            return None;
        }
        let rel = pg_sys::RelationIdGetRelation((*slot).tts_tableOid);
        if rel.is_null() {
            return None;
        }
        let mut command = None;
        if (*rel).rd_tableam == crate::handler::routine() {
            let writer = (*(*tuple).t_data).t_choice.t_heap.t_xmin;
            command = commands::shown(link::lsm(), tree_of(rel), tid, writer).or_raise();
        }
        pg_sys::RelationClose(rel);
        command
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn materialize(slot: *mut TupleTableSlot) {
    // SAFETY: as above.
    unsafe { make_own(slot) };
}

/// Makes what `slot` shows depend on nothing else.
unsafe fn make_own(slot: *mut TupleTableSlot) {
    // SAFETY: as above. A tuple in the slot's own buffer depends on nothing else; one of a scan's is still there.
    unsafe {
        let ours = ours(slot);
        if !ours.base.tuple.is_null() && ours.base.tuple == &raw mut ours.base.tupdata {
            let (data, len) = (ours.base.tupdata.t_data.cast::<u8>(), ours.base.tupdata.t_len as usize);
            if data != ours.buffer {
                let to = room(ours, len);
                ptr::copy_nonoverlapping(data, to, len);
                point_at(slot, to, len);
            }
            return;
        }
        let (tid, table) = (ours.base.base.tts_tid, ours.base.base.tts_tableOid);
        let of_heap = heap_ops().materialize.expect("every kind of slot has it");
        externs::guarded(|| of_heap(slot));
        (*slot).tts_tid = tid;
        (*slot).tts_tableOid = table;
    }
}

/// A heap tuple of what `slot`, of any kind, shows, and whether it is the caller's to free. Otherwise it is the slot's, and depends on
/// nothing else.
///
/// # Safety
/// `slot` is a live slot that is not empty.
pub unsafe fn heap_tuple(slot: *mut TupleTableSlot) -> (HeapTuple, bool) {
    // SAFETY: the caller's promise; the other call is guarded.
    unsafe {
        if is_ours(slot) {
            make_own(slot);
            return (ours(slot).base.tuple, false);
        }
        let mut is_callers = false;
        let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, true, &raw mut is_callers);
        (tuple, is_callers)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn copy_slot(to: *mut TupleTableSlot, from: *mut TupleTableSlot) {
    // SAFETY: as above; the copy is freed once its bytes are in our buffer.
    unsafe {
        let copy = ((*(*from).tts_ops).copy_heap_tuple.expect("every kind of slot has it"))(from);
        store_heap(to, copy);
        (*to).tts_tid = (*from).tts_tid;
        (*to).tts_tableOid = (*from).tts_tableOid;
        pg_sys::heap_freetuple(copy);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn get_heap_tuple(slot: *mut TupleTableSlot) -> HeapTuple {
    // SAFETY: as above.
    unsafe {
        let ours = ours(slot);
        if ours.base.tuple.is_null() {
            materialize(slot);
        }
        ours.base.tuple
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn copy_heap_tuple(slot: *mut TupleTableSlot) -> HeapTuple {
    // SAFETY: as above.
    unsafe {
        if ours(slot).base.tuple.is_null() {
            materialize(slot);
        }
        (heap_ops().copy_heap_tuple.expect("every kind of slot has it"))(slot)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn copy_minimal_tuple(slot: *mut TupleTableSlot) -> pg_sys::MinimalTuple {
    // SAFETY: as above.
    unsafe { (heap_ops().copy_minimal_tuple.expect("every kind of slot has it"))(slot) }
}

/// Room for `len` bytes in the slot's buffer.
#[inline]
unsafe fn room(slot: &mut Slot, len: usize) -> *mut u8 {
    if slot.capacity < len {
        // SAFETY: the slot is live.
        unsafe { grow(slot, len) };
    }
    slot.buffer
}

#[cold]
unsafe fn grow(slot: &mut Slot, len: usize) {
    // SAFETY: guarded; the buffer is ours.
    unsafe {
        free_buffer(slot);
        let capacity = len.next_power_of_two();
        slot.buffer = pg_sys::MemoryContextAlloc(slot.base.base.tts_mcxt, capacity).cast();
        slot.capacity = capacity;
    }
}

/// Shows the tuple of `len` bytes at `tuple`.
#[inline]
unsafe fn point_at(slot: *mut TupleTableSlot, tuple: *mut u8, len: usize) {
    // SAFETY: the callers' tuple lives as long as the slot shows it.
    unsafe {
        let ours = ours(slot);
        let table = ours.base.base.tts_tableOid;
        let data = &mut ours.base.tupdata;
        data.t_len = len as u32;
        data.t_data = tuple.cast();
        data.t_tableOid = table;
        data.t_self = (*data.t_data).t_ctid;
        ours.base.base.tts_tid = data.t_self;
        ours.base.base.tts_flags &= !EMPTY;
        ours.base.base.tts_nvalid = 0;
        ours.base.off = 0;
        ours.base.tuple = &raw mut ours.base.tupdata;
    }
}

unsafe fn store_heap(slot: *mut TupleTableSlot, tuple: HeapTuple) {
    // SAFETY: both are live; the tuple is not in our buffer.
    unsafe {
        empty(slot);
        let len = (*tuple).t_len as usize;
        let to = room(ours(slot), len);
        ptr::copy_nonoverlapping((*tuple).t_data.cast::<u8>(), to, len);
        (*slot).tts_tableOid = (*tuple).t_tableOid;
        point_at(slot, to, len);
    }
}

/// Whether [`show`] will do without the server.
///
/// # Safety
/// `slot` is a live slot.
#[inline]
pub const unsafe fn has_nothing_to_free(slot: *const TupleTableSlot) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*slot).tts_flags & SHOULD_FREE == 0 }
}

/// Shows in `slot`, which is one of ours, a row that a scan has read ahead.
///
/// # Safety
/// `slot` is a live slot with the relation's row type, and shows something else, or nothing, before the scan reads on or ends.
#[inline]
pub unsafe fn show(slot: *mut TupleTableSlot, table: pg_sys::Oid, tuple: Tuple) {
    // SAFETY: the caller's promise.
    unsafe {
        debug_assert!(is_ours(slot), "a slot of another access method");
        empty(slot);
        (*slot).tts_tableOid = table;
        point_at(slot, tuple.data, tuple.len as usize);
    }
}

/// Puts a version into `slot`, which is one of ours.
///
/// # Safety
/// `slot` is a live slot with the relation's row type.
#[inline]
pub unsafe fn store(
    slot: *mut TupleTableSlot,
    table: pg_sys::Oid,
    tid: Tid,
    writers: (Option<Stamp>, Option<Stamp>),
    row: &[u8],
) {
    let Some(len) = tuple::heap_len(row) else {
        error::fail(pgrx::PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of ssdlsm is too short", "");
    };
    let header = Header::new(tid, writers);
    // SAFETY: the caller's promise; the buffer has the room that `decode` asks for.
    unsafe {
        debug_assert!(is_ours(slot), "a slot of another access method");
        empty(slot);
        let to = room(ours(slot), len);
        tuple::decode(row, &header, to);
        (*slot).tts_tableOid = table;
        point_at(slot, to, len);
    }
}

/// Puts what was found into `slot`.
///
/// # Safety
/// As [`store`].
pub unsafe fn store_found(slot: *mut TupleTableSlot, table: pg_sys::Oid, root: crate::ops::tid::Root, found: &Found) {
    let tid = Tid { root, number: found.number };
    // SAFETY: the caller's promise.
    unsafe { store(slot, table, tid, (found.stamp, found.newer), &found.row) };
}

/// Notes in the tuple that `slot` has, of ours or the server's own kind for heaps, where it went and who wrote it.
///
/// # Safety
/// `slot` is a live slot.
pub unsafe fn note_written(slot: *mut TupleTableSlot, tid: Tid, stamp: Option<Stamp>) {
    // SAFETY: both kinds of slots begin alike.
    unsafe {
        let ops = (*slot).tts_ops;
        let begins_alike = is_ours(slot) || ops == &raw const pg_sys::TTSOpsHeapTuple;
        let tuple = if begins_alike { (*slot.cast::<HeapTupleTableSlot>()).tuple } else { ptr::null_mut() };
        if tuple.is_null() {
            return;
        }
        (*tuple).t_self = tid.encode();
        let data = &mut *(*tuple).t_data;
        data.t_ctid = tid.encode();
        let frozen = pg_sys::FrozenTransactionId;
        data.t_choice.t_heap.t_xmin = stamp.map_or(frozen, |stamp| narrow(stamp.txn));
        data.t_choice.t_heap.t_xmax = pg_sys::InvalidTransactionId;
        data.t_choice.t_heap.t_field3.t_cid = stamp.map_or(0, |stamp| stamp.command.0);
        data.t_infomask &= 0x000F;
        data.t_infomask |= pg_sys::HEAP_XMAX_INVALID as u16;
        if stamp.is_none() {
            data.t_infomask |= pg_sys::HEAP_XMIN_FROZEN as u16;
        }
    }
}

/// Notes in the tuple that [`note_written`] has dealt with that its writer has the row locked, too: a heap's tuple says so.
///
/// # Safety
/// `slot` is a live slot.
pub unsafe fn note_locker(slot: *mut TupleTableSlot, stamp: Stamp) {
    // SAFETY: as in `note_written`.
    unsafe {
        let begins_alike = is_ours(slot) || (*slot).tts_ops == &raw const pg_sys::TTSOpsHeapTuple;
        let tuple = if begins_alike { (*slot.cast::<HeapTupleTableSlot>()).tuple } else { ptr::null_mut() };
        if !tuple.is_null() {
            let data = &mut *(*tuple).t_data;
            data.t_choice.t_heap.t_xmax = narrow(stamp.txn);
            data.t_infomask &= !(pg_sys::HEAP_XMAX_INVALID as u16);
            data.t_infomask |= (pg_sys::HEAP_XMAX_LOCK_ONLY | pg_sys::HEAP_XMAX_EXCL_LOCK) as u16;
        }
    }
}
