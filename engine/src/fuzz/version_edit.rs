//! Fuzzing of the edit decoder: what it accepts must survive another round trip.

use crate::format::version_edit::VersionEdit;

/// Decodes `data` as an edit.
///
/// # Panics
/// When an accepted edit does not decode to itself again, which is a bug.
#[doc(hidden)]
pub fn fuzz_version_edit(data: &[u8]) {
    if let Ok(edit) = VersionEdit::decode(data) {
        assert_eq!(VersionEdit::decode(&edit.encode()).as_ref(), Ok(&edit), "an edit reads back as itself");
    }
}
