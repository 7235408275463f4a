//! Functions of the server that the bindings lack, or that are called without a guard.
//!
//! *Unguarded* here means: called as they are. Such a function either cannot raise an error (the argument stands beside it) or
//! is only called in frames where no value with a destructor is alive.

use std::ffi::{c_char, c_void};

use pgrx::pg_sys::{BlockNumber, HeapTuple, ItemPointer, RelFileNode, Relation, Snapshot, TransactionId, XLogRecPtr};

/// Bit of `PGPROC.delayChkptFlags` that holds back the completion of a checkpoint.
pub const DELAY_CHKPT_COMPLETE: i32 = 1 << 1;
/// From this state of a builder of snapshots on, changes are collected.
pub const SNAPBUILD_FULL_SNAPSHOT: i32 = 1;

#[expect(missing_docs, reason = "the server's functions; its source has what they do")]
unsafe extern "C-unwind" {
    // -- raise, called guarded (through `guarded`) ------------------------------------------------------------
    pub fn heap_toast_insert_or_update(rel: Relation, new: HeapTuple, old: HeapTuple, options: i32) -> HeapTuple;
    pub fn heap_toast_delete(rel: Relation, old: HeapTuple, is_speculative: bool);
    pub fn log_smgrcreate(node: *const RelFileNode, fork: i32);
    pub fn CheckForSerializableConflictOutNeeded(rel: Relation, snapshot: Snapshot) -> bool;
    pub fn CheckForSerializableConflictOut(rel: Relation, xid: TransactionId, snapshot: Snapshot);
    pub fn CheckForSerializableConflictIn(rel: Relation, tid: ItemPointer, block: BlockNumber);
    pub fn PredicateLockTID(rel: Relation, tid: ItemPointer, snapshot: Snapshot, xid: TransactionId);
    pub fn PredicateLockRelation(rel: Relation, snapshot: Snapshot);
    pub fn PredicateLockPage(rel: Relation, block: BlockNumber, snapshot: Snapshot);
    pub fn HandleStartupProcInterrupts();
    pub fn toast_flatten_tuple(tuple: HeapTuple, descriptor: pgrx::pg_sys::TupleDesc) -> HeapTuple;
    pub fn SnapBuildProcessChange(builder: *mut pgrx::pg_sys::SnapBuild, xid: TransactionId, lsn: XLogRecPtr) -> bool;
    pub fn SpeculativeInsertionLockAcquire(xid: TransactionId) -> u32;
    pub fn XLogBeginInsert();
    pub fn XLogRegisterData(data: *const c_char, len: i32);
    pub fn XLogSetRecordFlags(flags: u8);
    // -- raise out of user code, called as they are so that nothing of the error is lost; no destructor is skipped that matters -
    pub fn FormIndexDatum(
        info: *mut pgrx::pg_sys::IndexInfo,
        slot: *mut pgrx::pg_sys::TupleTableSlot,
        estate: *mut pgrx::pg_sys::EState,
        values: *mut pgrx::pg_sys::Datum,
        nulls: *mut bool,
    );
    pub fn index_insert(
        index: Relation,
        values: *mut pgrx::pg_sys::Datum,
        nulls: *mut bool,
        tid: ItemPointer,
        table: Relation,
        check: u32,
        unchanged: bool,
        info: *mut pgrx::pg_sys::IndexInfo,
    ) -> bool;
    pub fn ReorderBufferQueueChange(
        buffer: *mut pgrx::pg_sys::ReorderBuffer,
        xid: TransactionId,
        lsn: XLogRecPtr,
        change: *mut pgrx::pg_sys::ReorderBufferChange,
        is_wide_value: bool,
    );
    pub fn table_block_parallelscan_estimate(rel: Relation) -> usize;
    pub fn table_block_parallelscan_initialize(rel: Relation, scan: pgrx::pg_sys::ParallelTableScanDesc) -> usize;
    pub fn table_block_parallelscan_reinitialize(rel: Relation, scan: pgrx::pg_sys::ParallelTableScanDesc);
    pub fn standard_ExecutorStart(query: *mut pgrx::pg_sys::QueryDesc, flags: i32);
    pub fn standard_ExecutorRun(query: *mut pgrx::pg_sys::QueryDesc, direction: i32, count: u64, once: bool);
    pub fn standard_ProcessUtility(
        statement: *mut pgrx::pg_sys::PlannedStmt,
        text: *const c_char,
        read_only: bool,
        context: u32,
        params: pgrx::pg_sys::ParamListInfo,
        environment: *mut pgrx::pg_sys::QueryEnvironment,
        dest: *mut pgrx::pg_sys::DestReceiver,
        completion: *mut pgrx::pg_sys::QueryCompletion,
    );
    pub fn planstate_tree_walker(
        state: *mut pgrx::pg_sys::PlanState,
        walker: unsafe extern "C-unwind" fn(*mut pgrx::pg_sys::PlanState, *mut c_void) -> bool,
        context: *mut c_void,
    ) -> bool;
    /// In functions without a guard of their own and with nothing to drop.
    pub fn palloc(size: usize) -> *mut c_void;
    /// Raises only for what was not allocated.
    pub fn pfree(pointer: *mut c_void);
    // -- cannot raise -----------------------------------------------------------------------------------------
    /// Compares bytes.
    pub fn datumIsEqual(a: pgrx::pg_sys::Datum, b: pgrx::pg_sys::Datum, by_value: bool, len: i32) -> bool;
    /// Takes the next number from this backend's own counter.
    pub fn GetNextLocalTransactionId() -> u32;
    /// Looks through arrays of this process.
    pub fn TransactionIdIsCurrentTransactionId(xid: TransactionId) -> bool;
    /// Reads a variable.
    pub fn GetCurrentTransactionIdIfAny() -> TransactionId;
    pub fn GetCurrentTransactionNestLevel() -> i32;
    /// Reads a tuple that has this attribute, which is not null.
    pub fn nocachegetattr(tuple: HeapTuple, number: i32, descriptor: pgrx::pg_sys::TupleDesc) -> pgrx::pg_sys::Datum;
    /// Reads a counter, unless the command is to be `used`.
    pub fn GetCurrentCommandId(used: bool) -> u32;
    /// Inside a critical section every error is a panic of the server.
    pub fn XLogInsert(rmid: u8, info: u8) -> XLogRecPtr;
    /// A lock that must be free or will be; raises only when too many are held (200), which this library never comes near.
    pub fn LWLockAcquire(lock: *mut pgrx::pg_sys::LWLock, mode: u32) -> bool;
    /// Raises only when the lock is not held.
    pub fn LWLockRelease(lock: *mut pgrx::pg_sys::LWLock);
    /// Reads a field.
    pub fn SnapBuildCurrentState(builder: *mut pgrx::pg_sys::SnapBuild) -> i32;
    /// Compares two positions of memory, without side effects.
    pub fn RecoveryInProgress() -> bool;
    pub fn GetRedoRecPtr() -> XLogRecPtr;
    pub fn GetXLogInsertEndRecPtr() -> XLogRecPtr;
    pub fn GetXLogReplayRecPtr(tli: *mut u32) -> XLogRecPtr;
    /// Count in this process, and close files of the server's own that were used long ago; what fails there is logged, or is a
    /// panic of the server.
    pub fn AcquireExternalFD() -> bool;
    pub fn ReserveExternalFD();
    pub fn ReleaseExternalFD();
    pub fn SignalHandlerForShutdownRequest(signal: i32);
    pub fn SignalHandlerForConfigReload(signal: i32);
    pub fn procsignal_sigusr1_handler(signal: i32);
}

/// Runs `call` so that an error the server raises in it unwinds.
///
/// # Safety
/// As the calls inside.
#[inline]
pub unsafe fn guarded<T>(call: impl FnOnce() -> T) -> T {
    // SAFETY: the guard turns a jump out of `call` into a panic that starts here.
    unsafe { pgrx::pg_sys::ffi::pg_guard_ffi_boundary(call) }
}
