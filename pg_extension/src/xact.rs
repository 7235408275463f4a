//! Transactions of the server as the engine asks for them.

pub mod aborted;
pub mod commands;
pub mod ends;
pub mod garbage;
pub mod ids;
pub mod snapshot;
pub mod status;
