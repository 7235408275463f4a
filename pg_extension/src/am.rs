//! The callbacks of `TableAmRoutine`, one file per heading of tableam.h.

pub mod analyze;
pub mod bitmap;
pub mod cluster;
pub mod columns;
pub mod copy;
pub mod counts;
pub mod ddl;
pub mod dirty_scan;
pub mod fetch;
pub mod identity;
pub mod index_build;
pub mod index_fetch;
pub mod lock;
pub mod modify;
pub mod owned;
pub mod planner;
pub mod progress;
pub mod relation;
pub mod sample;
pub mod scan;
pub mod shrink;
pub mod sign;
pub mod slot;
pub mod speculative;
pub mod vacuum;
pub mod wait;
