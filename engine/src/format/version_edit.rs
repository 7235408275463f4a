//! The manifest's edits: what one step changed in the set of files, levels, trees and positions, and its bytes.
//!
//! An edit is a sequence of items, each a tag byte, the payload's length as a varint, and the payload
//! (docs/formats/manifest.md has every payload). How records frame edits in a file is in [`record`].
//!
//! 1. Tag 0 is no item. A reader refuses an edit with an unknown tag below [`TAG_OPTIONAL`] and skips one at or above.
//! 2. A payload is read to its last byte; scalar items appear at most once.
//! 3. Deletions take effect before additions, whatever their order in the bytes: a file that moves between levels is
//!    deleted from one and added to the other in one edit.
//! 4. Encoding is deterministic: equal edits have equal bytes.

pub mod record;
#[cfg(test)]
pub(crate) mod samples;

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crate::base::codec::{Reader, push_prefixed, push_varint};
use crate::base::ids::{FileNumber, Level, Lsn, SeqNo, TreeId};
use crate::base::limits::LEVEL_COUNT;

/// Tags from here on may be skipped by a reader that does not know them.
pub const TAG_OPTIONAL: u8 = 0x80;

const TAG_IDENTITY: u8 = 1;
const TAG_VERSION: u8 = 2;
const TAG_DURABLE: u8 = 3;
const TAG_NEXT_FILE: u8 = 4;
const TAG_LAST_SEQNO: u8 = 5;
const TAG_NEXT_TREE: u8 = 6;
const TAG_TREE_CREATED: u8 = 7;
const TAG_TREE_DROPPED: u8 = 8;
const TAG_FILE_DELETED: u8 = 9;
const TAG_FILE_ADDED: u8 = 10;
/// Optional: a reader without cursors merely starts its compactions elsewhere.
const TAG_CURSOR: u8 = TAG_OPTIONAL | 1;

/// Bit of a file's flags: its largest key is exclusive.
const FLAG_LARGEST_EXCLUSIVE: u64 = 1;

/// A tree's options in the form that the layer above chose; the manifest only keeps them.
pub type TreeOptionsBytes = Vec<u8>;

/// A place between keys: just before the key (`false`) or just after it (`true`). Tuples order as places do.
pub type Edge<'a> = (&'a [u8], bool);

/// Everything the engine knows about an SST without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Names the file, for ever.
    pub number: FileNumber,
    /// Bytes of the file.
    pub size: u64,
    /// Smallest full key that the file has an entry for or covers with a range tombstone.
    pub smallest: Vec<u8>,
    /// Largest such full key, or the first one past it: see `largest_exclusive`.
    pub largest: Vec<u8>,
    /// `largest` is the end of a range tombstone, so the file says nothing about that key itself.
    pub largest_exclusive: bool,
    /// No entry has a smaller sequence number.
    pub smallest_seqno: SeqNo,
    /// No entry has a larger sequence number.
    pub largest_seqno: SeqNo,
    /// Entries of every kind but range tombstones.
    pub entries: u64,
    /// Of the entries, those that are point deletes.
    pub deletes: u64,
    /// Range tombstones.
    pub range_deletes: u64,
    /// Bytes of keys and values before truncation and compression.
    pub raw_bytes: u64,
    /// Smallest unfrozen transaction id in the file; 0 when there is none.
    pub min_txn: u64,
    /// Largest unfrozen transaction id in the file; 0 when there is none.
    pub max_txn: u64,
    /// When the file was made, in seconds since 1970.
    pub created_unix: u64,
}

impl FileMeta {
    /// Where the file's keys begin.
    #[inline]
    #[must_use]
    pub fn start(&self) -> Edge<'_> {
        (&self.smallest, false)
    }

    /// Where the file's keys end.
    #[inline]
    #[must_use]
    pub fn end(&self) -> Edge<'_> {
        (&self.largest, !self.largest_exclusive)
    }

    /// Whether `key` lies between the file's bounds.
    #[inline]
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.smallest.as_slice() <= key && (key, false) < self.end()
    }

    /// Whether some key lies between the bounds of both files.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start() < other.end() && other.start() < self.end()
    }

    /// Whether some key of `range` lies between the file's bounds.
    #[must_use]
    pub fn overlaps_range(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
        let (from, to) = edges(range);
        from.is_none_or(|from| from < self.end())
            && to.is_none_or(|to| self.start() < to)
            && from.zip(to).is_none_or(|(from, to)| from < to)
    }

    /// What makes the bounds impossible, if anything.
    ///
    /// # Errors
    /// Says which bounds are out of order.
    pub fn check_bounds(&self) -> Result<(), String> {
        if self.start() >= self.end() {
            return Err(format!("file {}: its smallest key is past its largest", self.number));
        }
        if self.smallest_seqno > self.largest_seqno || self.largest_seqno > SeqNo::MAX {
            let (from, to) = (self.smallest_seqno, self.largest_seqno);
            return Err(format!("file {}: sequence numbers {from} to {to} are out of order", self.number));
        }
        Ok(())
    }
}

/// The places where a range of keys begins and ends; `None` where it is unbounded.
#[must_use]
pub fn edges<'a>(range: (Bound<&'a [u8]>, Bound<&'a [u8]>)) -> (Option<Edge<'a>>, Option<Edge<'a>>) {
    let from = match range.0 {
        Bound::Included(key) => Some((key, false)),
        Bound::Excluded(key) => Some((key, true)),
        Bound::Unbounded => None,
    };
    let to = match range.1 {
        Bound::Included(key) => Some((key, true)),
        Bound::Excluded(key) => Some((key, false)),
        Bound::Unbounded => None,
    };
    (from, to)
}

/// A change of the tree catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeEdit {
    /// A tree came to be.
    Created {
        /// Its id; never used before.
        id: TreeId,
        /// What the host calls it.
        name: Vec<u8>,
        /// Its options.
        options: TreeOptionsBytes,
    },
    /// A tree is gone; its remaining entries are garbage.
    Dropped {
        /// Its id.
        id: TreeId,
    },
}

/// Which database this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn at random when the directory was created.
    pub uuid: [u8; 16],
    /// Version of the directory's formats as a whole.
    pub format: u32,
    /// When the directory was created, in seconds since 1970.
    pub created_unix: u64,
}

/// One step in the life of the set of files. `None` and empty parts change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VersionEdit {
    /// Set by the first edit of a directory's life, repeated by snapshots.
    pub identity: Option<Identity>,
    /// The number of the version that results. Only snapshots say it; any other edit counts one up.
    pub version: Option<u64>,
    /// The log position at which replay starts from now on.
    pub durable: Option<Lsn>,
    /// The file number to hand out next is at least this.
    pub next_file: Option<u64>,
    /// Some entry in a file, now or earlier, may have this sequence number; none has a larger one.
    pub last_seqno: Option<SeqNo>,
    /// The tree id to hand out next is at least this.
    pub next_tree: Option<u64>,
    /// Changes of the tree catalogue, in order.
    pub trees: Vec<TreeEdit>,
    /// Files that leave a level.
    pub deleted: Vec<(Level, FileNumber)>,
    /// Files that enter a level.
    pub added: Vec<(Level, Arc<FileMeta>)>,
    /// Where the next round of compactions of a level starts; an empty key is the level's beginning.
    pub cursors: Vec<(Level, Vec<u8>)>,
}

/// Why an edit was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// No version of the format has such bytes.
    Malformed(String),
    /// A later version of the format may have such bytes; this one must not guess.
    Unsupported(String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::Unsupported(why) => f.write_str(why),
        }
    }
}

fn malformed<T>(why: impl Into<String>) -> Result<T, EditError> {
    Err(EditError::Malformed(why.into()))
}

/// Writes items through one scratch buffer, because an item's length stands before it.
struct ItemWriter {
    out: Vec<u8>,
    payload: Vec<u8>,
}

impl ItemWriter {
    fn item(&mut self, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        self.payload.clear();
        fill(&mut self.payload);
        self.out.push(tag);
        push_prefixed(&mut self.out, &self.payload);
    }

    fn scalar(&mut self, tag: u8, value: Option<u64>) {
        if let Some(value) = value {
            self.item(tag, |out| push_varint(out, value));
        }
    }
}

impl VersionEdit {
    /// The edit's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut items = ItemWriter { out: Vec::new(), payload: Vec::new() };
        if let Some(identity) = &self.identity {
            items.item(TAG_IDENTITY, |out| {
                out.extend_from_slice(&identity.uuid);
                out.extend_from_slice(&identity.format.to_le_bytes());
                push_varint(out, identity.created_unix);
            });
        }
        items.scalar(TAG_VERSION, self.version);
        items.scalar(TAG_DURABLE, self.durable.map(|lsn| lsn.0));
        items.scalar(TAG_NEXT_FILE, self.next_file);
        items.scalar(TAG_LAST_SEQNO, self.last_seqno.map(|seqno| seqno.0));
        items.scalar(TAG_NEXT_TREE, self.next_tree);
        for tree in &self.trees {
            match tree {
                TreeEdit::Created { id, name, options } => items.item(TAG_TREE_CREATED, |out| {
                    push_varint(out, id.0);
                    push_prefixed(out, name);
                    push_prefixed(out, options);
                }),
                TreeEdit::Dropped { id } => items.item(TAG_TREE_DROPPED, |out| push_varint(out, id.0)),
            }
        }
        for (level, number) in &self.deleted {
            items.item(TAG_FILE_DELETED, |out| {
                out.push(level.0);
                push_varint(out, number.0);
            });
        }
        for (level, file) in &self.added {
            items.item(TAG_FILE_ADDED, |out| {
                out.push(level.0);
                push_file(out, file);
            });
        }
        for (level, key) in &self.cursors {
            items.item(TAG_CURSOR, |out| {
                out.push(level.0);
                push_prefixed(out, key);
            });
        }
        items.out
    }

    /// The edit that `bytes` are.
    ///
    /// # Errors
    /// Says which item is wrong, and whether it may come from a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EditError> {
        let mut edit = Self::default();
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        while let Some(tag) = reader.u8() {
            let Some(payload) = reader.prefixed() else {
                return malformed(format!("edit item {count} (tag {tag}) runs past the end of the edit"));
            };
            let mut payload = Reader::new(payload);
            match edit.read_item(tag, &mut payload) {
                Some(Ok(Known::Yes)) if payload.is_empty() => {}
                Some(Ok(Known::Skip)) => {}
                Some(Ok(Known::Yes)) | None => {
                    return malformed(format!("edit item {count} (tag {tag}) has a malformed payload"));
                }
                Some(Err(error)) => return Err(error),
            }
            count += 1;
        }
        Ok(edit)
    }

    /// Reads one item. `None`: the payload ends early or holds what the item cannot.
    fn read_item(&mut self, tag: u8, payload: &mut Reader<'_>) -> Option<Result<Known, EditError>> {
        match tag {
            TAG_IDENTITY => {
                let (uuid, rest) = payload.rest().split_first_chunk()?;
                *payload = Reader::new(rest);
                let identity = Identity { uuid: *uuid, format: payload.u32()?, created_unix: payload.varint()? };
                once(&mut self.identity, identity)?;
            }
            TAG_VERSION => once(&mut self.version, payload.varint()?)?,
            TAG_DURABLE => once(&mut self.durable, Lsn(payload.varint()?))?,
            TAG_NEXT_FILE => once(&mut self.next_file, payload.varint()?)?,
            TAG_LAST_SEQNO => once(&mut self.last_seqno, read_seqno(payload)?)?,
            TAG_NEXT_TREE => once(&mut self.next_tree, payload.varint()?)?,
            TAG_TREE_CREATED => self.trees.push(TreeEdit::Created {
                id: TreeId(payload.varint()?),
                name: payload.prefixed()?.to_vec(),
                options: payload.prefixed()?.to_vec(),
            }),
            TAG_TREE_DROPPED => self.trees.push(TreeEdit::Dropped { id: TreeId(payload.varint()?) }),
            TAG_FILE_DELETED => self.deleted.push((read_level(payload)?, FileNumber(payload.varint()?))),
            TAG_FILE_ADDED => {
                let level = read_level(payload)?;
                match read_file(payload)? {
                    Ok(file) => self.added.push((level, Arc::new(file))),
                    Err(error) => return Some(Err(error)),
                }
            }
            TAG_CURSOR => self.cursors.push((read_level(payload)?, payload.prefixed()?.to_vec())),
            0 => return Some(malformed("edit item with tag 0")),
            TAG_OPTIONAL.. => return Some(Ok(Known::Skip)),
            _ => {
                let why = format!("edit item with tag {tag}, which is required and unknown to this version");
                return Some(Err(EditError::Unsupported(why)));
            }
        }
        Some(Ok(Known::Yes))
    }
}

/// Whether an item's tag has a meaning here.
enum Known {
    Yes,
    Skip,
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn read_level(reader: &mut Reader<'_>) -> Option<Level> {
    let level = reader.u8()?;
    (usize::from(level) < LEVEL_COUNT).then_some(Level(level))
}

fn read_seqno(reader: &mut Reader<'_>) -> Option<SeqNo> {
    let seqno = SeqNo(reader.varint()?);
    (seqno <= SeqNo::MAX).then_some(seqno)
}

fn push_file(out: &mut Vec<u8>, file: &FileMeta) {
    push_varint(out, file.number.0);
    push_varint(out, file.size);
    push_varint(out, if file.largest_exclusive { FLAG_LARGEST_EXCLUSIVE } else { 0 });
    push_prefixed(out, &file.smallest);
    push_prefixed(out, &file.largest);
    push_varint(out, file.smallest_seqno.0);
    push_varint(out, file.largest_seqno.0);
    push_varint(out, file.entries);
    push_varint(out, file.deletes);
    push_varint(out, file.range_deletes);
    push_varint(out, file.raw_bytes);
    push_varint(out, file.min_txn);
    push_varint(out, file.max_txn);
    push_varint(out, file.created_unix);
}

/// Reads a file's fields and, after them, items of later versions under the rule of the edit's own tags.
fn read_file(reader: &mut Reader<'_>) -> Option<Result<FileMeta, EditError>> {
    let number = FileNumber(reader.varint()?);
    let size = reader.varint()?;
    let flags = reader.varint()?;
    if flags & !FLAG_LARGEST_EXCLUSIVE != 0 {
        let why = format!("file {number} has flags {flags:#x}, some of which are unknown to this version");
        return Some(Err(EditError::Unsupported(why)));
    }
    let file = FileMeta {
        number,
        size,
        largest_exclusive: flags & FLAG_LARGEST_EXCLUSIVE != 0,
        smallest: reader.prefixed()?.to_vec(),
        largest: reader.prefixed()?.to_vec(),
        smallest_seqno: read_seqno(reader)?,
        largest_seqno: read_seqno(reader)?,
        entries: reader.varint()?,
        deletes: reader.varint()?,
        range_deletes: reader.varint()?,
        raw_bytes: reader.varint()?,
        min_txn: reader.varint()?,
        max_txn: reader.varint()?,
        created_unix: reader.varint()?,
    };
    while let Some(tag) = reader.u8() {
        reader.prefixed()?;
        match tag {
            0 => return None,
            TAG_OPTIONAL.. => {}
            _ => {
                let why = format!("file {number} has a field with tag {tag}, required and unknown to this version");
                return Some(Err(EditError::Unsupported(why)));
            }
        }
    }
    Some(Ok(file))
}

#[cfg(test)]
mod tests;
