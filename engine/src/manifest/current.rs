//! `CURRENT`: the file that names the manifest in force, and how it is switched from one to the next.
//!
//! Its text is the manifest's name and, on a second line, the checksum of the first line in hex. It is replaced as a
//! whole: a temporary file is written and synced, then renamed over it, then the directory is synced. So it always names
//! either the old manifest or the new one, both of which are complete.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::base::checksum::Checksum;
use crate::base::ids::FileNumber;
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};

use super::{manifest_name, parse_manifest_name};

/// The file's name.
pub const CURRENT: &str = "CURRENT";
/// What the next CURRENT is called until it is renamed.
pub const CURRENT_TEMPORARY: &str = "CURRENT.tmp";
/// More than the text ever takes; a longer file is not ours.
const LEN_MAX: u64 = 64;

/// The text that names manifest `number`.
#[must_use]
pub fn encode(number: FileNumber) -> Vec<u8> {
    let mut text = manifest_name(number).into_bytes();
    text.push(b'\n');
    let checksum = Checksum::of(&text);
    text.extend_from_slice(format!("{:08x}\n", checksum.0).as_bytes());
    text
}

/// The manifest that `text` names.
///
/// # Errors
/// Offset in the text and what is wrong there.
pub fn decode(text: &[u8]) -> Result<FileNumber, (u64, String)> {
    let Some(end) = text.iter().position(|&byte| byte == b'\n') else {
        return Err((0, format!("no complete line in {} bytes", text.len())));
    };
    let (line, rest) = text.split_at(end + 1);
    let number = std::str::from_utf8(&line[..end]).ok().and_then(parse_manifest_name);
    let Some(number) = number else {
        return Err((0, "the first line is not the name of a manifest".to_owned()));
    };
    if rest.is_empty() {
        return Err((line.len() as u64, "no checksum line: cut, or written by another engine".to_owned()));
    }
    let expected = format!("{:08x}\n", Checksum::of(line).0);
    if rest != expected.as_bytes() {
        return Err((line.len() as u64, format!("the checksum line is not {}", expected.trim_end())));
    }
    Ok(number)
}

/// The manifest that is in force in `dir`; `None` when there is no CURRENT.
///
/// # Errors
/// Corruption when CURRENT is not what [`encode`] writes; I/O.
pub fn read(env: &Arc<dyn Env>, dir: &Path) -> Result<Option<FileNumber>> {
    let path = dir.join(CURRENT);
    let file = match env.open(&path, OpenMode::READ) {
        Ok(file) => file,
        Err(error) if is_kind(&error, io::ErrorKind::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > LEN_MAX {
        return Err(Error::corruption(&path, 0, format!("{len} bytes are too many for the name of a manifest")));
    }
    let mut text = vec![0; len as usize];
    let got = file.read_at(&mut text, 0)?;
    text.truncate(got);
    decode(&text).map(Some).map_err(|(offset, what)| Error::corruption(&path, offset, what))
}

/// Makes CURRENT name manifest `number`.
///
/// # Errors
/// I/O. CURRENT may then name the old manifest or the new one.
pub fn switch(env: &Arc<dyn Env>, dir: &Path, number: FileNumber) -> Result<()> {
    let temporary = dir.join(CURRENT_TEMPORARY);
    remove_if_there(env, &temporary)?;
    let file = env.open(&temporary, OpenMode::CREATE)?;
    file.write_at(&encode(number), 0)?;
    file.sync()?;
    drop(file);
    env.rename(&temporary, &dir.join(CURRENT))?;
    env.sync_dir(dir)
}

/// Removes a file that may not exist.
pub(super) fn remove_if_there(env: &Arc<dyn Env>, path: &Path) -> Result<()> {
    match env.remove(path) {
        Err(error) if is_kind(&error, io::ErrorKind::NotFound) => Ok(()),
        done => done,
    }
}

/// Whether the operating system refused for the reason `kind`.
pub(crate) fn is_kind(error: &Error, kind: io::ErrorKind) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_fixed() {
        let text = encode(FileNumber(7));
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            format!("MANIFEST-000007\n{:08x}\n", Checksum::of(&text[..16]).0)
        );
        assert_eq!(decode(&text), Ok(FileNumber(7)));
        let long = encode(FileNumber(u64::MAX));
        assert!(long.len() as u64 <= LEN_MAX);
        assert_eq!(decode(&long), Ok(FileNumber(u64::MAX)));
    }

    #[test]
    fn every_cut_and_every_flip_is_refused() {
        let text = encode(FileNumber(1_234_567));
        for cut in 0..text.len() {
            assert!(decode(&text[..cut]).is_err(), "cut to {cut}");
        }
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bad = text.clone();
                bad[at] ^= 1 << bit;
                assert!(decode(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(decode(b"MANIFEST-000005\n").unwrap_err().1.contains("another engine"));
        assert!(decode(b"MANIFEST-0000005\n").is_err(), "not the form that is written");
    }
}
