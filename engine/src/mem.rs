//! Layer 1: memory. The shared region and everything that lives in it, and buffers aligned for direct I/O.
//!
//! One of the two places where unsafe code is allowed (the other is `env/uring`): each file here is small, has a safe API
//! and lists the rules it relies on.

pub mod aligned;
pub mod arena;
pub mod frames;
pub mod futex;
pub mod key_index;
pub mod lock;
pub mod lock_table;
pub mod pins;
pub mod process;
pub mod region;
pub mod skiplist;
pub mod slice;
pub mod snapshots;
pub mod sync;
