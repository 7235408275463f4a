//! Layer 6: the engine as its users see it.

pub mod admin;
pub mod background;
pub mod batch;
pub mod begin;
pub mod close;
pub mod core;
pub mod engine;
pub mod hosted;
pub mod open;
pub mod repair;
mod replay;
pub mod scan;
pub mod snapshot;
pub mod transaction;
pub mod transactions;
pub mod tree;
pub mod verify;
