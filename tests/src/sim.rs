//! Seeded simulation: one thread, an in-memory disk and clock, random options, random operations, crashes and faults.
//!
//! A run opens an engine in a [`MemoryEnv`](ssd_engine::env::memory::MemoryEnv), applies random operations to it and to a
//! model, and crashes now and then: the process only, or the machine. Every batch also writes its own number under one key,
//! so that after a crash the recovered state names the prefix of batches it must equal, which must reach at least to the
//! last batch that was acknowledged as durable.
//!
//! Every [`agree::EVERY`]th seed does without faults instead: it does the same operations under three sets of options, which
//! must read the same.

pub mod agree;
pub mod check;
pub mod damage;
pub mod digest;
pub mod model;
pub mod options;
pub mod run;
pub mod store;
pub mod workload;
