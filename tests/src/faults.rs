//! Exhaustive faults on the whole engine: a fixed small workload in which every operation on the disk fails once, in every
//! way, and a fixed small database in which every byte is damaged once.
//!
//! The simulator draws such things; here they are counted out, so that nothing depends on luck.

pub mod harm;
pub mod script;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod small_tests;
#[cfg(test)]
mod space_tests;
