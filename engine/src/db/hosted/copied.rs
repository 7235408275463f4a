//! Opening a copy of the directory that was taken file by file while an engine worked in it, such as a base backup of the host.
//!
//! The host replays its log from position R on, which was durable before the first file was copied, and whoever copied was
//! kept from losing files: what left the version meanwhile stayed ([`keeps_files`](crate::lsm::hosted::Host::keeps_files)). So the copy holds
//!
//! * every file of the version that was in force when the copy began, whole, and the manifest that was in force then, at
//!   least as long as it was then; and
//! * of what came later, anything: a longer manifest, one more of them (named by `CURRENT` or not, whole or torn), files that
//!   are missing, or were copied while they were written.
//!
//! A prefix of a manifest's edits whose durable position is at least R and whose files are all whole is therefore a state
//! from which the log supplies the rest. This finds the longest one of the newest manifest that has one. It exists, because the
//! version in force when the copy began is one.
//!
//! Which files are whole: those of the first state that has R. They were in the version before the copy began, or left it before,
//! and then what is there of them is whole, too. All others may have been copied half way and are read to their end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::base::ids::{FileNumber, Lsn};
use crate::db::open::list_if_there;
use crate::db::verify::contradiction;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::lsm::version::Version;
use crate::lsm::version::builder::VersionBuilder;
use crate::lsm::view::{parse_sst_name, sst_name};
use crate::manifest::{Manifest, current, manifest_name, parse_manifest_name};
use crate::sst::SstReader;

/// The state that a copy is opened in.
pub(super) struct Found {
    /// The version. Its next file number is above that of every file in the directory.
    pub version: Version,
    /// The manifest it was found in.
    pub number: FileNumber,
    /// Edits behind it that are undone.
    pub undone: usize,
}

/// Finds the state to open the copy in `dir` in, whose log is replayed from `replay_from` on. `None`: no state that has that
/// much can be read; what `CURRENT` names is all there is.
///
/// # Errors
/// I/O.
pub(super) fn find(env: &Arc<dyn Env>, dir: &Path, direct: bool, replay_from: Lsn) -> Result<Option<Found>> {
    let Some(names) = list_if_there(&**env, dir)? else { return Ok(None) };
    let mut histories = BTreeMap::new();
    for number in names.iter().filter_map(|name| parse_manifest_name(name)) {
        if let Some(history) = History::read(env, dir, number)? {
            histories.insert(number, history);
        }
    }
    let Some(whole) = histories.values().find_map(|history| history.first_state_with(replay_from)) else {
        return Ok(None);
    };
    let mut files = Files { env, dir, direct, whole, judged: HashMap::new() };
    // What CURRENT names comes first: after an open that was cut short, it names what that open wrote.
    let in_force = current::read(env, dir).ok().flatten();
    let newest_first = histories.keys().rev().copied();
    let order = in_force.into_iter().chain(newest_first.filter(|number| Some(*number) != in_force));
    for number in order {
        let Some(history) = histories.get(&number) else { continue };
        if let Some(count) = history.longest_sound_prefix(replay_from, &mut files)? {
            let mut version = history.version_after(count).map_err(|what| {
                Error::corruption(&dir.join(manifest_name(number)), 0, format!("after {count} edits {what}"))
            })?;
            let numbers = names.iter().filter_map(|name| parse_sst_name(name).or_else(|| parse_manifest_name(name)));
            let past = numbers.map(|number| number.0.saturating_add(1)).max().unwrap_or(0);
            version.next_file = version.next_file.max(past);
            return Ok(Some(Found { version, number, undone: history.edits.len() - count }));
        }
    }
    Ok(None)
}

/// Files that a version has.
type LiveFiles = BTreeMap<FileNumber, Arc<FileMeta>>;

/// The edits of a manifest, as far as it can be read.
struct History {
    edits: Vec<VersionEdit>,
}

impl History {
    /// Reads manifest `number`; `None` when it does not even have its snapshot.
    fn read(env: &Arc<dyn Env>, dir: &Path, number: FileNumber) -> Result<Option<Self>> {
        let mut edits = Vec::new();
        let mut builder = VersionBuilder::default();
        let read = Manifest::read(env, dir, number, &mut |edit| {
            builder.apply(&edit)?;
            edits.push(edit);
            Ok(())
        });
        match read {
            // The end of a manifest that was copied while it was written is damage here and no more.
            Ok(_) | Err(Error::Corruption { .. }) => Ok((!edits.is_empty()).then_some(Self { edits })),
            Err(error) => Err(error),
        }
    }

    /// The files of the first state whose durable position is at least `durable`.
    fn first_state_with(&self, durable: Lsn) -> Option<BTreeSet<FileNumber>> {
        let mut files = BTreeSet::new();
        for edit in &self.edits {
            for (_, number) in &edit.deleted {
                files.remove(number);
            }
            files.extend(edit.added.iter().map(|(_, meta)| meta.number));
            if edit.durable.is_some_and(|at| at >= durable) {
                return Some(files);
            }
        }
        None
    }

    /// How many edits make the longest prefix that has everything below `durable` in files that are whole.
    fn longest_sound_prefix(&self, durable: Lsn, files: &mut Files<'_>) -> Result<Option<usize>> {
        // Reading a file to its end is dear, so it is done only for files of a prefix that would be taken.
        loop {
            let Some((count, live)) = self.longest_prefix_without(durable, files)? else { return Ok(None) };
            let mut sound = true;
            for meta in live.values() {
                sound &= files.is_whole(meta)?;
            }
            if sound {
                return Ok(Some(count));
            }
        }
    }

    /// As [`longest_sound_prefix`](Self::longest_sound_prefix), by what is known of files without reading all of them.
    fn longest_prefix_without(&self, durable: Lsn, files: &mut Files<'_>) -> Result<Option<(usize, LiveFiles)>> {
        let (mut live, mut bad) = (BTreeMap::new(), BTreeSet::new());
        let (mut at, mut best) = (Lsn(0), None);
        for (count, edit) in (1..).zip(&self.edits) {
            for (_, number) in &edit.deleted {
                live.remove(number);
                bad.remove(number);
            }
            for (_, meta) in &edit.added {
                live.insert(meta.number, Arc::clone(meta));
                if !files.seems_whole(meta)? {
                    bad.insert(meta.number);
                }
            }
            at = edit.durable.unwrap_or(at);
            if bad.is_empty() && at >= durable {
                best = Some((count, live.clone()));
            }
        }
        Ok(best)
    }

    fn version_after(&self, count: usize) -> Result<Version, String> {
        let mut builder = VersionBuilder::default();
        for edit in &self.edits[..count] {
            builder.apply(edit)?;
        }
        builder.finish()
    }
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// It is missing, cut off or damaged.
    Bad,
    /// It has its length and its footer.
    Seems,
    /// All of it is as it was written.
    Whole,
}

/// The files of the copy.
struct Files<'c> {
    env: &'c Arc<dyn Env>,
    dir: &'c Path,
    direct: bool,
    /// These are whole if they are there.
    whole: BTreeSet<FileNumber>,
    judged: HashMap<FileNumber, Judged>,
}

impl Files<'_> {
    fn seems_whole(&mut self, meta: &FileMeta) -> Result<bool> {
        if let Some(judged) = self.judged.get(&meta.number) {
            return Ok(*judged != Judged::Bad);
        }
        let judged = match self.open(meta)? {
            None => Judged::Bad,
            Some(_) if self.whole.contains(&meta.number) => Judged::Whole,
            Some(_) => Judged::Seems,
        };
        self.judged.insert(meta.number, judged);
        Ok(judged != Judged::Bad)
    }

    fn is_whole(&mut self, meta: &FileMeta) -> Result<bool> {
        if self.seems_whole(meta)? && self.judged.get(&meta.number) == Some(&Judged::Seems) {
            let reader = self.open(meta)?;
            let verified = reader.map(|reader| reader.verify(&mut |_| ()));
            let judged = match verified {
                Some(Ok(())) => Judged::Whole,
                None | Some(Err(Error::Corruption { .. })) => Judged::Bad,
                Some(Err(error)) => return Err(error),
            };
            self.judged.insert(meta.number, judged);
        }
        Ok(self.judged.get(&meta.number) == Some(&Judged::Whole))
    }

    /// Opens a file; `None` when it is missing or not what `meta` says.
    fn open(&self, meta: &FileMeta) -> Result<Option<SstReader>> {
        let path = self.dir.join(sst_name(meta.number));
        match SstReader::open(self.env, &path, meta.number, self.direct) {
            Ok(reader) => Ok(contradiction(&reader, meta).is_none().then_some(reader)),
            Err(Error::Corruption { .. }) => Ok(None),
            Err(error) if current::is_kind(&error, std::io::ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
