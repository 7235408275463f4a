//! Walks the versions of one key, from the newest to the oldest, across all sources.
//!
//! A point lookup stops at the first version; readers that judge versions by transactions look further.

use std::ops::ControlFlow;

use crate::base::checksum::key_hash;
use crate::base::ids::TxnId;
use crate::base::key::{Kind, Trailer};
use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::lsm::Lsm;
use crate::lsm::view::FileEntry;

/// Takes the next older value of a key; says whether to go on.
pub type Visit<'v> = &'v mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>;

/// What is known before a key's versions are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Only versions whose writers are not older than this are wanted: files in which every writer is are passed over.
    pub newer_than: Option<TxnId>,
    /// There is a version, so where none has been found the last file that may have one needs no filter.
    pub is_there: bool,
}

impl Lsm {
    /// Calls `visit` with the values of `key`, newest first, until it breaks or nothing is left. Deleted values are left
    /// out, and so is everything older. `scratch` is overwritten.
    ///
    /// # Errors
    /// I/O, corruption; what `visit` returned.
    pub fn visit_versions(
        &self,
        key: &[u8],
        expected: Expected,
        scratch: &mut Vec<u8>,
        visit: Visit<'_>,
    ) -> Result<()> {
        let _pin = self.pin_reader();
        let memtables = self.memtable_list();
        let view = self.view()?;
        let now = self.visible();
        // Only a version that is not deleted is shown; what is newer than every range tombstone mostly decides.
        let cover = self.covering_range_delete(memtables, &view, key, now)?;
        let mut is_found = false;
        let mut show = |trailer: Trailer, value: &[u8]| {
            if trailer.kind() != Some(Kind::Put) || cover.is_some_and(|cover| cover > trailer.seqno()) {
                return Ok(ControlFlow::Break(()));
            }
            visit(value)
        };
        let hash = key_hash(key);
        for index in memtables.indices() {
            for entry in self.memtables.get(index).versions(key, hash, Trailer::seek(now)) {
                is_found = true;
                if show(entry.trailer, entry.value)?.is_break() {
                    return Ok(());
                }
            }
        }
        let old = |file: &FileEntry| expected.newer_than.is_some_and(|txn| file.meta.max_txn < txn.0);
        let in_l0 = view.levels[0].iter().filter(|file| file.meta.covers(key));
        let deeper = (1..LEVEL_COUNT).filter_map(|level| view.file_for(level, key));
        let mut files = in_l0.chain(deeper).filter(|file| !old(file)).peekable();
        while let Some(file) = files.next() {
            let reader = file.reader(&self.opener)?;
            let is_expected = expected.is_there && !is_found && files.peek().is_none();
            let mut bound = Trailer::seek(now);
            loop {
                scratch.clear();
                let trailer = if is_expected {
                    reader.get_expected(&self.cache, key, hash, bound, scratch)?
                } else {
                    reader.get(&self.cache, key, hash, bound, scratch)?
                };
                let Some(trailer) = trailer else { break };
                is_found = true;
                if show(trailer, scratch)?.is_break() {
                    return Ok(());
                }
                // Sequence number 0 is the oldest there is.
                if trailer.seqno().0 == 0 {
                    break;
                }
                bound = Trailer(trailer.0 - 1);
            }
        }
        Ok(())
    }
}
