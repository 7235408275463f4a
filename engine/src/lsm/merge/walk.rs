//! The loops of [`Merge::walk_top`](super::Merge::walk_top), one for each kind of source.

use std::cmp::Ordering;

use super::ReadContext;
use crate::base::key::{Trailer, compare};
use crate::error::Result;
use crate::lsm::memtable::Memtable;
use crate::lsm::scan::Follows;
use crate::mem::skiplist::Iter;
use crate::sst::iter::SstIter;

/// What whoever walks over entries wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The next entry.
    Next,
    /// The next key: older versions of this one may be left out.
    NextKey {
        /// Entries of this key that were shown since that is so.
        passed: u32,
    },
    /// Nothing: not even this entry.
    Stop,
}

/// Versions in a table that are stepped over, before a seek behind them is as cheap.
const SKIPS_MAX: u32 = 8;

/// The place before which a walk ends.
pub(super) type Limit<'l> = Option<(&'l [u8], Trailer)>;

/// What ended a walk.
pub(super) enum End {
    /// Whoever reads.
    Stopped,
    /// Entries of other sources may come next, or none.
    Passed,
    /// As before, and the other sources are behind this key and trailer.
    Alone(Vec<u8>, Trailer),
}

/// Whether an entry comes before `limit`.
#[inline]
fn is_before(key: &[u8], trailer: Trailer, limit: Limit<'_>) -> bool {
    limit.is_none_or(|limit| compare((key, trailer), limit) == Ordering::Less)
}

/// The loop of [`Merge::walk_top`] over the active memtable, which walks alone where it may.
pub(super) fn walk_newest(
    iter: &mut Iter<'_>,
    (mut limit, to): (Limit<'_>, Option<&[u8]>),
    is_alone: &mut bool,
    follows: Follows,
    mut take: impl FnMut(&[u8], Trailer, &[u8]) -> Wish,
) -> End {
    loop {
        let (key, trailer, has_older) = (iter.key(), iter.trailer(), iter.has_older());
        let wish = take(key, trailer, iter.value());
        match wish {
            Wish::Next => iter.next(),
            Wish::NextKey { .. } => iter.pass_versions(),
            Wish::Stop => return End::Stopped,
        }
        let ended = !iter.valid() || Memtable::is_range_key(iter.key()) || to.is_some_and(|to| iter.key() >= to);
        if *is_alone {
            let goes_on = !ended
                && match wish {
                    // All that is older here is newer than what others have.
                    Wish::Next => iter.key() == key,
                    _ => iter.key() == key || follows(key, iter.key()),
                };
            if !goes_on {
                let bound = if wish == Wish::Next { Trailer(trailer.0.saturating_sub(1)) } else { Trailer(0) };
                return End::Alone(key.to_vec(), bound);
            }
            continue;
        }
        if ended {
            return End::Passed;
        }
        // Rows with one version here are not hot: to come back to the other sources would cost more than they do.
        if wish != Wish::Next && has_older && iter.has_older() && follows(key, iter.key()) {
            *is_alone = true;
            limit = to.map(|to| (to, Trailer::MAX));
        } else if !is_before(iter.key(), iter.trailer(), limit) {
            return End::Passed;
        }
    }
}

/// The loop of [`Merge::walk_top`] over another memtable.
pub(super) fn walk_memtable(
    iter: &mut Iter<'_>,
    limit: Limit<'_>,
    mut take: impl FnMut(&[u8], Trailer, &[u8]) -> Wish,
) -> End {
    loop {
        match take(iter.key(), iter.trailer(), iter.value()) {
            Wish::Next => iter.next(),
            Wish::NextKey { .. } => iter.pass_versions(),
            Wish::Stop => return End::Stopped,
        }
        let ended = !iter.valid() || Memtable::is_range_key(iter.key());
        if ended || !is_before(iter.key(), iter.trailer(), limit) {
            return End::Passed;
        }
    }
}

/// The loop of [`Merge::walk_top`] over a table.
pub(super) fn walk_table<'c>(
    iter: &mut SstIter<'c>,
    context: ReadContext<'c>,
    limit: Limit<'_>,
    mut take: impl FnMut(&[u8], Trailer, &[u8]) -> Wish,
) -> Result<End> {
    // Whether no entry of the block can be at the limit. Not asked of the first block: a walk is often short.
    let mut is_clear = limit.is_none();
    loop {
        match take(iter.key(), iter.trailer(), iter.value()) {
            Wish::NextKey { passed: SKIPS_MAX.. } => {
                pass_key(iter, context)?;
                is_clear = limit.is_none();
            }
            Wish::Next | Wish::NextKey { .. } => {
                if !iter.next_in_block()? {
                    iter.next_block(context.cache)?;
                    is_clear = match limit {
                        Some((key, trailer)) if iter.valid() => iter.block_is_before(context.cache, key, trailer)?,
                        _ => limit.is_none(),
                    };
                }
            }
            Wish::Stop => return Ok(End::Stopped),
        }
        if !iter.valid() || !(is_clear || is_before(iter.key(), iter.trailer(), limit)) {
            return Ok(End::Passed);
        }
    }
}

/// Goes behind all versions of the key of the current entry.
#[cold]
fn pass_key<'c>(iter: &mut SstIter<'c>, context: ReadContext<'c>) -> Result<()> {
    let key = iter.key().to_vec();
    // Trailer 0 is below all versions of the key.
    iter.seek(context.cache, &key, Trailer(0))
}
