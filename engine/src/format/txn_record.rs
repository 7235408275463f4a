//! What is written down of transactions: keys and values of the status tree, values of the prepared tree.
//!
//! ```text
//! status tree     id u64 big-endian ─► 1                a transaction, or a savepoint's part of one, that has committed
//!                 0xFF              ─► next id varint   no id from here on was ever handed out
//! prepared tree   gid               ─► flags u8 | id varint | parts | locks | reads | row locks | payload
//!
//! parts      count varint, then each savepoint's id as a varint: its distance from the one before, from `id` at first
//! locks      count varint, then object varint and modes u8 each; objects rise
//! reads      count varint, then tree varint each; trees rise
//! row locks, payload   length varint and bytes
//! flags      bit 0  serializable; bit 1  it has written; the others are 0
//! ```
//!
//! 1. An id is from 1 to [`TXN_ID_MAX`], so its key is below the key of the next id.
//! 2. A transaction's parts have ids above its own, rising.
//! 3. Equal records have equal bytes.

use crate::base::codec::{Reader, push_prefixed, push_varint};
use crate::base::ids::{TreeId, TxnId};
use crate::format::Decoded;

/// Largest id: its two upper bits are free for a state beside it in one word. At a million a second it lasts 146,000 years.
pub const TXN_ID_MAX: u64 = (1 << 62) - 1;

/// Key, in the status tree, of the number from which on no id was ever handed out.
pub const NEXT_ID_KEY: &[u8] = &[0xFF];

/// Value of a committed id. Tag 0 is reserved.
pub const COMMITTED: &[u8] = &[1];

const SERIALIZABLE: u8 = 1;
const WROTE: u8 = 2;

/// Key of `id` in the status tree.
#[must_use]
pub const fn status_key(id: TxnId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// The value of [`NEXT_ID_KEY`].
#[must_use]
pub fn encode_next_id(next: TxnId) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, next.0);
    out
}

/// Reads the value of [`NEXT_ID_KEY`].
///
/// # Errors
/// The bytes are no id.
pub fn decode_next_id(bytes: &[u8]) -> Decoded<TxnId> {
    let mut reader = Reader::new(bytes);
    let next = reader.varint().filter(|&id| is_id(id) && reader.is_empty());
    next.map(TxnId).ok_or("the next transaction id is malformed")
}

const fn is_id(id: u64) -> bool {
    id > 0 && id <= TXN_ID_MAX
}

/// A transaction that waits for the second phase of its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedRecord {
    /// It is serializable.
    pub serializable: bool,
    /// It has written rows.
    pub wrote: bool,
    /// Its id.
    pub id: TxnId,
    /// The ids of its savepoints, ascending.
    pub parts: Vec<TxnId>,
    /// Its table locks: object and a bit for each mode, by object.
    pub locks: Vec<(u64, u8)>,
    /// What it has read, when it is serializable: trees, ascending.
    pub reads: Vec<TreeId>,
    /// Its row locks, in the form of whoever keeps them.
    pub row_locks: Vec<u8>,
    /// What the host wants to know of it.
    pub payload: Vec<u8>,
}

impl PreparedRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(if self.serializable { SERIALIZABLE } else { 0 } | if self.wrote { WROTE } else { 0 });
        push_varint(&mut out, self.id.0);
        push_varint(&mut out, self.parts.len() as u64);
        let mut last = self.id.0;
        for part in &self.parts {
            push_varint(&mut out, part.0 - last);
            last = part.0;
        }
        push_varint(&mut out, self.locks.len() as u64);
        for &(object, modes) in &self.locks {
            push_varint(&mut out, object);
            out.push(modes);
        }
        push_varint(&mut out, self.reads.len() as u64);
        for tree in &self.reads {
            push_varint(&mut out, tree.0);
        }
        push_prefixed(&mut out, &self.row_locks);
        push_prefixed(&mut out, &self.payload);
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// What rule of the format the bytes break.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8().ok_or("prepared transaction is empty")?;
        if flags & !(SERIALIZABLE | WROTE) != 0 {
            return Err("prepared transaction has unknown flags");
        }
        let id = reader.varint().filter(|&id| is_id(id)).ok_or("prepared transaction has a bad id")?;
        let parts = read_parts(&mut reader, id).ok_or("prepared transaction has bad savepoint ids")?;
        let locks = read_locks(&mut reader).ok_or("prepared transaction has bad locks")?;
        let reads = read_trees(&mut reader).ok_or("prepared transaction has bad reads")?;
        let row_locks = reader.prefixed().ok_or("prepared transaction has bad row locks")?.to_vec();
        let payload = reader.prefixed().ok_or("prepared transaction has a bad payload")?.to_vec();
        if !reader.is_empty() {
            return Err("prepared transaction has bytes behind its end");
        }
        let (serializable, wrote) = (flags & SERIALIZABLE != 0, flags & WROTE != 0);
        Ok(Self { serializable, wrote, id: TxnId(id), parts, locks, reads, row_locks, payload })
    }
}

fn read_parts(reader: &mut Reader<'_>, id: u64) -> Option<Vec<TxnId>> {
    let mut parts = Vec::new();
    let mut last = id;
    for _ in 0..reader.varint()? {
        let step = reader.varint().filter(|&step| step > 0)?;
        last = last.checked_add(step).filter(|&id| is_id(id))?;
        parts.push(TxnId(last));
    }
    Some(parts)
}

fn read_locks(reader: &mut Reader<'_>) -> Option<Vec<(u64, u8)>> {
    let mut locks: Vec<(u64, u8)> = Vec::new();
    for _ in 0..reader.varint()? {
        let object = reader.varint()?;
        let modes = reader.u8().filter(|&modes| modes > 0)?;
        if locks.last().is_some_and(|&(last, _)| last >= object) {
            return None;
        }
        locks.push((object, modes));
    }
    Some(locks)
}

fn read_trees(reader: &mut Reader<'_>) -> Option<Vec<TreeId>> {
    let mut trees: Vec<TreeId> = Vec::new();
    for _ in 0..reader.varint()? {
        let tree = TreeId(reader.varint()?);
        if trees.last().is_some_and(|&last| last >= tree) {
            return None;
        }
        trees.push(tree);
    }
    Some(trees)
}

#[cfg(test)]
mod tests;
