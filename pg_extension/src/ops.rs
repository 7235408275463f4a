//! What the callbacks do, in terms of trees, keys and versions.

pub mod change;
pub mod commands;
pub mod groups;
pub mod laps;
pub mod numbers;
pub mod read;
mod room;
pub mod tid;
pub mod trees;
pub mod tuple;
pub mod write;
