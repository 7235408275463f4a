//! Layer 5: rows with versions, judged by transactions.
//!
//! A tree of rows keeps every version of a row under the row's key; its value says who wrote it
//! ([`row_version`](crate::format::row_version)). Sequence numbers only order the versions of one key: whether a version
//! counts is decided by the reader's [`snapshot`] and by the [`status`] of its writer. The host answers for statuses:
//! Postgres in the extension, the engine's own transaction manager elsewhere.
//!
//! [`txn`] is that transaction manager. Pure deciders: [`visibility`] (does this snapshot see it), [`conflict`] (may I change it), [`garbage`] (may it go).

pub mod conflict;
pub mod garbage;
pub mod snapshot;
pub mod status;
pub mod txn;
pub mod visibility;
