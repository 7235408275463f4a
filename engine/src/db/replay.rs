//! Replay: applies the log to the memtables, and makes sure that the manifest it meets is not too old for it.
//!
//! A manifest whose last edits were damaged is not told from one whose last write a crash tore. For most edits that is harmless:
//! replay starts earlier. Two kinds say what the log does not, and the log witnesses them:
//!
//! 1. A tree is created before anything is written to it. So a record with a key of a tree that the manifest has not
//!    created yet proves that an edit is gone.
//! 2. A batch too large for a memtable is in files that an edit adds; the log has an empty record that takes its sequence
//!    numbers. The next record is appended after the edit. So such a record that another one follows proves that the edit
//!    was made, unless the next one is empty and takes no numbers: it says that the files did not come to be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{FileNumber, Lsn, SeqNo};
use crate::base::key::split_full_key;
use crate::error::{Error, Result};
use crate::format::batch::ops;
use crate::lsm::Lsm;
use crate::lsm::stats::Counter;
use crate::manifest::manifest_name;
use crate::mem::region::Part;
use crate::wal::{FileLog, LogPlace, LogShared, Record};

/// What replay knows while it goes on.
struct Replay<'l> {
    lsm: &'l Lsm,
    /// The largest sequence number seen.
    last: SeqNo,
    /// The largest one that the manifest vouches for.
    installed: SeqNo,
    /// A tree with this number or a larger one was not created.
    next_tree: u64,
    /// Where numbers were taken for files that the manifest does not have.
    unfinished: Option<Lsn>,
}

impl Replay<'_> {
    fn apply(&mut self, record: &Record<'_>) -> Result<(), String> {
        let given_up = record.count == 0 && record.payload.is_empty();
        if let Some(at) = self.unfinished.take().filter(|_| !given_up) {
            return Err(format!("it lacks the edit with the files of the batch at log position {at}"));
        }
        if record.count == 0 {
            return Ok(());
        }
        let end = record.first.plus(record.count - 1);
        self.last = self.last.max(end);
        if record.payload.is_empty() {
            self.unfinished = (end > self.installed).then_some(record.lsn);
            return Ok(());
        }
        let tree_of = |op: crate::format::batch::Op<'_>| split_full_key(op.key).map(|(tree, _)| tree);
        let newest = ops(record.payload).map_while(std::result::Result::ok).filter_map(tree_of).max();
        match newest.filter(|tree| tree.0 >= self.next_tree) {
            Some(tree) => {
                Err(format!("it lacks the creation of tree {}, which the log at {} writes to", tree.0, record.lsn))
            }
            None => Ok(()),
        }
    }
}

/// Applies the log from the durable position on and opens it for appending. Returns the next sequence number. `manifest` is
/// the one that was loaded, and where it ends.
pub(super) fn replay(
    lsm: &Lsm,
    place: LogPlace,
    log_part: Part<LogShared>,
    manifest: (FileNumber, u64),
) -> Result<SeqNo> {
    let version = Arc::clone(&lsm.local_view().version);
    let mut state = Replay {
        lsm,
        last: lsm.visible(),
        installed: version.last_seqno,
        next_tree: version.next_tree,
        unfinished: None,
    };
    let mut apply = |record: &Record<'_>| {
        state
            .apply(record)
            .map_err(|why| Error::corruption(&lsm.dir.join(manifest_name(manifest.0)), manifest.1, why))?;
        if record.count == 0 || record.payload.is_empty() {
            return Ok(());
        }
        lsm.set_replay_position(record.lsn);
        lsm.control().visible.fetch_max(state.last.0, Ordering::SeqCst);
        lsm.stats().add(Counter::RecordsReplayed, 1);
        state.lsm.replay(record.payload, record.first)
    };
    let durable = lsm.replay_position();
    let recovered = FileLog::recover(&place, durable, &mut apply)?;
    if recovered.records > 0 {
        tracing::info!(
            records = recovered.records, from = %durable, to = %recovered.end, ending = ?recovered.ending,
            "the engine was not closed after its last write; replayed the log"
        );
    }
    let next = state.last.plus(1);
    let log = FileLog::open(place, &lsm.region, log_part, &recovered, next)?;
    assert!(lsm.log.set(Arc::new(log)).is_ok(), "the log is attached once");
    if state.unfinished.is_some() {
        lsm.give_up_large()?;
    }
    Ok(next)
}
