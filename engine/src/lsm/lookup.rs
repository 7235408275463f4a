//! Point lookup: the newest version of a key that a sequence number may see.
//!
//! Sources are asked from newest to oldest: memtables, L0 files, then one file of each deeper level. All sequence numbers
//! of a key in one source are larger than those in the next, so the first entry found decides, unless a range tombstone
//! newer than it covers the key.

use crate::base::checksum::key_hash;
use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer};
use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::lsm::Lsm;
use crate::lsm::control::MemtableList;
use crate::lsm::view::View;

impl Lsm {
    /// Appends the value of `key` as of `seqno` (now when `None`) to `value`; whether there is one.
    ///
    /// # Errors
    /// I/O, corruption, closed.
    pub fn get(&self, key: &[u8], seqno: Option<SeqNo>, value: &mut Vec<u8>) -> Result<bool> {
        let _pin = self.pin_reader();
        // The order matters twice: a flush installs its version before it drops the memtable, and garbage collection keeps
        // only what the sequence numbers visible *before* it may see, so "now" is read after the sources.
        let memtables = self.memtable_list();
        let view = self.view()?;
        let seqno = seqno.unwrap_or_else(|| self.visible());
        self.get_pinned(memtables, &view, key, seqno, value)
    }

    /// As [`get`](Self::get), for a caller that is pinned and has read the memtables before the view.
    pub(crate) fn get_pinned(
        &self,
        memtables: MemtableList,
        view: &View,
        key: &[u8],
        seqno: SeqNo,
        value: &mut Vec<u8>,
    ) -> Result<bool> {
        let start = value.len();
        let Some(found) = self.newest_version(memtables, view, key, Trailer::seek(seqno), value)? else {
            return Ok(false);
        };
        let visible = found.kind() == Some(Kind::Put)
            && self.covering_range_delete(memtables, view, key, seqno)?.is_none_or(|cover| cover < found.seqno());
        if !visible {
            value.truncate(start);
        }
        Ok(visible)
    }

    /// Trailer of the newest version within `bound`; its value is appended to `value` when it is a put.
    fn newest_version(
        &self,
        memtables: MemtableList,
        view: &View,
        key: &[u8],
        bound: Trailer,
        value: &mut Vec<u8>,
    ) -> Result<Option<Trailer>> {
        let hash = key_hash(key);
        for index in memtables.indices() {
            if let Some(entry) = self.memtables.get(index).get(key, hash, bound) {
                if entry.trailer.kind() == Some(Kind::Put) {
                    value.extend_from_slice(entry.value);
                }
                return Ok(Some(entry.trailer));
            }
        }
        for file in &view.levels[0] {
            if file.meta.covers(key) {
                let reader = file.reader(&self.opener)?;
                if let Some(trailer) = reader.get(&self.cache, key, hash, bound, value)? {
                    return Ok(Some(trailer));
                }
            }
        }
        for level in 1..LEVEL_COUNT {
            let Some(file) = view.file_for(level, key) else { continue };
            let reader = file.reader(&self.opener)?;
            if let Some(trailer) = reader.get(&self.cache, key, hash, bound, value)? {
                return Ok(Some(trailer));
            }
        }
        Ok(None)
    }

    /// Sequence number of the newest range tombstone within `seqno` that covers `key`.
    pub(crate) fn covering_range_delete(
        &self,
        memtables: MemtableList,
        view: &View,
        key: &[u8],
        seqno: SeqNo,
    ) -> Result<Option<SeqNo>> {
        let mut newest = None;
        for index in memtables.indices() {
            if let Some(tombstones) = self.memtables.get(index).range_tombstones() {
                newest = newest.max(tombstones.covering_seqno(key, seqno));
            }
        }
        for file in view.range_delete_files.iter().filter(|f| f.meta.covers(key)) {
            let reader = file.reader(&self.opener)?;
            newest = newest.max(reader.range_tombstones().covering_seqno(key, seqno));
        }
        Ok(newest)
    }
}
