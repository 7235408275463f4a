//! Tests over the whole engine: seeded simulation with faults, killed processes (Postgres's, too),
//! exhaustive fault injection.

pub mod faults;
pub mod histories;
pub mod isolation;
pub mod mutation;
pub mod pg_crash;
pub mod pg_soak;
pub mod rng;
pub mod shared_region;
pub mod sim;
pub mod simulator;
pub mod txn_sim;

/// The program in the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
