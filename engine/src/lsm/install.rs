//! Making a new version: append an edit to the manifest, swap the view, tell the others.
//!
//! Everything here happens under the manifest claim, which may be held over I/O. The order is: catch up with what other
//! processes appended, apply, append and sync, swap this process's view, raise `Control::version` and the generation.
//!
//! Files that leave the version are removed when every pin is of a later generation, whichever process holds it, and no host
//! wants them to stay. A manifest that another one replaced is treated like them then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{FileNumber, SeqNo};
use crate::env::OpenMode;
use crate::error::{Error, Result};
use crate::format::version_edit::VersionEdit;
use crate::lsm::Lsm;
use crate::lsm::stats::Counter;
use crate::lsm::version::Version;
use crate::lsm::version::builder::load;
use crate::lsm::view::View;
use crate::manifest::{Manifest, manifest_name};
use crate::mem::lock::LockGuard;

/// A file that left the version at a generation, or a manifest that is no longer in force.
pub struct Obsolete {
    number: FileNumber,
    generation: u64,
    is_manifest: bool,
}

/// Proof that the caller holds the manifest claim.
pub struct ManifestClaim<'l>(#[expect(dead_code, reason = "held for its drop")] LockGuard<'l>);

impl Lsm {
    /// Takes the manifest claim: the right to pick jobs and to append edits.
    ///
    /// # Errors
    /// Closed, when its last holder died with it.
    pub(crate) fn claim_manifest(&self) -> Result<ManifestClaim<'_>> {
        self.hold(|| self.control().manifest.lock()).map(ManifestClaim)
    }

    /// Applies `edit` to the newest version and makes the result current. Returns the generation that has it.
    ///
    /// # Errors
    /// I/O: the edit may or may not be in the manifest, so the engine is shut for writing; unless the disk is full and the
    /// edit is not in the manifest: then its new files are removed and it may be tried again. Corruption when the edit does
    /// not fit the version.
    pub(crate) fn install(&self, _claim: &ManifestClaim<'_>, mut edit: VersionEdit) -> Result<u64> {
        self.catch_up()?;
        edit.next_file = Some(self.control().next_file.load(Ordering::SeqCst));
        let old = self.views.load_full();
        let next = old.version.apply(&edit).map_err(|what| self.misfit(&what))?;
        if let Err(error) = self.append(&edit, &next) {
            if error.is_no_space() && self.manifest.lock().as_ref().is_some_and(|m| m.poisoned().is_none()) {
                self.remove_new_files(&edit, &old.version);
            } else {
                self.control().poison();
            }
            return Err(error);
        }
        let number = next.number;
        let gone = self.views.install(next);
        self.control().version.store(number, Ordering::SeqCst);
        let generation = self.control().advance_generation();
        self.obsolete.lock().extend(gone.iter().map(|f| Obsolete {
            number: f.meta.number,
            generation,
            is_manifest: false,
        }));
        Ok(generation)
    }

    /// Appends `edit`, or starts a new manifest with all of `next` when the old one has grown too long.
    fn append(&self, edit: &VersionEdit, next: &Version) -> Result<()> {
        let mut slot = self.manifest.lock();
        let manifest = slot.as_mut().expect("catch_up opened it");
        let before = manifest.end_offset();
        let mut end = manifest.append(edit)?;
        self.stats().add(Counter::ManifestBytes, end - before);
        if manifest.should_rewrite() {
            self.replace(manifest, next)?;
            end = manifest.end_offset();
        }
        self.control().manifest_bytes.store(end, Ordering::SeqCst);
        Ok(())
    }

    /// Puts a new manifest with all of `version` in the place of one that has grown long, if there is space for it.
    fn replace(&self, manifest: &mut Manifest, version: &Version) -> Result<()> {
        // Without space for a new one the old one goes on; once CURRENT may name the new one, it may not.
        match self.fresh_manifest(version) {
            Ok(fresh) => {
                let old = std::mem::replace(manifest, fresh).number();
                manifest.switch(&self.env, &self.dir)?;
                self.control().manifest_number.store(manifest.number().0, Ordering::SeqCst);
                if self.keeps_files() {
                    let generation = self.control().generation.load(Ordering::SeqCst);
                    self.obsolete.lock().push(Obsolete { number: old, generation, is_manifest: true });
                } else {
                    let _ = self.env.remove(&self.dir.join(manifest_name(old)));
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the manifest stays long"),
        }
        Ok(())
    }

    /// As if the manifest had grown long.
    #[cfg(test)]
    pub(crate) fn replace_manifest(&self) -> Result<()> {
        let _claim = self.claim_manifest()?;
        self.catch_up()?;
        let mut slot = self.manifest.lock();
        let manifest = slot.as_mut().expect("catch_up opened it");
        self.replace(manifest, &self.local_view().version)?;
        self.control().manifest_bytes.store(manifest.end_offset(), Ordering::SeqCst);
        Ok(())
    }

    /// Removes the files of an edit that did not come to be; those of `old` stay. What cannot be removed is an orphan that
    /// the next open finds.
    fn remove_new_files(&self, edit: &VersionEdit, old: &Version) {
        let known = |number| old.files().any(|(_, file)| file.number == number);
        for (_, file) in edit.added.iter().filter(|(_, file)| !known(file.number)) {
            let _ = self.env.remove(&self.opener.path(file.number));
        }
    }

    /// Applies what other processes have appended since this one looked.
    pub(crate) fn follow(&self) -> Result<()> {
        let _claim = self.claim_manifest()?;
        self.catch_up()
    }

    /// As [`follow`](Self::follow), for the holder of the claim.
    pub(crate) fn catch_up_claimed(&self, _claim: &ManifestClaim<'_>) -> Result<()> {
        self.catch_up()
    }

    /// Starts a new manifest with the whole version: an open does not append to the one that it found.
    pub(crate) fn rewrite_manifest(&self) -> Result<()> {
        let _claim = self.claim_manifest()?;
        let mut fresh = self.fresh_manifest(&self.local_view().version)?;
        fresh.switch(&self.env, &self.dir)?;
        self.control().manifest_number.store(fresh.number().0, Ordering::SeqCst);
        self.control().manifest_bytes.store(fresh.end_offset(), Ordering::SeqCst);
        *self.manifest.lock() = Some(fresh);
        Ok(())
    }

    /// A new manifest with all of `version`, not in force yet.
    fn fresh_manifest(&self, version: &Version) -> Result<Manifest> {
        let control = self.control();
        let number = self.take_file_number();
        let mut snapshot = version.snapshot_edit();
        snapshot.next_file = Some(control.next_file.load(Ordering::SeqCst));
        let fresh = Manifest::write_new(&self.env, &self.dir, number, &snapshot)?;
        self.stats().add(Counter::ManifestBytes, fresh.end_offset());
        Ok(fresh)
    }

    /// Brings this process's version and its open manifest up to the newest edit. Under the manifest claim.
    fn catch_up(&self) -> Result<()> {
        let control = self.control();
        let number = FileNumber(control.manifest_number.load(Ordering::SeqCst));
        let end = control.manifest_bytes.load(Ordering::SeqCst);
        let mut slot = self.manifest.lock();
        let mut version = Version::clone(&self.views.load().version);
        let known = version.number;
        match slot.as_mut().filter(|manifest| manifest.number() == number) {
            Some(manifest) => manifest.catch_up(end, &mut |edit| {
                version = version.apply(&edit)?;
                Ok(())
            })?,
            None => {
                let (newest, loaded) = load(&self.env, &self.dir)?;
                *slot = Some(Manifest::resume(&self.env, &self.dir, &loaded)?);
                version = newest;
            }
        }
        if version.number != known {
            self.views.install(version);
        }
        Ok(())
    }

    fn misfit(&self, what: &str) -> Error {
        let number = FileNumber(self.control().manifest_number.load(Ordering::SeqCst));
        let offset = self.control().manifest_bytes.load(Ordering::SeqCst);
        Error::corruption(&self.dir.join(manifest_name(number)), offset, what)
    }

    /// Removes files that nobody can read any more; how many.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn remove_obsolete(&self) -> Result<usize> {
        let oldest = self.pins.oldest();
        let ready: Vec<_> = {
            let mut waiting = self.obsolete.lock();
            let (ready, rest) = waiting.drain(..).partition(|f| oldest.is_none_or(|pin| pin >= f.generation));
            *waiting = rest;
            ready
        };
        // Asked after they left the version, all of them.
        if !ready.is_empty() && self.keeps_files() {
            self.obsolete.lock().extend(ready);
            return Ok(0);
        }
        let count = ready.len();
        let mut ready = ready.into_iter();
        while let Some(file) = ready.next() {
            let path = if file.is_manifest {
                self.dir.join(manifest_name(file.number))
            } else {
                self.opener.path(file.number)
            };
            self.give_space_back(&file, &path);
            if let Err(error) = self.env.remove(&path) {
                // What is left takes space until it is gone: it is tried again.
                self.obsolete.lock().extend(std::iter::once(file).chain(ready));
                return Err(error);
            }
            if !file.is_manifest {
                self.cache.erase_file(file.number);
                self.stats().add(Counter::FilesRemoved, 1);
            }
        }
        Ok(count)
    }

    /// Empties a file that is about to be removed: processes of a host that do nothing keep it open until their next call. (An
    /// engine of its own may have given the file a second name, in a checkpoint.)
    fn give_space_back(&self, file: &Obsolete, path: &Path) {
        if self.is_hosted() && !file.is_manifest {
            // Best effort: the removal follows, and says what is wrong.
            let _ = self.env.open(path, OpenMode::WRITE).and_then(|open| open.set_len(0));
        }
    }

    /// Whether files wait for their removal.
    pub(crate) fn has_obsolete(&self) -> bool {
        !self.obsolete.lock().is_empty()
    }

    /// Sequence numbers that somebody may read at, ascending: the live snapshots and what is visible now. Read in this order
    /// and used only for entries that were visible before the call, see `mem::snapshots`.
    pub(crate) fn live_snapshots(&self) -> Vec<SeqNo> {
        let visible = self.visible();
        let mut out = Vec::new();
        self.snapshots.list(&mut out);
        if let Err(at) = out.binary_search(&visible) {
            out.insert(at, visible);
        }
        out
    }

    /// The current view of this process, without following.
    pub(crate) fn local_view(&self) -> Arc<View> {
        self.views.load_full()
    }
}
