//! The word of a frame as a value: its pins, its use count, its state, and every legal change of them.
//!
//! ```text
//! bit 63   61   60   59                    30 29                     0
//!    [ state ][ 0 ][ released  (30 bits)     ][ acquired  (30 bits)   ]
//! ```
//!
//! 1. Visible and invisible: `acquired - released` is the number of pins. While there are none both counters are equal, and
//!    their value is the use count: every use raises it by one, the load being the first, and the clock counts it down
//!    to one.
//! 2. Loading: the released field is the process id of the owner, the acquired field is noise (see 3).
//! 3. Pinning adds to `acquired` before it knows the state. In the states empty and loading the addition means nothing and
//!    is not undone: the next change of state overwrites it.

use crate::mem::process::PID_BITS;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nothing.
    Empty = 0,
    /// Owned by one thread that is taking the old content out or the new content in.
    Loading = 1,
    /// A block that may be found and pinned.
    Visible = 2,
    /// A block that may no longer be pinned anew; those that pinned it before still read it.
    Invisible = 3,
}

const COUNTER_BITS: u32 = 30;
const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;
const STATE_SHIFT: u32 = 61;
const _: () = assert!(PID_BITS <= COUNTER_BITS);
const _: () = assert!(State::Visible as u8 | State::Invisible as u8 == State::Invisible as u8);
const COUNTERS_TOP: u64 = (ACQUIRE_ONE | RELEASE_ONE) << (COUNTER_BITS - 1);

/// Added by a pin.
pub(super) const ACQUIRE_ONE: u64 = 1;
/// Added by an unpin that takes a pin back: one less, as additions wrap.
pub(super) const ACQUIRE_LESS: u64 = ACQUIRE_ONE.wrapping_neg();
/// Added by an unpin that counts as a use.
pub(super) const RELEASE_ONE: u64 = 1 << COUNTER_BITS;

/// One value of a frame's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// The word of a frame without content.
    pub(super) const EMPTY: Self = Self(0);

    /// Bits that make a visible word invisible, with the same pins and use count.
    pub(super) const HIDE: u64 = (State::Invisible as u64) << STATE_SHIFT;

    const fn build(state: State, acquired: u64, released: u64) -> Self {
        Self((state as u64) << STATE_SHIFT | released << COUNTER_BITS | acquired)
    }

    /// Owned by a thread of process `owner`.
    pub(super) const fn loading(owner: u32) -> Self {
        Self::build(State::Loading, 0, owner as u64 & COUNTER_MASK)
    }

    /// Visible with one pin, whose release leaves a use count of `uses` (at least one).
    pub(super) fn published(uses: u32) -> Self {
        let uses = u64::from(uses.max(1));
        Self::build(State::Visible, uses, uses - 1)
    }

    pub(super) const fn state(self) -> State {
        match self.0 >> STATE_SHIFT & 3 {
            0 => State::Empty,
            1 => State::Loading,
            2 => State::Visible,
            _ => State::Invisible,
        }
    }

    const fn acquired(self) -> u64 {
        self.0 & COUNTER_MASK
    }

    const fn released(self) -> u64 {
        self.0 >> COUNTER_BITS & COUNTER_MASK
    }

    /// The process that owns a loading frame.
    pub(super) const fn owner(self) -> u32 {
        self.released() as u32
    }

    /// Whether a thread may take the frame for itself: there is no owner and no pin.
    pub(super) fn is_claimable(self) -> bool {
        match self.state() {
            State::Empty => true,
            State::Loading => false,
            State::Visible | State::Invisible => self.acquired() == self.released(),
        }
    }

    /// Whether a claimable frame holds a block that was used since the clock last counted it down to one.
    pub(super) fn is_in_use(self) -> bool {
        self.state() == State::Visible && self.acquired() > 1
    }

    /// A visible word without pins, its use count cut to `cap` and lowered by one.
    pub(super) fn aged(self, cap: u32) -> Self {
        let uses = self.acquired().min(u64::from(cap)).saturating_sub(1).max(1);
        Self::build(State::Visible, uses, uses)
    }

    /// The same pins with both counters halfway back, when both have reached the upper half of their range. Since
    /// `acquired` is never behind, `released` being there means that both are.
    pub(super) fn rebased(self) -> Option<Self> {
        (self.0 & COUNTERS_TOP == COUNTERS_TOP).then_some(Self(self.0 & !COUNTERS_TOP))
    }
}
