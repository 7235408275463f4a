//! The value of an entry in a tree of rows: a header that says who wrote this version of the row, and the row's bytes.
//!
//! ```text
//! tag u8 | [number varint] | [transaction varint, command varint] | payload
//!
//! tag: bits 0-2  kind: 1 put, 2 tombstone, 3 moved, 4 speculative; 0 and 5 to 7 are never valid
//!      bit  3    a version number follows; otherwise it is 0
//!      bits 4-6  0
//!      bit  7    frozen: no transaction and no command follow
//! ```
//!
//! 1. A tombstone has no payload; the payload of a moved version is the row's new key, never empty.
//! 2. A stamp has a transaction id above 0. A speculative version is never frozen.
//! 3. A version is *frozen* when its writer has committed and every snapshot, now and later, sees it. Freezing changes
//!    nothing but the header, so `freeze` works on the bytes.
//! 4. Equal versions have equal bytes.

use crate::base::codec::{Reader, push_varint};
use crate::base::ids::{CommandId, TxnId};
use crate::format::Decoded;

const KIND_MASK: u8 = 0x07;
const HAS_NUMBER: u8 = 0x08;
const FROZEN: u8 = 0x80;

/// Longest header: tag, number, transaction and command.
const HEADER_LEN_MAX: usize = 1 + 3 + 10 + 5;

/// What a version says about its row. Tag 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// The row has this payload.
    Put = 1,
    /// The row is gone.
    Tombstone = 2,
    /// The row lives on under the key that is the payload.
    Moved = 3,
    /// As a put, but its writer may still take it back without ending: others wait for the decision.
    Speculative = 4,
}

impl RowKind {
    const fn from_tag(tag: u8) -> Option<Self> {
        match tag & KIND_MASK {
            1 => Some(Self::Put),
            2 => Some(Self::Tombstone),
            3 => Some(Self::Moved),
            4 => Some(Self::Speculative),
            _ => None,
        }
    }

    /// Whether the version carries the row itself.
    #[must_use]
    pub const fn is_row(self) -> bool {
        matches!(self, Self::Put | Self::Speculative)
    }
}

/// Who wrote a version, and with which of its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The transaction, or the savepoint's transaction inside it.
    pub txn: TxnId,
    /// The command.
    pub command: CommandId,
}

/// One version of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowVersion<'a> {
    /// What it says.
    pub kind: RowKind,
    /// The host's number for it among the versions of its row.
    pub number: u16,
    /// Its writer; `None` when it is frozen.
    pub stamp: Option<Stamp>,
    /// The row, or its new key.
    pub payload: &'a [u8],
}

/// Reads a version.
///
/// # Errors
/// What rule of the format the bytes break.
#[inline]
pub fn decode(bytes: &[u8]) -> Decoded<RowVersion<'_>> {
    if let Some(payload) = frozen_put(bytes) {
        return Ok(RowVersion { kind: RowKind::Put, number: 0, stamp: None, payload });
    }
    decode_any(bytes)
}

/// The payload, if that is all the version says: a frozen put with number 0, the most frequent one by far.
#[inline]
#[must_use]
pub fn frozen_put(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [tag, payload @ ..] if *tag == FROZEN | RowKind::Put as u8 => Some(payload),
        _ => None,
    }
}

fn decode_any(bytes: &[u8]) -> Decoded<RowVersion<'_>> {
    let mut reader = Reader::new(bytes);
    let tag = reader.u8().ok_or("row version is empty")?;
    let kind = RowKind::from_tag(tag).ok_or("row version has an unknown kind")?;
    if tag & !(KIND_MASK | HAS_NUMBER | FROZEN) != 0 {
        return Err("row version has unknown flags");
    }
    let number = if tag & HAS_NUMBER == 0 {
        0
    } else {
        let number = reader.varint().and_then(|n| u16::try_from(n).ok()).filter(|&n| n > 0);
        number.ok_or("row version has a bad number")?
    };
    let stamp = if tag & FROZEN == 0 { Some(read_stamp(&mut reader)?) } else { None };
    let payload = reader.rest();
    match kind {
        RowKind::Tombstone if !payload.is_empty() => Err("row tombstone has a payload"),
        RowKind::Moved if payload.is_empty() => Err("moved row has no new key"),
        RowKind::Speculative if stamp.is_none() => Err("speculative row version is frozen"),
        _ => Ok(RowVersion { kind, number, stamp, payload }),
    }
}

fn read_stamp(reader: &mut Reader<'_>) -> Decoded<Stamp> {
    let txn = reader.varint().filter(|&txn| txn > 0).ok_or("row version has a bad transaction id")?;
    let command = reader.varint32().ok_or("row version has a bad command id")?;
    Ok(Stamp { txn: TxnId(txn), command: CommandId(command) })
}

impl RowVersion<'_> {
    /// Appends the version's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER_LEN_MAX + self.payload.len());
        let mut tag = self.kind as u8;
        if self.number > 0 {
            tag |= HAS_NUMBER;
        }
        if self.stamp.is_none() {
            tag |= FROZEN;
        }
        out.push(tag);
        if self.number > 0 {
            push_varint(out, self.number.into());
        }
        if let Some(stamp) = self.stamp {
            push_varint(out, stamp.txn.0);
            push_varint(out, stamp.command.0.into());
        }
        out.extend_from_slice(self.payload);
    }

    /// The same version without its writer.
    #[must_use]
    pub const fn frozen(self) -> Self {
        Self { stamp: None, ..self }
    }
}

#[cfg(test)]
mod tests;
