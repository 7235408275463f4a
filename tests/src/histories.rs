//! Histories of transactions on several threads, and a checker that looks in them for what their isolation level forbids.
//!
//! As in Elle (Kingsbury, Alvaro 2020), rows are lists and transactions append to them, so that each read tells which versions
//! there were before, and in which order.

pub mod check;
pub mod run;
