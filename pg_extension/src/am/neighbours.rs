//! Rows that are asked for one after the other in the order of the table, as by an index whose order is that of the rows: read
//! ahead by a scan instead of one by one.
//!
//! A scan that is begun with a snapshot of one moment shows each row as a single read with the same snapshot does. A row that the
//! scan does not have may still be asked for by itself, which also says why it is not there.

use pgrx::pg_sys::{self, TupleTableSlot};
use ssd_engine::Result;
use ssd_engine::base::ids::TreeId;
use ssd_engine::lsm::merge::Direction;
use ssd_engine::mvcc::row_scan::{KeyRange, RowScan};
use ssd_engine::mvcc::rows::RowStore;
use ssd_engine::mvcc::snapshot::Snapshot;
use ssd_engine::mvcc::status::TxnStatus;

use super::ahead::{Ahead, Tuple};
use super::slot;
use crate::error::OrRaise;
use crate::link;
use crate::ops::tid::Root;

/// So many rows in order make it likely that more will follow.
const RUN: u32 = 4;
/// Rows of the scan that are passed over to get to the one that is asked for. With more of them single reads are as good.
const SKIP_MAX: usize = 8;
/// Blocks that lie between two rows which still count as neighbours.
const BLOCKS_MAX: u32 = 1;

/// What was asked for lately, and the scan that reads ahead.
#[derive(Default)]
pub struct Neighbours {
    last: Option<Root>,
    /// Rows in order before this one.
    run: u32,
    scan: Option<Running>,
    /// The way of the present run.
    direction: Option<Direction>,
}

/// The server's snapshot that rows are asked for with, by what tells it from others that one fetch may see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    snapshot: pg_sys::Snapshot,
    oldest: pg_sys::TransactionId,
    next: pg_sys::TransactionId,
    command: pg_sys::CommandId,
}

impl Reader {
    /// Whoever reads with `snapshot`.
    ///
    /// # Safety
    /// It is live.
    #[inline]
    #[must_use]
    pub const unsafe fn of(snapshot: pg_sys::Snapshot) -> Self {
        // SAFETY: the caller's promise.
        let given = unsafe { &*snapshot };
        Self { snapshot, oldest: given.xmin, next: given.xmax, command: given.curcid }
    }
}

/// A row that was read ahead and is asked for next.
#[derive(Clone, Copy)]
pub struct Next {
    /// The row.
    pub tuple: Tuple,
    /// The one before was in another block.
    pub is_in_new_block: bool,
}

/// A scan, and what it has read.
struct Running {
    /// Who reads, when [`Neighbours::next`] may tell the rows.
    reader: Option<Reader>,
    scan: RowScan,
    direction: Direction,
    ahead: Ahead,
}

impl Running {
    /// Goes to the next row; its place, or `None` at the end.
    fn advance(&mut self, status: &dyn TxnStatus) -> Result<Option<Root>> {
        // Who was passed over matters to serializable transactions alone, and these do not read ahead.
        let mut passed = Vec::new();
        while self.ahead.take().is_none() {
            self.ahead.clear();
            if self.scan.put_more(status, &mut passed, &mut self.ahead)? == 0 {
                return Ok(None);
            }
        }
        Ok(self.ahead.last())
    }

    /// Whether `a` comes after `b` here.
    fn is_after(&self, a: Root, b: Root) -> bool {
        a != b && (a > b) == (self.direction == Direction::Forward)
    }
}

/// Which way it is from one row to a neighbour; `None` when it is none.
#[must_use]
pub fn way(from: Root, to: Root) -> Option<Direction> {
    if from.block.abs_diff(to.block) > BLOCKS_MAX || from == to {
        return None;
    }
    Some(if from < to { Direction::Forward } else { Direction::Backward })
}

impl Neighbours {
    /// Whether the row at `root` continues a run that is worth a scan.
    fn is_run(&mut self, root: Root) -> Option<Direction> {
        let way = self.last.replace(root).and_then(|last| way(last, root));
        if way.is_none() || way != self.direction {
            (self.run, self.direction, self.scan) = (0, way, None);
            return None;
        }
        self.run += 1;
        way.filter(|_| self.run >= RUN)
    }

    /// The row at `root` of `tree` as `snapshot` sees it; `None` when it has to be asked for by itself. It stays until the next call.
    /// All calls are with one snapshot of the host's, whose command may go on.
    ///
    /// # Errors
    /// I/O, corruption.
    fn find(
        &mut self,
        store: &RowStore,
        (tree, root): (TreeId, Root),
        snapshot: &Snapshot,
        status: &dyn TxnStatus,
    ) -> Result<Option<Tuple>> {
        if !matches!(snapshot, Snapshot::At(_)) {
            return Ok(None);
        }
        let Some(direction) = self.is_run(root) else { return Ok(None) };
        if self.scan.as_ref().is_none_or(|running| running.scan.snapshot() != snapshot) {
            let scan = begin(store, (tree, root), snapshot, direction)?;
            self.scan = Some(Running { reader: None, scan, direction, ahead: Ahead::default() });
        }
        let Some(running) = &mut self.scan else { return Ok(None) };
        let mut at = running.ahead.last();
        for _ in 0..SKIP_MAX {
            if at.is_some_and(|at| !running.is_after(root, at)) {
                break;
            }
            at = running.advance(status)?;
            if at.is_none() {
                break;
            }
        }
        if at == Some(root) {
            return Ok(running.ahead.shown());
        }
        if at.is_none_or(|at| running.is_after(root, at)) {
            // At its end, or too far behind: single reads are as good for a while.
            (self.scan, self.run) = (None, 0);
        }
        Ok(None)
    }

    /// Lets [`next`](Self::next) tell the rows that come to `reader`, whose snapshot [`show`](Self::show) has just been given.
    pub fn serve(&mut self, reader: Reader) {
        if let Some(running) = &mut self.scan {
            running.reader = Some(reader);
        }
    }

    /// The row at `root`, if it is the next of those that were read ahead for `reader`. The slot that shows the one before does not
    /// mind.
    #[inline]
    pub fn next(&mut self, root: Root, reader: Reader) -> Option<Next> {
        let running = self.scan.as_mut().filter(|running| running.reader == Some(reader))?;
        if running.ahead.next() != Some(root) {
            return None;
        }
        let before = self.last.replace(root);
        let tuple = running.ahead.take()?;
        Some(Next { tuple, is_in_new_block: before.is_none_or(|before| before.block != root.block) })
    }

    /// Shows that row in `slot`, if it is one of those read ahead; whether it was.
    ///
    /// # Safety
    /// `slot` is a live slot of ours with the row type of `rel`, and shows something else before this is dropped.
    pub unsafe fn show(
        &mut self,
        rel: pg_sys::Relation,
        place: (TreeId, Root),
        (snapshot, status): (&Snapshot, &dyn TxnStatus),
        slot: *mut TupleTableSlot,
    ) -> bool {
        // SAFETY: the caller's promise. The slot may show a row that was read ahead, and others come in its place.
        unsafe {
            slot::clear(slot);
            let found = self.find(&link::process().store, place, snapshot, status).or_raise();
            if let Some(tuple) = found {
                slot::show(slot, (*rel).rd_id, tuple);
            }
            found.is_some()
        }
    }

    /// Starts over.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

fn begin(store: &RowStore, (tree, root): (TreeId, Root), snapshot: &Snapshot, direction: Direction) -> Result<RowScan> {
    let key = root.key();
    // The end of a range is not in it: the successor of a key is the key with a zero byte behind it.
    let after = [&key[..], &[0]].concat();
    let range = match direction {
        Direction::Forward => KeyRange { from: Some(&key), to: None },
        Direction::Backward => KeyRange { from: None, to: Some(&after) },
    };
    let mut scan = store.scan(tree, range, direction, snapshot.clone())?;
    scan.fill_cache();
    Ok(scan)
}
