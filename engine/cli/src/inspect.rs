//! `ssd-engine inspect FILE`: tells what kind of file it is, by its magic number or else by its name, and shows it.
//!
//! A damaged file is shown as far as it can be read; then comes the problem, with its offset.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ssd_engine::Error;
use ssd_engine::db::open::LOCK;
use ssd_engine::env::{Env, File, OpenMode};
use ssd_engine::format::footer;
use ssd_engine::lsm::view::parse_sst_name;
use ssd_engine::manifest::current::{CURRENT, CURRENT_TEMPORARY};
use ssd_engine::manifest::parse_manifest_name;
use ssd_engine::wal::BUFFER_NAME;

use crate::report::Report;
use crate::{FINE, Failure, PROBLEMS, World};

mod batch;
mod current;
mod log_buffer;
mod manifest;
mod records;
mod segment;
mod sst;

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A file of an engine.
    file: PathBuf,
    /// SST: list the data blocks.
    #[arg(long)]
    blocks: bool,
    /// SST: list the entries. Log: list the operations of its batches.
    #[arg(long)]
    entries: bool,
    /// Most rows of a list; 0 shows all.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u64,
    /// Manifest: show the levels that result.
    #[arg(long)]
    summary: bool,
    /// Report for machines.
    #[arg(long)]
    json: bool,
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Sst,
    Segment,
    LogBuffer,
    Manifest,
    Current,
}

/// Runs the subcommand.
pub(crate) fn run(world: &mut World<'_>, arguments: &Arguments) -> Result<u8, Failure> {
    let path = &arguments.file;
    if world.env.list(path).is_ok() {
        let message = format!("\"{}\" is a directory", path.display());
        return Err(Error::usage(message, "Name a file in it, or use `stats` or `verify`.").into());
    }
    let file = world.env.open(path, OpenMode::READ)?;
    let Some(kind) = kind_of(path, &*file)? else {
        let message = format!("\"{}\" is no file of an engine", path.display());
        return Err(Error::usage(message, "Name an SST, a log segment, LOGBUF, a manifest or CURRENT.").into());
    };
    let mut report = Report::default();
    note_holder(world.env, path, &mut report)?;
    let outcome = match kind {
        FileKind::Sst => sst::show(&file, arguments, &mut report),
        FileKind::Segment => segment::show(world.env, &file, arguments, &mut report),
        FileKind::LogBuffer => log_buffer::show(&file, arguments, &mut report),
        FileKind::Manifest => manifest::show(&file, arguments, &mut report),
        FileKind::Current => current::show(world.env, &file, &mut report),
    };
    report.take(outcome)?;
    report.write(arguments.json, world.out)?;
    Ok(if report.has_problems() { PROBLEMS } else { FINE })
}

/// Says who has the file's directory open.
fn note_holder(env: &Arc<dyn Env>, path: &Path, report: &mut Report) -> Result<(), Error> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Some(holder) = env.lock_holder(&dir.join(LOCK))? {
        report.note(format!("the directory is in use by {holder}; what is shown may have changed since"));
    }
    Ok(())
}

fn kind_of(path: &Path, file: &dyn File) -> Result<Option<FileKind>, Error> {
    let len = file.len()?;
    let mut head = [0; 8];
    let mut tail = [0; 8];
    file.read_at(&mut head, 0)?;
    file.read_at(&mut tail, len.saturating_sub(8))?;
    let by_magic = match &head {
        b"ssdb-wal" => Some(FileKind::Segment),
        b"ssdb-buf" => Some(FileKind::LogBuffer),
        b"SSDMANIF" => Some(FileKind::Manifest),
        _ if tail == footer::MAGIC.to_le_bytes() => Some(FileKind::Sst),
        _ => None,
    };
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    Ok(by_magic.or_else(|| kind_by_name(&name)))
}

fn kind_by_name(name: &str) -> Option<FileKind> {
    match name {
        CURRENT | CURRENT_TEMPORARY => Some(FileKind::Current),
        BUFFER_NAME => Some(FileKind::LogBuffer),
        _ if parse_manifest_name(name).is_some() => Some(FileKind::Manifest),
        _ if parse_sst_name(name).is_some() => Some(FileKind::Sst),
        _ if name.ends_with(".wal") => Some(FileKind::Segment),
        _ => None,
    }
}

/// The `len` bytes at `offset`.
///
/// # Errors
/// Corruption when the file ends before; I/O.
fn read(file: &dyn File, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
    let end = offset.saturating_add(len as u64);
    let file_len = file.len()?;
    if end > file_len {
        let what = format!("file ends at {file_len}, inside what is expected up to {end}");
        return Err(Error::corruption(file.path(), offset, what));
    }
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, offset)?;
    bytes.truncate(got);
    if got < len {
        return Err(Error::corruption(file.path(), offset + got as u64, "file became shorter while it was read"));
    }
    Ok(bytes)
}

/// All of a file.
fn read_all(file: &dyn File) -> Result<Vec<u8>, Error> {
    read(file, 0, file.len()? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kinds() {
        assert_eq!(kind_by_name("000007.sst"), Some(FileKind::Sst));
        assert_eq!(kind_by_name("000007.wal"), Some(FileKind::Segment));
        assert_eq!(kind_by_name("MANIFEST-000001"), Some(FileKind::Manifest));
        assert_eq!(kind_by_name("CURRENT"), Some(FileKind::Current));
        assert_eq!(kind_by_name("LOGBUF"), Some(FileKind::LogBuffer));
        assert_eq!(kind_by_name("notes.txt"), None);
    }
}
