//! What a background process of ours does, as `pg_stat_activity` and the process's title show it.

use std::cell::RefCell;
use std::ffi::CString;

use pgrx::pg_sys::{self, BackendState};
use ssd_engine::lsm::hosted::Job;

thread_local! {
    /// What is being done, outermost first.
    static DOING: RefCell<Vec<CString>> = const { RefCell::new(Vec::new()) };
}

/// The process waits for work, and has done none yet.
pub(super) fn starts() {
    report(BackendState::STATE_IDLE, Some(&CString::default()));
}

/// Shows `what` until [`ends`].
pub(super) fn begins(what: &str) {
    // No text of ours has a zero byte.
    let what = CString::new(what).unwrap_or_default();
    report(BackendState::STATE_RUNNING, Some(&what));
    DOING.with_borrow_mut(|doing| doing.push(what));
}

/// What began last has ended: the process goes on with what is around it, or waits. A waiting one shows what it did last.
pub(super) fn ends() {
    DOING.with_borrow_mut(|doing| {
        doing.pop();
        match doing.last() {
            Some(outer) => report(BackendState::STATE_RUNNING, Some(outer)),
            None => report(BackendState::STATE_IDLE, None),
        }
    });
}

/// A job in words.
#[must_use]
pub(super) fn describe(job: Job) -> String {
    match job {
        Job::Flush { bytes } => format!("flushing a memtable of {}", size(bytes)),
        Job::Merge { files, bytes, output } => {
            let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            format!("merging {files} of {} into {output}", size(bytes))
        }
    }
}

fn size(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} kB", bytes.div_ceil(1 << 10)) } else { format!("{} MB", bytes >> 20) }
}

fn report(state: BackendState::Type, what: Option<&CString>) {
    let text = what.map_or(std::ptr::null(), |what| what.as_ptr());
    let title = if state == BackendState::STATE_RUNNING { text } else { c"idle".as_ptr() };
    // SAFETY: both copy the text into memory that was set aside for it, and raise nothing.
    unsafe {
        pg_sys::pgstat_report_activity(state, text);
        pg_sys::set_ps_display(title);
    }
}
