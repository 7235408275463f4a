//! What a record of the log says for logical decoding, beside its batch: what was done to the rows of which relation.
//!
//! ```text
//! action u8 | tablespace u32 | database u32 | file number u32 | length u32 | old row
//! ```
//! Integers are little-endian. New rows are not repeated: they are the batch's own. The old row has what the relation's replica
//! identity keeps of it, in the form of all rows ([`tuple`](crate::ops::tuple)); it is empty when nothing is kept.

use pgrx::pg_sys::RelFileNode;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// Rows were inserted, the last of a statement's among them.
    Insert = 1,
    /// Rows were inserted, and more will follow whose wide values are in the log already.
    InsertMore = 2,
    /// A row was updated.
    Update = 3,
    /// A row was deleted.
    Delete = 4,
    /// A row was inserted that may be taken back.
    SpeculativeInsert = 5,
    /// It stays.
    SpeculativeConfirm = 6,
    /// It was taken back.
    SpeculativeAbort = 7,
}

impl Action {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Insert,
            2 => Self::InsertMore,
            3 => Self::Update,
            4 => Self::Delete,
            5 => Self::SpeculativeInsert,
            6 => Self::SpeculativeConfirm,
            7 => Self::SpeculativeAbort,
            _ => return None,
        })
    }
}

/// The note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'n> {
    /// What was done.
    pub action: Action,
    /// Tablespace, database and file number of the relation.
    pub node: [u32; 3],
    /// What is kept of the old row.
    pub old: &'n [u8],
}

/// The numbers that name a relation's files.
#[must_use]
pub fn numbers_of(node: &RelFileNode) -> [u32; 3] {
    [node.spcNode, node.dbNode, node.relNode].map(u32::from)
}

impl<'n> Note<'n> {
    /// Writes it to `out`, in place of what was there.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(self.action as u8);
        for number in self.node {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.old.len() as u32).to_le_bytes());
        out.extend_from_slice(self.old);
    }

    /// The note at the start of `bytes`, and what follows it; `None` for bytes that [`Note::encode`] does not write.
    #[must_use]
    pub fn decode(bytes: &'n [u8]) -> Option<(Self, &'n [u8])> {
        let (&action, mut rest) = bytes.split_first()?;
        let mut word = || {
            let (word, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            Some(u32::from_le_bytes(*word))
        };
        let node = [word()?, word()?, word()?];
        let len = word()?;
        let (old, rest) = rest.split_at_checked(len as usize)?;
        Some((Self { action: Action::from_byte(action)?, node, old }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_written() {
        for (action, old) in [(Action::Insert, &b""[..]), (Action::Update, b"\x01\x00old"), (Action::Delete, b"x")] {
            let note = Note { action, node: [1663, 5, 16_384], old };
            let mut bytes = Vec::new();
            note.encode(&mut bytes);
            let len = bytes.len();
            bytes.extend_from_slice(b"batch");
            assert_eq!(Note::decode(&bytes), Some((note, &b"batch"[..])));
            for cut in 0..len {
                assert_eq!(Note::decode(&bytes[..cut]), None, "{cut}");
            }
        }
        assert_eq!(Note::decode(&[0; 17]), None);
        assert_eq!(Note::decode(&[8; 17]), None);
    }
}
