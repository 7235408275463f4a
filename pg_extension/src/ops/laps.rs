//! Version numbers of a row that is updated again and again: 1 to 510 in turn, lap after lap.
//!
//! A number may name one version only, of those that somebody may still see or have seen. So numbers are two halves, and a half is
//! entered when nobody can see a version any more that has a number of this half from the lap before; that is looked up twice in a lap.
//! Where somebody can, the row moves to a place of its own instead.

use std::ops::ControlFlow;

use ssd_engine::Result;
use ssd_engine::base::ids::{TreeId, TxnId};
use ssd_engine::lsm::Lsm;
use ssd_engine::mvcc::status::TxnStatus;

use super::read::{is_live, is_settled, walk};
use super::tid::{NUMBER_MAX, Tid};

/// The last number of the lower half, which also has 0.
const LOWER_MAX: u16 = NUMBER_MAX / 2;

/// The number after `number`.
#[must_use]
pub const fn next(number: u16) -> u16 {
    if number >= NUMBER_MAX { 1 } else { number + 1 }
}

const fn is_lower(number: u16) -> bool {
    number <= LOWER_MAX
}

/// Whether the version after the one at `tid` may have the next number. `seen_by_all` is asked about writers that have committed.
///
/// # Errors
/// I/O, corruption.
pub fn may_go_on(
    lsm: &Lsm,
    tree: TreeId,
    tid: Tid,
    status: &dyn TxnStatus,
    seen_by_all: &dyn Fn(TxnId) -> bool,
) -> Result<bool> {
    let next = next(tid.number);
    if is_lower(next) == is_lower(tid.number) {
        return Ok(true);
    }
    let mut is_free = true;
    walk(lsm, &tid.root.full_key(tree), &mut |version| {
        if !is_live(version, status)? {
            return Ok(ControlFlow::Continue(()));
        }
        if version.kind.is_row() && is_lower(version.number) == is_lower(next) {
            is_free = false;
            return Ok(ControlFlow::Break(()));
        }
        // What is older than this is nobody's any more.
        let is_settled = is_settled(version, status, seen_by_all)?;
        Ok(if is_settled { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(is_free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round_and_leave_out_the_root() {
        let mut number = 0;
        let mut lap = Vec::new();
        for _ in 0..2 * NUMBER_MAX {
            number = next(number);
            lap.push(number);
        }
        let once: Vec<u16> = (1..=NUMBER_MAX).collect();
        assert_eq!(lap, [once.clone(), once].concat());
        assert!(is_lower(0) && is_lower(LOWER_MAX) && !is_lower(LOWER_MAX + 1));
    }
}
