//! The eight modes of table locks, and which of them exclude each other: Postgres's.
//!
//! | | AS | RS | RX | SUX | S | SRX | X | AX |
//! |---|---|---|---|---|---|---|---|---|
//! | access share | | | | | | | | x |
//! | row share | | | | | | | x | x |
//! | row exclusive | | | | | x | x | x | x |
//! | share update exclusive | | | | x | x | x | x | x |
//! | share | | | x | x | | x | x | x |
//! | share row exclusive | | | x | x | x | x | x | x |
//! | exclusive | | x | x | x | x | x | x | x |
//! | access exclusive | x | x | x | x | x | x | x | x |

use std::fmt;

/// How strong a lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LockMode {
    /// Readers of the table.
    AccessShare = 0,
    /// Those who lock rows.
    RowShare = 1,
    /// Those who write rows.
    RowExclusive = 2,
    /// Maintenance that runs beside writers, one at a time.
    ShareUpdateExclusive = 3,
    /// No writers.
    Share = 4,
    /// No writers, and one at a time.
    ShareRowExclusive = 5,
    /// Readers only.
    Exclusive = 6,
    /// Nobody else.
    AccessExclusive = 7,
}

/// A set of modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Modes(pub u8);

impl LockMode {
    /// All modes, from the weakest.
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];

    /// The mode alone as a set.
    #[must_use]
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The modes that exclude this one.
    #[must_use]
    pub const fn conflicts(self) -> Modes {
        const AX: u8 = LockMode::AccessExclusive.bit();
        const X: u8 = AX | LockMode::Exclusive.bit();
        const SRX: u8 = X | LockMode::ShareRowExclusive.bit();
        const S: u8 = LockMode::Share.bit();
        const RX: u8 = LockMode::RowExclusive.bit();
        const SUX: u8 = LockMode::ShareUpdateExclusive.bit();
        Modes(match self {
            Self::AccessShare => AX,
            Self::RowShare => X,
            Self::RowExclusive => SRX | S,
            Self::ShareUpdateExclusive => SRX | S | SUX,
            Self::Share => SRX | SUX | RX,
            Self::ShareRowExclusive => SRX | S | SUX | RX,
            Self::Exclusive => SRX | S | SUX | RX | Self::RowShare.bit(),
            Self::AccessExclusive => 0xFF,
        })
    }

    /// As it is called in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessShare => "access share",
            Self::RowShare => "row share",
            Self::RowExclusive => "row exclusive",
            Self::ShareUpdateExclusive => "share update exclusive",
            Self::Share => "share",
            Self::ShareRowExclusive => "share row exclusive",
            Self::Exclusive => "exclusive",
            Self::AccessExclusive => "access exclusive",
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Modes {
    /// Whether no mode is in both.
    #[must_use]
    pub const fn excludes(self, other: Self) -> bool {
        self.0 & other.0 == 0
    }

    /// Whether `mode` is in it.
    #[must_use]
    pub const fn has(self, mode: LockMode) -> bool {
        self.0 & mode.bit() != 0
    }

    /// Adds `mode`.
    pub const fn add(&mut self, mode: LockMode) {
        self.0 |= mode.bit();
    }

    /// The modes in it, from the weakest.
    pub fn iter(self) -> impl Iterator<Item = LockMode> {
        LockMode::ALL.into_iter().filter(move |&mode| self.has(mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conflict_table() {
        const TABLE: [&str; 8] =
            [".......x", "......xx", "....xxxx", "...xxxxx", "..xx.xxx", "..xxxxxx", ".xxxxxxx", "xxxxxxxx"];
        for (mode, row) in LockMode::ALL.into_iter().zip(TABLE) {
            for (other, cell) in LockMode::ALL.into_iter().zip(row.bytes()) {
                assert_eq!(mode.conflicts().has(other), cell == b'x', "{mode} and {other}");
                assert_eq!(mode.conflicts().has(other), other.conflicts().has(mode), "{mode} and {other}, both ways");
            }
        }
    }
}
