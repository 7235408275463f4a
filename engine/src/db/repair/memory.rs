//! What the manifests of a damaged directory still tell.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level, Lsn, SeqNo, TreeId};
use crate::db::open::FORMAT;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::format::version_edit::{Identity, TreeEdit, TreeOptionsBytes, VersionEdit};
use crate::manifest::{Manifest, current};

/// What manifests still tell.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) identity: Option<Identity>,
    pub(super) version: u64,
    pub(super) durable: Option<Lsn>,
    pub(super) last_seqno: SeqNo,
    pub(super) next_file: u64,
    pub(super) next_tree: u64,
    pub(super) trees: BTreeMap<TreeId, (Vec<u8>, TreeOptionsBytes)>,
    pub(super) files: BTreeMap<FileNumber, Level>,
}

impl Memory {
    fn learn(&mut self, edit: VersionEdit) {
        self.identity = edit.identity.or(self.identity);
        self.version = edit.version.unwrap_or(self.version.saturating_add(1));
        self.durable = self.durable.max(edit.durable);
        self.last_seqno = self.last_seqno.max(edit.last_seqno.unwrap_or_default());
        self.next_file = self.next_file.max(edit.next_file.unwrap_or(0));
        self.next_tree = self.next_tree.max(edit.next_tree.unwrap_or(0));
        for tree in edit.trees {
            match tree {
                TreeEdit::Created { id, name, options } => {
                    self.next_tree = self.next_tree.max(id.0.saturating_add(1));
                    self.trees.insert(id, (name, options));
                }
                TreeEdit::Dropped { id } => {
                    self.trees.remove(&id);
                }
            }
        }
        for (_, number) in edit.deleted {
            self.files.remove(&number);
        }
        self.files.extend(edit.added.iter().map(|(level, file)| (file.number, *level)));
    }
}

/// What the manifest in force tells up to where it is damaged, or the newest other one that tells whose it is; and whether
/// it was the one in force, without damage.
pub(super) fn remember(env: &Arc<dyn Env>, dir: &Path, manifests: &[FileNumber]) -> Result<(Memory, bool)> {
    let in_force = current::read(env, dir).ok().flatten();
    let others = manifests.iter().rev().copied().filter(|&number| Some(number) != in_force);
    for number in in_force.into_iter().chain(others) {
        let mut memory = Memory::default();
        let outcome = Manifest::read(env, dir, number, &mut |edit| {
            memory.learn(edit);
            Ok(())
        });
        if let Err(error @ Error::Usage { .. }) = outcome {
            return Err(error);
        }
        let Some(identity) = memory.identity else { continue };
        if identity.format > FORMAT {
            return Err(Error::usage(
                format!(
                    "directory \"{}\" has format {}, this engine knows up to {FORMAT}",
                    dir.display(),
                    identity.format
                ),
                "Repair it with the version of the engine that wrote it, or a newer one.",
            ));
        }
        return Ok((memory, outcome.is_ok() && Some(number) == in_force));
    }
    Ok((Memory::default(), false))
}
