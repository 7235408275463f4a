//! The version that this process has read last: who updates a row asks twice more for the version that the scan has just read, for the
//! row as it was and for what changes in it.
//!
//! A version does not change. It may be rolled back, which is looked at, and another may come to have its place when nobody can see
//! it any more, or when its table is emptied; so it is known to the command that has read it and to no other.

use std::cell::RefCell;

use pgrx::pg_sys;
use ssd_engine::base::ids::TreeId;

use crate::error::OrRaise;
use crate::ffi::externs;
use crate::link;
use crate::ops::read::{self, Found};
use crate::ops::tid::{Root, Tid};
use crate::xact::status::Status;

#[derive(Default)]
struct Last {
    /// Which version `found` is, and who has read it; `None` when it is not to be used.
    of: Option<(TreeId, Root, Reader)>,
    found: Found,
}

/// A command of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reader {
    transaction: u32,
    command: u32,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

fn reader() -> Reader {
    // SAFETY: every process that reads rows has its entry; see the externs.
    unsafe { Reader { transaction: (*pg_sys::MyProc).lxid, command: externs::GetCurrentCommandId(false) } }
}

/// A place for the next version that is read, which then should be [kept](keep).
#[must_use]
pub fn room() -> Found {
    let mut found = LAST.take().found;
    found.passed.clear();
    found
}

/// Keeps the version of the row at `root` that was read.
pub fn keep(tree: TreeId, root: Root, found: Found) {
    LAST.set(Last { of: Some((tree, root, reader())), found });
}

/// The version that `tid` names if it was kept, whoever sees it, unless it was rolled back.
#[must_use]
pub fn kept(tree: TreeId, tid: Tid, status: &Status) -> Option<Found> {
    take(tree, tid).filter(|found| read::is_live_stamp(found.stamp, status).or_raise())
}

/// The version that `tid` names, whoever sees it, unless it was rolled back: the one that was kept, or else the engine's.
#[must_use]
pub fn exact(tree: TreeId, tid: Tid, status: &Status) -> Option<Found> {
    if let Some(found) = take(tree, tid) {
        return read::is_live_stamp(found.stamp, status).or_raise().then_some(found);
    }
    let mut found = room();
    read::fetch_exact(link::lsm(), tree, tid, status, &mut found).or_raise().then_some(found)
}

/// The version that `tid` names if it was kept.
fn take(tree: TreeId, tid: Tid) -> Option<Found> {
    LAST.with_borrow_mut(|last| {
        let is_it = last.of == Some((tree, tid.root, reader())) && last.found.number == tid.number;
        is_it.then(|| {
            last.of = None;
            let mut found = std::mem::take(&mut last.found);
            found.passed.clear();
            found
        })
    })
}
