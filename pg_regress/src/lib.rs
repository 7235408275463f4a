//! Postgres from outside: where it is installed, private clusters, and its own test suites run on a table access method.
//!
//! Needs no header of Postgres to build, so it always builds. Layers, each naming only those before it: [`failure`],
//! [`program`], [`account`], [`installation`], [`apt`], [`cluster`], [`source_tree`], [`comparison`], [`expected`],
//! [`suite`].
#![expect(clippy::print_stderr, reason = "suites speak to the person who started them")]

pub mod account;
pub mod apt;
pub mod cluster;
pub mod comparison;
pub mod expected;
pub mod failure;
pub mod installation;
pub mod program;
pub mod source_tree;
pub mod suite;
