//! Copies of finished segments in another directory.
//!
//! A copy gets its name when all of it is on stable storage, so a file of that name is complete.

use std::io::ErrorKind;
use std::path::Path;

use super::LogPlace;
use super::segments::segment_name;
use crate::env::OpenMode;
use crate::error::{Error, Result};
use crate::format::log_segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::mem::aligned::AlignedBuf;

const COPY_LEN: usize = 1 << 20;

/// Copies segment `number` to `dir` unless it is there already; true when it was copied. The segment is finished and
/// nobody removes it meanwhile.
pub(super) fn archive(place: &LogPlace, number: u64, dir: &Path) -> Result<bool> {
    let (env, name) = (&place.env, segment_name(number));
    let target = dir.join(&name);
    if is_archived(place, number, &target)? {
        return Ok(false);
    }
    let new = dir.join(format!("{name}.tmp"));
    match env.remove(&new) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
        other => other?,
    }
    let copied = copy(place, number, &new);
    if copied.is_err() {
        // Half a copy only takes space; the first error is the one to report.
        let _ = env.remove(&new);
        return copied.map(|()| false);
    }
    env.rename(&new, &target)?;
    env.sync_dir(dir)?;
    Ok(true)
}

fn is_archived(place: &LogPlace, number: u64, target: &Path) -> Result<bool> {
    let file = match place.env.open(target, OpenMode::READ) {
        Ok(file) => file,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(false),
        Err(other) => return Err(other),
    };
    let mut bytes = AlignedBuf::zeroed(SEGMENT_HEADER_LEN);
    let len = file.read_at(&mut bytes, 0)?;
    let wanted = SegmentHeader { number, data_len: place.options.segment_bytes, uuid: place.uuid };
    if SegmentHeader::decode(&bytes[..len]) != Ok(wanted) || file.len()? != place.file_len() {
        return Err(Error::usage(
            format!("log archive holds another file \"{}\"", target.display()),
            "Give each engine an archive directory of its own.",
        ));
    }
    Ok(true)
}

fn copy(place: &LogPlace, number: u64, new: &Path) -> Result<()> {
    let from = place.open_segment(number, false)?;
    let to = place.env.open(new, OpenMode { direct: place.options.direct, ..OpenMode::CREATE })?;
    let mut buf = AlignedBuf::zeroed(COPY_LEN);
    let mut offset = 0;
    while offset < place.file_len() {
        let len = (place.file_len() - offset).min(COPY_LEN as u64) as usize;
        buf.set_len(len);
        if from.read_at(&mut buf, offset)? != len {
            return Err(Error::corruption(from.path(), offset, "segment became shorter while it was archived"));
        }
        to.write_at(&buf, offset)?;
        offset += len as u64;
    }
    to.sync()
}
