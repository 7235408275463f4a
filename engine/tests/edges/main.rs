//! Edges of the API on real files: whatever is wrong is a clear error that names the file, the offset or the option, and
//! what was stored stays as it was.
#![expect(clippy::unwrap_used, reason = "what fails here is a test, in its helpers, too")]

mod admin;
mod close;
mod damage;
mod directory;
mod keys;
mod options;
mod place;
