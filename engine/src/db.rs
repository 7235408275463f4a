//! Layer 6: the engine as its users see it.

pub mod admin;
pub mod background;
pub mod batch;
pub mod engine;
pub mod open;
mod replay;
pub mod scan;
pub mod snapshot;
pub mod tree;
