//! Isolation levels: scripts that show what each permits, and random schedules against an oracle.
//!
//! The scripts in `isolation/testdata` are the cases of Martin Kleppmann's Hermitage, in the order of its table for Postgres,
//! with what each step answers here.

pub mod act;
pub mod oracle;
pub mod schedule;
pub mod script;
pub mod serial;
pub mod session;

#[cfg(test)]
mod golden;
