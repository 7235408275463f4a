//! Layer 3: the manifest, an append-only file of edits that says which files make up the database.
//!
//! ```text
//!   write_new ──► written ── switch ──► current ── append… ──► current
//!                    │                     │
//!                    └──── any failure ────┴──► poisoned: only a new manifest goes on
//! ```
//!
//! A manifest file starts with a snapshot of everything and grows by an edit a step. `CURRENT` names the one in force.
//! When it has grown well past its snapshot, a new one is written beside it and `CURRENT` is switched.
//!
//! 1. What `append` returned `Ok` for is on stable storage, and so is every edit before it.
//! 2. One writer at a time, over all threads and processes: the caller holds a lock. A writer whose file has grown behind
//!    its back is told so and writes nothing.
//! 3. A failed write or sync poisons the writer. The edit may or may not be found after a crash, so files it names must
//!    stay until another manifest has been switched to. The exception is a write that finds the disk full: when what was
//!    written of it could be cut off again, the file is as it was before, and the writer goes on.
//! 4. A file with a torn tail is never appended to: its end would have to be trusted to hide the tear.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::base::ids::FileNumber;
use crate::env::{Env, File, OpenMode};
use crate::error::{ConflictKind, Error, Result};
use crate::format::version_edit::record::{
    FileHeader, HEADER_LEN, Outcome, PAYLOAD_LEN_MAX, RECORD_HEADER_LEN, RecordReader, push_record,
};
use crate::format::version_edit::{EditError, VersionEdit};

pub mod current;
pub mod repair;

/// A manifest is not rewritten before it has this many bytes: small ones load at once anyway.
const REWRITE_BYTES_MIN: u64 = 1 << 20;
/// A manifest is rewritten at this multiple of its snapshot: the rewrites then add a third to the bytes of the edits.
const REWRITE_FACTOR: u64 = 4;

/// Takes one edit; a refusal says what contradicts the edits before it.
pub type Apply<'a> = &'a mut dyn FnMut(VersionEdit) -> Result<(), String>;

/// Name of manifest `number`.
#[must_use]
pub fn manifest_name(number: FileNumber) -> String {
    format!("MANIFEST-{number}")
}

/// The number of the manifest called `name`; `None` for any other file.
#[must_use]
pub fn parse_manifest_name(name: &str) -> Option<FileNumber> {
    let number = FileNumber(name.strip_prefix("MANIFEST-")?.parse().ok()?);
    (manifest_name(number) == name).then_some(number)
}

/// What [`Manifest::load`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Number of the manifest in force.
    pub number: FileNumber,
    /// Where its last good record ends, in bytes from the file's start.
    pub end_offset: u64,
    /// Where the file stops making sense because a crash tore the last write; `None` after a clean end.
    pub torn: Option<u64>,
    /// Bytes of the file, with a torn tail.
    pub bytes: u64,
    /// Good records, the snapshot included.
    pub records: u64,
    /// Where the snapshot ends.
    pub snapshot_end: u64,
}

/// The writer of the manifest in force, and a position in it.
pub struct Manifest {
    file: Arc<dyn File>,
    number: FileNumber,
    end: u64,
    /// Index of the next record.
    index: u64,
    snapshot_end: u64,
    poisoned: Option<String>,
}

impl Manifest {
    /// Writes manifest `number` with `snapshot` as its first record and switches `CURRENT` to it:
    /// [`write_new`](Self::write_new), then [`switch`](Self::switch). The snapshot of a new database is version 0 or 1, and
    /// no log exists before it is in force.
    ///
    /// # Errors
    /// I/O. `CURRENT` may name either manifest then, so nothing may be appended to the old one; a caller that wants to go
    /// on with the old one when there is no space for the new one takes the two steps itself.
    pub fn create(env: &Arc<dyn Env>, dir: &Path, number: FileNumber, snapshot: &VersionEdit) -> Result<Self> {
        let mut manifest = Self::write_new(env, dir, number, snapshot)?;
        manifest.switch(env, dir)?;
        Ok(manifest)
    }

    /// Writes manifest `number` with `snapshot` as its first record, stable under its name. It is not in force yet.
    ///
    /// A file of that name that a crash left behind is replaced.
    ///
    /// # Errors
    /// I/O; usage when `number` is in force, or when the snapshot is longer than a record may be. The manifest in force is
    /// untouched.
    pub fn write_new(env: &Arc<dyn Env>, dir: &Path, number: FileNumber, snapshot: &VersionEdit) -> Result<Self> {
        let path = dir.join(manifest_name(number));
        let payload = checked_payload(&path, snapshot)?;
        let snapshot_end = (HEADER_LEN + RECORD_HEADER_LEN + payload.len()) as u64;
        let mut bytes = FileHeader { number, snapshot_end }.encode().to_vec();
        push_record(&mut bytes, number, 0, &payload);
        let file = open_new(env, dir, &path, number)?;
        let written = file.write_at(&bytes, 0).and_then(|()| file.sync()).and_then(|()| env.sync_dir(dir));
        if let Err(error) = written {
            // Best effort: what stays is an orphan that recovery or the next attempt removes.
            let _ = env.remove(&path);
            return Err(error);
        }
        Ok(Self { file, number, end: snapshot_end, index: 1, snapshot_end, poisoned: None })
    }

    /// Puts this manifest in force.
    ///
    /// # Errors
    /// I/O. `CURRENT` may name either manifest then: this one is poisoned and nothing may be appended to the old one.
    pub fn switch(&mut self, env: &Arc<dyn Env>, dir: &Path) -> Result<()> {
        let switched = current::switch(env, dir, self.number);
        if let Err(error) = &switched {
            self.poisoned = Some(format!("CURRENT could not be switched to {}: {error}", manifest_name(self.number)));
        }
        switched
    }

    /// Whether `dir` holds a database.
    ///
    /// # Errors
    /// Corruption when `CURRENT` is missing although other files show that there was one; I/O.
    pub fn exists(env: &Arc<dyn Env>, dir: &Path) -> Result<bool> {
        if current::read(env, dir)?.is_some() {
            return Ok(true);
        }
        refuse_traces(env, dir)?;
        Ok(false)
    }

    /// Reads the manifest in force from its start and hands its edits to `apply` in order, the snapshot first.
    ///
    /// # Errors
    /// Corruption naming file and offset, also when `CURRENT` is missing or names a missing file, or when `apply` refuses;
    /// usage when a later version wrote the file; I/O.
    pub fn load(env: &Arc<dyn Env>, dir: &Path, apply: Apply<'_>) -> Result<Loaded> {
        let Some(number) = current::read(env, dir)? else {
            refuse_traces(env, dir)?;
            return Err(Error::usage(
                format!("\"{}\" holds no database", dir.display()),
                "Create one, or name its directory.",
            ));
        };
        Self::read(env, dir, number, &mut *apply).or_else(|error| {
            if !current::is_kind(&error, io::ErrorKind::NotFound) {
                return Err(error);
            }
            // Whoever has the directory open may have switched to another one meanwhile and removed this one.
            if current::read(env, dir)?.is_some_and(|now| now != number) {
                return Self::load(env, dir, apply);
            }
            let what = format!("it names {}, which does not exist", manifest_name(number));
            Err(Error::corruption(&dir.join(current::CURRENT), 0, what))
        })
    }

    /// As [`load`](Self::load), for manifest `number`, in force or not. What `apply` got before an error is good.
    ///
    /// # Errors
    /// As [`load`](Self::load); I/O when there is no such file.
    pub fn read(env: &Arc<dyn Env>, dir: &Path, number: FileNumber, apply: Apply<'_>) -> Result<Loaded> {
        let path = dir.join(manifest_name(number));
        let file = env.open(&path, OpenMode::READ)?;
        let len = file.len()?;
        let bytes = read_range(&file, 0, len)?;
        let header = FileHeader::decode(&bytes).map_err(|error| refused(&path, 0, error))?;
        if header.number != number {
            let what = format!("the header belongs to {}", manifest_name(header.number));
            return Err(Error::corruption(&path, 0, what));
        }
        let records = bytes.get(HEADER_LEN..).unwrap_or_default();
        let mut reader = RecordReader::new(records, HEADER_LEN as u64, number, Some(0), header.snapshot_end);
        let torn = walk(&path, &mut reader, Some(header.snapshot_end), apply)?;
        Ok(Loaded {
            number,
            end_offset: reader.offset(),
            torn,
            bytes: bytes.len() as u64,
            records: reader.index().unwrap_or(0),
            snapshot_end: header.snapshot_end,
        })
    }

    /// Opens the manifest that `loaded` describes for appending and following.
    ///
    /// # Errors
    /// Usage when its tail was torn: write a new one instead. I/O.
    pub fn resume(env: &Arc<dyn Env>, dir: &Path, loaded: &Loaded) -> Result<Self> {
        let path = dir.join(manifest_name(loaded.number));
        if let Some(offset) = loaded.torn {
            return Err(Error::usage(
                format!("\"{}\" has a torn tail at offset {offset}", path.display()),
                "Write a new manifest from the loaded state.",
            ));
        }
        Ok(Self {
            file: env.open(&path, OpenMode::WRITE)?,
            number: loaded.number,
            end: loaded.end_offset,
            index: loaded.records,
            snapshot_end: loaded.snapshot_end,
            poisoned: None,
        })
    }

    /// Appends `edit` and makes it stable; returns the file's new length.
    ///
    /// # Errors
    /// Conflict when another writer has appended: catch up and retry; nothing was written. Usage when the edit cannot be
    /// stored; nothing was written. I/O: this manifest is poisoned, unless the disk was full and nothing of the edit is left
    /// in the file, see [`poisoned`](Self::poisoned). Closed: it was poisoned earlier.
    pub fn append(&mut self, edit: &VersionEdit) -> Result<u64> {
        if let Some(why) = &self.poisoned {
            return Err(Error::Closed(why.clone()));
        }
        let payload = checked_payload(self.file.path(), edit)?;
        let len = self.file.len()?;
        if len != self.end {
            let name = manifest_name(self.number);
            let what = format!("{name} has {len} bytes where this writer knows of {}", self.end);
            return Err(Error::conflict(ConflictKind::InUse, what));
        }
        let mut record = Vec::with_capacity(RECORD_HEADER_LEN + payload.len());
        push_record(&mut record, self.number, self.index, &payload);
        if let Err(error) = self.file.write_at(&record, self.end) {
            if !error.is_no_space() || self.cut_off().is_err() {
                self.poisoned = Some(format!("an edit could not be written: {error}"));
            }
            return Err(error);
        }
        // Apart from the write: what a failed sync leaves is never known.
        if let Err(error) = self.file.sync() {
            self.poisoned = Some(format!("an edit could not be made stable: {error}"));
            return Err(error);
        }
        self.end += record.len() as u64;
        self.index += 1;
        Ok(self.end)
    }

    /// Takes away what was written behind the last edit.
    fn cut_off(&self) -> Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync()
    }

    /// Reads what other writers appended up to the file length `upto`, hands it to `apply`, and goes on from there.
    ///
    /// # Errors
    /// As [`follow`](Self::follow); the position is unchanged then.
    pub fn catch_up(&mut self, upto: u64, apply: Apply<'_>) -> Result<()> {
        if upto > self.end {
            self.index = follow_file(&self.file, self.number, (self.end, Some(self.index)), upto, apply)?;
            self.end = upto;
        }
        Ok(())
    }

    /// Hands the edits between two lengths of manifest `number` to `apply`; both must be ends of records. For processes
    /// that only read.
    ///
    /// # Errors
    /// Corruption when the stretch is not whole records or when `apply` refuses; usage when a later version wrote them;
    /// I/O.
    pub fn follow(
        env: &Arc<dyn Env>,
        dir: &Path,
        number: FileNumber,
        from_offset: u64,
        upto: u64,
        apply: Apply<'_>,
    ) -> Result<()> {
        if upto > from_offset {
            let file = env.open(&dir.join(manifest_name(number)), OpenMode::READ)?;
            follow_file(&file, number, (from_offset, None), upto, apply)?;
        }
        Ok(())
    }

    /// Whether the file has grown so far past its snapshot that a new one should be written.
    #[must_use]
    pub fn should_rewrite(&self) -> bool {
        self.end > REWRITE_BYTES_MIN.max(REWRITE_FACTOR * self.snapshot_end)
    }

    /// The number in the file's name.
    #[must_use]
    pub fn number(&self) -> FileNumber {
        self.number
    }

    /// Length of the file up to which this writer knows it.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.end
    }

    /// Why nothing can be appended any more; `None` as long as all went well.
    #[must_use]
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }
}

/// The edit's bytes, once they have been shown to read back as the edit.
fn checked_payload(path: &Path, edit: &VersionEdit) -> Result<Vec<u8>> {
    let payload = edit.encode();
    let refuse =
        |why: String| Err(Error::usage(format!("edit for \"{}\" cannot be stored: {why}", path.display()), ""));
    if payload.len() > PAYLOAD_LEN_MAX {
        return refuse(format!("{} bytes, more than the {PAYLOAD_LEN_MAX} allowed", payload.len()));
    }
    match VersionEdit::decode(&payload) {
        Ok(same) if same == *edit => Ok(payload),
        Ok(_) => refuse("it reads back differently".to_owned()),
        Err(why) => refuse(format!("it does not read back: {why}")),
    }
}

/// Creates the file, replacing one that was never in force.
fn open_new(env: &Arc<dyn Env>, dir: &Path, path: &Path, number: FileNumber) -> Result<Arc<dyn File>> {
    match env.open(path, OpenMode::CREATE) {
        Err(error) if current::is_kind(&error, io::ErrorKind::AlreadyExists) => {
            if current::read(env, dir)? == Some(number) {
                return Err(Error::usage(format!("{} is in force", manifest_name(number)), "Take a new file number."));
            }
            env.remove(path)?;
            env.open(path, OpenMode::CREATE)
        }
        opened => opened,
    }
}

/// Applies records up to the end of the good part; returns where a torn tail starts.
fn walk(
    path: &Path,
    reader: &mut RecordReader<'_>,
    snapshot_end: Option<u64>,
    apply: Apply<'_>,
) -> Result<Option<u64>> {
    loop {
        match reader.next() {
            Outcome::Record { offset, index, payload } => {
                if let Some(end) = snapshot_end
                    && index == 0
                    && reader.offset() != end
                {
                    let what = format!("the snapshot ends at {}, not at {end} as the header says", reader.offset());
                    return Err(Error::corruption(path, offset, what));
                }
                apply_record(path, offset, payload, apply)?;
            }
            Outcome::CleanEnd => return Ok(None),
            Outcome::TornTail { offset } => return Ok(Some(offset)),
            Outcome::Corrupt { offset, why } => return Err(Error::corruption(path, offset, why)),
        }
    }
}

fn apply_record(path: &Path, offset: u64, payload: &[u8], apply: Apply<'_>) -> Result<()> {
    let edit = VersionEdit::decode(payload).map_err(|error| refused(path, offset, error))?;
    apply(edit).map_err(|why| Error::corruption(path, offset, format!("the edit contradicts those before it: {why}")))
}

/// Applies the records of a stretch that is known to be stable; returns the index of the record after it.
fn follow_file(
    file: &Arc<dyn File>,
    number: FileNumber,
    (from, index): (u64, Option<u64>),
    upto: u64,
    apply: Apply<'_>,
) -> Result<u64> {
    let bytes = read_range(file, from, upto)?;
    let mut reader = RecordReader::new(&bytes, from, number, index, upto);
    let mut edits = Vec::new();
    let torn = walk(file.path(), &mut reader, None, &mut |edit| {
        edits.push(edit);
        Ok(())
    })?;
    debug_assert_eq!(torn, None, "a stable stretch has no torn tail");
    // Only a stretch that is good to its end takes effect, so that a caller's state and position stay together.
    for edit in edits {
        apply(edit).map_err(|why| Error::corruption(file.path(), from, format!("contradicting edit: {why}")))?;
    }
    Ok(reader.index().unwrap_or(0))
}

/// The file's bytes from `from` to `upto`, or to its end when that comes first.
fn read_range(file: &Arc<dyn File>, from: u64, upto: u64) -> Result<Vec<u8>> {
    let here = upto.min(file.len()?).saturating_sub(from);
    let mut bytes = vec![0; here as usize];
    let got = file.read_at(&mut bytes, from)?;
    bytes.truncate(got);
    Ok(bytes)
}

fn refused(path: &Path, offset: u64, error: EditError) -> Error {
    match error {
        EditError::Malformed(why) => Error::corruption(path, offset, why),
        EditError::Unsupported(why) => Error::usage(
            format!("cannot read \"{}\" at offset {offset}: {why}", path.display()),
            "Open the directory with the version that wrote it, or a later one.",
        ),
    }
}

/// Refuses a directory without CURRENT in which a database has left traces.
///
/// A manifest alone is no trace when the creation of the database, cut short before CURRENT, may have left it behind.
fn refuse_traces(env: &Arc<dyn Env>, dir: &Path) -> Result<()> {
    let mut names = env.list(dir)?;
    names.sort_unstable();
    for name in &names {
        let data = name.ends_with(".sst") || name.ends_with(".wal");
        if data || (parse_manifest_name(name).is_some() && has_content(env, &dir.join(name))?) {
            let what = format!("missing, although the directory holds {name}; repair the database or restore CURRENT");
            return Err(Error::corruption(&dir.join(current::CURRENT), 0, what));
        }
    }
    Ok(())
}

/// Whether a manifest has more than the snapshot that a database is created with: version 0 or 1, without a file.
fn has_content(env: &Arc<dyn Env>, path: &Path) -> Result<bool> {
    let file = env.open(path, OpenMode::READ)?;
    let bytes = read_range(&file, 0, u64::MAX)?;
    let Ok(header) = FileHeader::decode(&bytes) else {
        return Ok(false);
    };
    if bytes.len() as u64 > header.snapshot_end {
        return Ok(true);
    }
    let records = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut reader = RecordReader::new(records, HEADER_LEN as u64, header.number, Some(0), header.snapshot_end);
    let Outcome::Record { payload, .. } = reader.next() else {
        return Ok(false);
    };
    Ok(VersionEdit::decode(payload)
        .is_ok_and(|edit| !edit.added.is_empty() || edit.version.is_some_and(|version| version > 1)))
}

#[cfg(test)]
mod tests;
