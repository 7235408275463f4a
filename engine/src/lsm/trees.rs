//! Trees by name: found in the version, created by an edit.

use crate::base::ids::TreeId;
use crate::base::limits::TREE_NAME_LEN_MAX;
use crate::error::{Error, Result};
use crate::format::version_edit::{TreeEdit, VersionEdit};
use crate::lsm::Lsm;
use crate::lsm::row_host::TreeKind;

impl Lsm {
    /// The tree called `name` and its kind, when it exists.
    ///
    /// # Errors
    /// I/O, corruption; usage for a kind that a later version of the engine made.
    pub fn find_tree(&self, name: &[u8]) -> Result<Option<(TreeId, TreeKind)>> {
        let view = self.view_full()?;
        let found = view.version.trees.iter().find(|(_, tree)| tree.name == name);
        found.map(|(&id, tree)| Ok((id, TreeKind::from_options(&tree.options)?))).transpose()
    }

    /// The tree called `name`, created as one of `kind` when it does not exist.
    ///
    /// # Errors
    /// Usage when it exists as one of another kind, or when the name is too long; I/O, corruption, closed.
    pub fn open_tree(&self, name: &[u8], kind: TreeKind) -> Result<TreeId> {
        if let Some(found) = self.find_tree(name)? {
            return of_kind(name, found, kind);
        }
        if name.len() > TREE_NAME_LEN_MAX {
            return Err(Error::usage(
                format!("name of a tree has {} bytes", name.len()),
                format!("A name may have at most {TREE_NAME_LEN_MAX} bytes."),
            ));
        }
        self.check_open()?;
        let claim = self.claim_manifest()?;
        self.catch_up_claimed(&claim)?;
        if let Some(found) = self.find_tree(name)? {
            return of_kind(name, found, kind);
        }
        let id = TreeId(self.local_view().version.next_tree);
        let created = TreeEdit::Created { id, name: name.to_vec(), options: kind.to_options() };
        self.install(&claim, VersionEdit { trees: vec![created], ..VersionEdit::default() })?;
        Ok(id)
    }
}

fn of_kind(name: &[u8], (id, found): (TreeId, TreeKind), wanted: TreeKind) -> Result<TreeId> {
    if found == wanted {
        return Ok(id);
    }
    let message = format!("tree \"{}\" holds {found}, not {wanted}", name.escape_ascii());
    Err(Error::usage(message, "Open it as what it was created, or choose another name."))
}

impl std::fmt::Display for TreeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Values => "values",
            Self::Rows => "rows of transactions",
            Self::Locks => "row locks",
        })
    }
}
