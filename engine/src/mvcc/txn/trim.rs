//! Forgets commit records that nobody can ask for, so that the status tree does not grow for ever.
//!
//! ```text
//!            mark                      every memtable is younger           every reader is younger
//!   IDLE ──────────► MARKED (oldest, position) ─────────► BOUND (id, serial) ───────────► IDLE, records below gone
//! ```
//! A record of id X may go when no version that names X can be met any more. Why the bound is one:
//!
//! 1. *Memtables.* At the mark, `oldest` is the oldest id that runs, read before the log's position. Whatever is logged from
//!    that position on is written by somebody who runs after the mark, so by an id of at least `oldest`. Once each memtable
//!    became active at or after that position, none has a version of an older id.
//! 2. *Files.* A file's `min_txn` is the smallest id that a version in it names. The memtables are read before the version
//!    of the engine, and a flush installs its file before it drops its memtable, so nothing slips between the two.
//!    Aborted versions count as any other until a flush or compaction has dropped them.
//! 3. *Later files.* They are made of memtables and files of now (or of versions written from now on), and freezing or
//!    dropping versions adds no id.
//! 4. *Readers.* Somebody may hold a copy of a block that is gone from the files. Whoever reads is a transaction, or has a
//!    snapshot; so the records go only when all that were there when the bound was found have ended. Jobs of the engine ask
//!    for versions of their own inputs, which are files and memtables as in 1 and 2.
//! 5. *The horizon.* The bound is not above the oldest id that a snapshot in use does not count.
//!
//! So below the bound no id is asked for. It would be called aborted. Whoever writes ids elsewhere than in versions of rows
//! must not ask for them once they have ended.

use crate::base::ids::{Lsn, TxnId};
use crate::error::Result;
use crate::mvcc::txn::TxnManager;

/// How far the next trim has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Marked {
        oldest: TxnId,
        position: Lsn,
    },
    Bound {
        id: TxnId,
        serial: u64,
    },
}

/// The state of trimming.
#[derive(Debug, Default)]
pub(super) struct Trim {
    stage: Stage,
    /// Records below are gone.
    trimmed: TxnId,
}

impl TxnManager {
    /// Takes the next step of forgetting old commit records, when there is one; whether records were removed. To be called
    /// now and then; it costs a look at the list of files.
    ///
    /// # Errors
    /// I/O, corruption, closed: nothing is lost, and it may be called again.
    pub fn trim_status(&self) -> Result<bool> {
        let Some(mut trim) = self.trim.try_lock() else { return Ok(false) };
        if trim.stage == Stage::Idle {
            let oldest = self.running.oldest();
            trim.stage = Stage::Marked { oldest, position: self.store.log_position() };
        }
        if let Stage::Marked { oldest, position } = trim.stage
            && let Some(in_engine) = self.oldest_id_since(position)?
        {
            let id = oldest.min(in_engine).min(self.horizon().oldest);
            // Not a range tombstone for a few records.
            let is_worth_it = id.0 >= trim.trimmed.0 + self.options.id_step;
            trim.stage = if is_worth_it { Stage::Bound { id, serial: self.running.mark() } } else { Stage::Idle };
        }
        let Stage::Bound { id, serial } = trim.stage else { return Ok(false) };
        if !self.running.all_readers_after(serial) {
            return Ok(false);
        }
        self.store.forget_below(id)?;
        trim.trimmed = id;
        trim.stage = Stage::Idle;
        Ok(true)
    }

    /// The smallest id in a file, once every memtable became active at or after `position`.
    fn oldest_id_since(&self, position: Lsn) -> Result<Option<TxnId>> {
        let lsm = self.store.lsm();
        let list = lsm.memtable_list();
        if list.indices().any(|index| lsm.memtables.get(index).start() < position) {
            return Ok(None);
        }
        let view = lsm.view_full()?;
        let ids = view.files().map(|(_, file)| file.meta.min_txn).filter(|&id| id > 0);
        Ok(Some(TxnId(ids.min().unwrap_or(u64::MAX))))
    }
}
