//! The account that VACUUM gives at its end: to whoever asked for it with VERBOSE, and of an automatic one in the server's log.
//!
//! The form is that of a heap's, so that what reads logs finds its lines.

use std::ffi::CStr;
use std::fmt::Write as _;

use pgrx::PgLogLevel;
use pgrx::pg_sys::{self, IndexBulkDeleteResult, VacuumParams};

/// When a VACUUM began, and what was counted then.
pub(super) struct Account {
    verbose: bool,
    log_above_ms: i32,
    is_wraparound: bool,
    /// All rows were asked for to be frozen.
    pub(super) aggressive: bool,
    table: String,
    started: pg_sys::TimestampTz,
    buffers: pg_sys::BufferUsage,
    wal: pg_sys::WalUsage,
    read_time: i64,
}

/// What it did.
pub(super) struct Outcome<'o> {
    /// Blocks that ctids have reached.
    pub(super) blocks: u64,
    /// Rows whose end everybody sees.
    pub(super) removed: u64,
    /// Rows there are.
    pub(super) live: u64,
    /// Rows whose end not everybody sees.
    pub(super) recently_dead: u64,
    /// What is older than this and has ended is removed.
    pub(super) oldest: pg_sys::TransactionId,
    /// `relfrozenxid` before and after.
    pub(super) frozen: (pg_sys::TransactionId, pg_sys::TransactionId),
    /// Each index with what was done in it; none when indexes were left alone.
    pub(super) indexes: &'o [(String, *mut IndexBulkDeleteResult)],
    /// Indexes were left alone because that was asked for.
    pub(super) is_bypassed: bool,
}

/// Text of the server's own in memory that lives for the command.
unsafe fn text(from: *const std::ffi::c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: a string of the server's.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}

/// The name of a relation.
///
/// # Safety
/// `rel` is open.
#[must_use]
pub(super) unsafe fn name_of(rel: pg_sys::Relation) -> String {
    // SAFETY: the caller's promise.
    unsafe { text((*(*rel).rd_rel).relname.data.as_ptr()) }
}

impl Account {
    /// Begins, and says so when that is wanted.
    ///
    /// # Safety
    /// `rel` is open.
    pub(super) unsafe fn begin(rel: pg_sys::Relation, params: &VacuumParams, aggressive: bool) -> Self {
        // SAFETY: guarded; the caller's promise.
        unsafe {
            let database = text(pg_sys::get_database_name(pg_sys::MyDatabaseId));
            let namespace = text(pg_sys::get_namespace_name((*(*rel).rd_rel).relnamespace));
            let is_automatic = pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER;
            let account = Self {
                verbose: params.options & pg_sys::VACOPT_VERBOSE != 0,
                log_above_ms: if is_automatic { params.log_min_duration } else { -1 },
                is_wraparound: params.is_wraparound,
                aggressive,
                table: format!("{database}.{namespace}.{}", name_of(rel)),
                started: pg_sys::GetCurrentTimestamp(),
                buffers: pg_sys::pgBufferUsage,
                wal: pg_sys::pgWalUsage,
                read_time: pg_sys::pgStatBlockReadTime,
            };
            if account.verbose {
                let how = if aggressive { "aggressively vacuuming" } else { "vacuuming" };
                tell(PgLogLevel::INFO, format!("{how} \"{}\"", account.table));
            }
            account
        }
    }

    /// Gives the account, when somebody wants it.
    pub(super) fn end(self, outcome: &Outcome<'_>) {
        // SAFETY: asks for the time.
        let micros = unsafe { pg_sys::GetCurrentTimestamp() } - self.started;
        let is_logged = self.log_above_ms >= 0 && micros >= i64::from(self.log_above_ms) * 1000;
        if !self.verbose && !is_logged {
            return;
        }
        let mut out = String::new();
        self.head(&mut out, outcome);
        self.rows(&mut out, outcome);
        self.usage(&mut out, micros as f64 / 1e6);
        tell(if self.verbose { PgLogLevel::INFO } else { PgLogLevel::LOG }, out);
    }

    fn head(&self, out: &mut String, outcome: &Outcome<'_>) {
        let how = match (self.verbose, self.is_wraparound, self.aggressive) {
            (true, ..) => "finished vacuuming",
            (_, true, true) => "automatic aggressive vacuum to prevent wraparound of table",
            (_, true, false) => "automatic vacuum to prevent wraparound of table",
            (_, false, true) => "automatic aggressive vacuum of table",
            (_, false, false) => "automatic vacuum of table",
        };
        let scans = i32::from(!outcome.indexes.is_empty());
        let _ = writeln!(out, "{how} \"{}\": index scans: {scans}", self.table);
    }

    fn rows(&self, out: &mut String, outcome: &Outcome<'_>) {
        let Outcome { blocks, removed, live, recently_dead, .. } = outcome;
        let _ = writeln!(out, "pages: 0 removed, {blocks} remain, {blocks} scanned (100.00% of total)");
        let _ =
            writeln!(out, "tuples: {removed} removed, {live} remain, {recently_dead} are dead but not yet removable");
        // SAFETY: reads a counter under its lock.
        let next = unsafe { pg_sys::ReadNextFullTransactionId() }.value as u32;
        let oldest = u32::from(outcome.oldest);
        let age = next.wrapping_sub(oldest).cast_signed();
        let _ = writeln!(out, "removable cutoff: {oldest}, which was {age} XIDs old when operation ended");
        let (before, after) = (u32::from(outcome.frozen.0), u32::from(outcome.frozen.1));
        let ahead = after.wrapping_sub(before).cast_signed();
        if ahead > 0 {
            let _ = writeln!(out, "new relfrozenxid: {after}, which is {ahead} XIDs ahead of previous value");
        }
        if outcome.is_bypassed {
            let _ = writeln!(out, "index scan bypassed");
        }
        for (name, stats) in outcome.indexes.iter().filter(|(_, stats)| !stats.is_null()) {
            // SAFETY: as the index has returned it, and not freed yet.
            let stats = unsafe { &**stats };
            let _ = writeln!(
                out,
                "index \"{name}\": pages: {} in total, {} newly deleted, {} currently deleted, {} reusable; \
                 entries: {} removed, {} remain",
                stats.num_pages,
                stats.pages_newly_deleted,
                stats.pages_deleted,
                stats.pages_free,
                stats.tuples_removed,
                stats.num_index_tuples
            );
        }
    }

    fn usage(&self, out: &mut String, seconds: f64) {
        // SAFETY: variables of this process.
        let (buffers, wal, read_time, is_timed) = unsafe {
            (pg_sys::pgBufferUsage, pg_sys::pgWalUsage, pg_sys::pgStatBlockReadTime, pg_sys::track_io_timing)
        };
        let read = buffers.shared_blks_read - self.buffers.shared_blks_read;
        let hit = buffers.shared_blks_hit - self.buffers.shared_blks_hit;
        let dirtied = buffers.shared_blks_dirtied - self.buffers.shared_blks_dirtied;
        let rate = |blocks: i64| blocks as f64 * f64::from(pg_sys::BLCKSZ) / f64::from(1 << 20) / seconds.max(1e-6);
        if is_timed {
            let _ = writeln!(out, "I/O timings: read: {:.3} ms", (read_time - self.read_time) as f64 / 1000.0);
        }
        let (reads, writes) = (rate(read), rate(dirtied));
        let _ = writeln!(out, "avg read rate: {reads:.3} MB/s, avg write rate: {writes:.3} MB/s");
        let _ = writeln!(out, "buffer usage: {hit} hits, {read} misses, {dirtied} dirtied");
        let _ = writeln!(
            out,
            "WAL usage: {} records, {} full page images, {} bytes",
            wal.wal_records - self.wal.wal_records,
            wal.wal_fpi - self.wal.wal_fpi,
            wal.wal_bytes - self.wal.wal_bytes
        );
        let _ = write!(out, "system usage: elapsed: {seconds:.2} s");
    }
}

fn tell(level: PgLogLevel, text: String) {
    let code = pgrx::PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    pg_sys::panic::ErrorReport::new(code, text, "ssdlsm").report(level);
}
