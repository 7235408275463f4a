//! Which versions of a key a scan returns.

use super::RangeDeletes;
use crate::base::ids::SeqNo;
use crate::base::key::{Kind, Trailer};
use crate::error::Result;

/// What a scan makes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is a row, and the key is done.
    Row,
    /// The key has no row.
    Nothing,
    /// The next older version decides.
    Older,
    /// It is a row, and older versions may be rows, too.
    RowAndOlder,
}

/// See [`Chooser::FOLLOWS`].
pub type Follows = fn(&[u8], &[u8]) -> bool;

/// Says which versions of a key a scan returns.
pub trait Chooser {
    /// Whether it keeps a copy of each row that it chooses, so that the scan makes none.
    const KEEPS: bool = false;
    /// Says whether no key can lie between two full keys, of which the first may also be where a range of keys begins. A walk over hot
    /// rows is far cheaper where that is known.
    const FOLLOWS: Option<Follows> = None;

    /// Judges the next version of `key`, from the newest on; `first` of its key. Nothing that was deleted is asked about.
    ///
    /// # Errors
    /// Ends the scan.
    fn choose(&mut self, first: bool, key: &[u8], value: &[u8]) -> Result<Choice>;

    /// Whether it may ever answer that older versions matter.
    fn wants_older(&self) -> bool {
        true
    }
}

/// Chooses the newest version.
pub(super) struct Newest;

impl Chooser for Newest {
    fn choose(&mut self, _first: bool, _key: &[u8], _value: &[u8]) -> Result<Choice> {
        Ok(Choice::Row)
    }

    fn wants_older(&self) -> bool {
        false
    }
}

/// What an entry is before anybody looks at its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It deletes its key, or is deleted with a range: nothing older counts.
    Deleted,
    /// A value.
    Value,
}

#[inline]
pub(super) fn entry_of(range_deletes: &[RangeDeletes], seqno: SeqNo, key: &[u8], trailer: Trailer) -> Entry {
    let covered = !range_deletes.is_empty() && is_covered(range_deletes, seqno, key, trailer);
    if covered || trailer.kind() != Some(Kind::Put) { Entry::Deleted } else { Entry::Value }
}

#[cold]
fn is_covered(range_deletes: &[RangeDeletes], seqno: SeqNo, key: &[u8], trailer: Trailer) -> bool {
    let newer_than = |cover: SeqNo| cover > trailer.seqno();
    range_deletes.iter().any(|t| t.tombstones().covering_seqno(key, seqno).is_some_and(newer_than))
}
