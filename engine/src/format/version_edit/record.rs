//! The manifest file's header and the records that frame its edits, and where a file's good part ends.
//!
//! ```text
//! header  0  magic "SSDMANIF"   8  format u32   12 features u32   16 file number u64
//!        24  end of the snapshot record u64     32 checksum of bytes 0..32
//! record  0  payload length u32 4  checksum u32  8 index u64      16 payload (an edit)
//! ```
//!
//! 1. A record's checksum covers the file's number (which is not stored again), the length, the index and the payload.
//! 2. Indices count up from 0 without gaps; record 0 is the snapshot. The header and record 0 were on stable storage
//!    before anything named the file, so damage there is never a torn write.
//! 3. A record is written only after the one before it was stable. So a write that a crash tore can only be the last
//!    record: bytes that are no record are a torn tail when no record follows them, and corruption when one does.

use crate::base::checksum::Checksum;
use crate::base::codec::Reader;
use crate::base::ids::FileNumber;

use super::EditError;

/// First bytes of every manifest file.
pub const MAGIC: [u8; 8] = *b"SSDMANIF";
/// The version of the format that this code writes; it reads no other.
pub const FORMAT: u32 = 1;
/// Bytes of the file header, in this and all later versions.
pub const HEADER_LEN: usize = 36;
/// Bytes before a record's payload.
pub const RECORD_HEADER_LEN: usize = 16;
/// Longest payload: the snapshot of three million files with keys of 100 bytes; a length past it is damage.
pub const PAYLOAD_LEN_MAX: usize = 1 << 30;

const _: () = assert!(PAYLOAD_LEN_MAX <= u32::MAX as usize);

/// What a manifest file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The number in the file's name.
    pub number: FileNumber,
    /// Where the snapshot record ends, as a file offset.
    pub snapshot_end: u64,
}

impl FileHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.snapshot_end.to_le_bytes());
        let checksum = Checksum::of(&out[..32]);
        out[32..].copy_from_slice(&checksum.0.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`.
    ///
    /// # Errors
    /// Malformed: no manifest, cut or damaged. Unsupported: a later format or feature.
    pub fn decode(bytes: &[u8]) -> Result<Self, EditError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(EditError::Malformed(format!("file header cut after {} bytes", bytes.len())));
        };
        if !header.starts_with(&MAGIC) {
            return Err(EditError::Malformed("not a manifest: the magic number is missing".to_owned()));
        }
        let cut = || EditError::Malformed("file header cut".to_owned());
        let mut reader = Reader::new(&header[8..]);
        let format = reader.u32().ok_or_else(cut)?;
        let features = reader.u32().ok_or_else(cut)?;
        let number = FileNumber(reader.u64().ok_or_else(cut)?);
        let snapshot_end = reader.u64().ok_or_else(cut)?;
        let stored = reader.u32().ok_or_else(cut)?;
        let found = Checksum::of(&header[..32]);
        if stored != found.0 {
            let why = format!("file header has checksum {:08x}, not the stored {stored:08x}", found.0);
            return Err(EditError::Malformed(why));
        }
        if format != FORMAT || features != 0 {
            let why = format!("manifest format {format} with features {features:#x}; this version reads {FORMAT}, 0x0");
            return Err(EditError::Unsupported(why));
        }
        Ok(Self { number, snapshot_end })
    }
}

/// Appends the record of `payload`, which must not be longer than [`PAYLOAD_LEN_MAX`].
pub fn push_record(out: &mut Vec<u8>, file: FileNumber, index: u64, payload: &[u8]) {
    assert!(payload.len() <= PAYLOAD_LEN_MAX, "manifest record of {} bytes", payload.len());
    let len = payload.len() as u32;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(file, index, payload).0.to_le_bytes());
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(payload);
}

fn checksum(file: FileNumber, index: u64, payload: &[u8]) -> Checksum {
    let mut head = [0; 20];
    head[..8].copy_from_slice(&file.0.to_le_bytes());
    head[8..16].copy_from_slice(&index.to_le_bytes());
    head[16..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    Checksum::of_two(&head, payload)
}

/// What stands at a place in the file. Offsets are file offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A record.
    Record {
        /// Where it begins.
        offset: u64,
        /// Its place in the order of records.
        index: u64,
        /// The edit's bytes.
        payload: &'a [u8],
    },
    /// The file ends right after a record.
    CleanEnd,
    /// The last write did not reach the disk whole; everything before it is good.
    TornTail {
        /// Where the good part ends.
        offset: u64,
    },
    /// Bytes are not what was written.
    Corrupt {
        /// Where.
        offset: u64,
        /// In what way.
        why: String,
    },
}

/// Walks the records in a stretch of a manifest file. After an outcome other than a record it stays where it is.
#[derive(Clone, Debug)]
pub struct RecordReader<'a> {
    bytes: &'a [u8],
    /// File offset of `bytes`.
    base: u64,
    /// Place of the next record in `bytes`.
    at: usize,
    file: FileNumber,
    /// Index the next record must have; `None` when any will do.
    index: Option<u64>,
    /// File offset below which everything is known to have been stable, so that nothing there can be torn.
    stable_to: u64,
}

impl<'a> RecordReader<'a> {
    /// Reads `bytes`, which stand at offset `base` of the manifest `file`. The first record must have `index`, unless
    /// that is `None`. Below the file offset `stable_to` damage is corruption, never a torn tail.
    #[must_use]
    pub const fn new(bytes: &'a [u8], base: u64, file: FileNumber, index: Option<u64>, stable_to: u64) -> Self {
        Self { bytes, base, at: 0, file, index, stable_to }
    }

    /// File offset of what [`next`](Self::next) looks at.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Index that the next record must have; `None` before the first record of a walk that started without one.
    #[must_use]
    pub const fn index(&self) -> Option<u64> {
        self.index
    }

    /// The next record, or why there is none.
    #[expect(clippy::should_implement_trait, reason = "an end is an outcome of its own here, not the absence of one")]
    pub fn next(&mut self) -> Outcome<'a> {
        let offset = self.offset();
        if self.at == self.bytes.len() {
            if offset >= self.stable_to {
                return Outcome::CleanEnd;
            }
            return Outcome::Corrupt { offset, why: format!("file ends before offset {}", self.stable_to) };
        }
        let (index, payload) = match record_at(&self.bytes[self.at..], self.file) {
            Ok(record) => record,
            Err(why) => return self.judge(offset, why),
        };
        if let Some(expected) = self.index
            && index != expected
        {
            return Outcome::Corrupt { offset, why: format!("record {index} where record {expected} belongs") };
        }
        self.at += RECORD_HEADER_LEN + payload.len();
        self.index = Some(index + 1);
        Outcome::Record { offset, index, payload }
    }

    /// Tells a torn tail from corruption, given that no record stands here.
    fn judge(&self, offset: u64, why: String) -> Outcome<'a> {
        if offset < self.stable_to {
            return Outcome::Corrupt { offset, why };
        }
        match self.later_record() {
            Some(later) => Outcome::Corrupt { offset, why: format!("{why}, but a record follows at offset {later}") },
            None => Outcome::TornTail { offset },
        }
    }

    /// File offset of a record somewhere after the current place whose index shows that it was written later.
    fn later_record(&self) -> Option<u64> {
        let expected = self.index.unwrap_or(0);
        let rest = &self.bytes[self.at..];
        let last = expected.saturating_add((rest.len() / RECORD_HEADER_LEN) as u64);
        for skip in 1..rest.len().saturating_sub(RECORD_HEADER_LEN - 1) {
            // The index is eight bytes that only a record has right: almost every place ends here.
            let index = u64::from_le_bytes(*rest[skip + 8..].first_chunk()?);
            if (expected..=last).contains(&index) && record_at(&rest[skip..], self.file).is_ok() {
                return Some(self.base + (self.at + skip) as u64);
            }
        }
        None
    }
}

/// Index and payload of the record at the start of `bytes`.
fn record_at(bytes: &[u8], file: FileNumber) -> Result<(u64, &[u8]), String> {
    let mut reader = Reader::new(bytes);
    let (Some(len), Some(stored), Some(index)) = (reader.u32(), reader.u32(), reader.u64()) else {
        return Err(format!("record header cut after {} bytes", bytes.len()));
    };
    let len = len as usize;
    if len > PAYLOAD_LEN_MAX {
        return Err(format!("record of {len} bytes, more than the {PAYLOAD_LEN_MAX} allowed"));
    }
    let Some(payload) = reader.bytes(len) else {
        return Err(format!("record of {len} bytes, of which {} are there", reader.rest().len()));
    };
    let found = checksum(file, index, payload);
    if found.0 != stored {
        return Err(format!("record with checksum {:08x}, not the stored {stored:08x}", found.0));
    }
    // A record with the last index would leave none for its successor.
    if index == u64::MAX {
        return Err("record with an impossible index".to_owned());
    }
    Ok((index, payload))
}

#[cfg(test)]
mod tests;
