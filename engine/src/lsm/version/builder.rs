//! Applies many edits at the price of one version: for loading a manifest, where a version per edit would copy every level
//! again and again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level};
use crate::base::limits::LEVEL_COUNT;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::manifest::{Loaded, Manifest, manifest_name};

use super::Version;
use super::level::LevelFiles;

/// A version under construction. Order and disjointness are checked once, at the end.
#[derive(Debug, Default)]
pub struct VersionBuilder {
    /// Everything but the files; its levels stay empty.
    head: Version,
    files: HashMap<FileNumber, (Level, Arc<FileMeta>)>,
}

impl VersionBuilder {
    /// Applies `edit`.
    ///
    /// # Errors
    /// Says what in the edit contradicts those before it; the builder is then of no use.
    pub fn apply(&mut self, edit: &VersionEdit) -> Result<(), String> {
        self.head.apply_head(edit)?;
        for (level, number) in &edit.deleted {
            match self.files.entry(*number) {
                Entry::Occupied(found) if found.get().0 == *level => {
                    found.remove();
                }
                _ => return Err(format!("{level}: file {number} is deleted but not there")),
            }
        }
        for (level, file) in &edit.added {
            match self.files.entry(file.number) {
                Entry::Vacant(free) => free.insert((*level, Arc::clone(file))),
                Entry::Occupied(taken) => {
                    return Err(format!("file {} is added but exists in {}", file.number, taken.get().0));
                }
            };
        }
        Ok(())
    }

    /// The version after all edits.
    ///
    /// # Errors
    /// Says which files overlap in a level that does not allow it.
    pub fn finish(self) -> Result<Version, String> {
        let mut levels: [Vec<_>; LEVEL_COUNT] = Default::default();
        for (level, file) in self.files.into_values() {
            levels[level.index()].push(file);
        }
        let mut version = self.head;
        for (at, files) in levels.into_iter().enumerate() {
            version.levels[at] = Arc::new(LevelFiles::build(Level(at as u8), files)?);
        }
        Ok(version)
    }
}

/// The version that the manifest in force in `dir` describes.
///
/// # Errors
/// As [`Manifest::load`].
pub fn load(env: &Arc<dyn Env>, dir: &Path) -> Result<(Version, Loaded)> {
    let mut builder = VersionBuilder::default();
    let loaded = Manifest::load(env, dir, &mut |edit| builder.apply(&edit))?;
    let version = builder.finish().map_err(|why| {
        Error::corruption(&dir.join(manifest_name(loaded.number)), loaded.end_offset, format!("at its end {why}"))
    })?;
    Ok((version, loaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::memory::MemoryEnv;
    use crate::format::version_edit::samples::file;

    fn add(level: u8, number: u64, smallest: &[u8], largest: &[u8]) -> VersionEdit {
        let added = vec![(Level(level), Arc::new(file(number, smallest, largest, (1, number))))];
        VersionEdit { added, ..VersionEdit::default() }
    }

    #[test]
    fn a_loaded_version_is_the_one_that_was_written() {
        let (env, dir): (Arc<dyn Env>, _) = (MemoryEnv::new(1), Path::new("/db"));
        env.create_dir(dir).unwrap();
        let mut version = Version::empty().apply(&add(1, 2, b"a", b"c")).unwrap();
        let mut manifest = Manifest::create(&env, dir, FileNumber(1), &version.snapshot_edit()).unwrap();
        let moved = VersionEdit { deleted: vec![(Level(1), FileNumber(2))], ..add(2, 2, b"a", b"c") };
        for edit in [add(0, 3, b"a", b"z"), moved, add(1, 5, b"b", b"d")] {
            version = version.apply(&edit).unwrap();
            manifest.append(&edit).unwrap();
        }
        let (loaded, at) = load(&env, dir).unwrap();
        assert_eq!((loaded, at.end_offset), (version, manifest.end_offset()));
        manifest.append(&add(1, 6, b"d", b"e")).unwrap();
        let error = load(&env, dir).unwrap_err().to_string();
        assert!(error.contains("MANIFEST-000001") && error.contains("files 000005 and 000006 overlap"), "{error}");
        let mut manifest = Manifest::create(&env, dir, FileNumber(7), &add(1, 2, b"a", b"c")).unwrap();
        let end = manifest.append(&add(1, 3, b"d", b"e")).unwrap();
        manifest.append(&add(3, 2, b"a", b"c")).unwrap();
        let error = load(&env, dir).unwrap_err().to_string();
        assert!(error.contains(&format!("offset {end}")) && error.contains("exists in L1"), "{error}");
    }
}
