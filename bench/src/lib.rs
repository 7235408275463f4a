//! The side-by-side benchmark of ordered stores: the same work, on the same data, in turns, each run in its own process.
//!
//! The parent walks the plan and starts a child for each (step, store) pair; a child opens the store, does the step, and
//! prints what it measured as JSON. Data flows one way: `plan` → `drive` (child) → `report` → `plot`.

pub mod cgroup;
pub mod child;
pub mod command;
pub mod data;
pub mod drive;
pub mod io;
pub mod measure;
pub mod parent;
pub mod pg;
pub mod plan;
pub mod plot;
pub mod random;
pub mod report;
pub mod spec;
pub mod store;
pub mod txn;

/// Result of everything here that can fail. A benchmark has one answer to any error: show it and stop.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
