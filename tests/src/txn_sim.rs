//! Seeded simulation of transactions: one thread, an in-memory disk and clock, several transactions open at once, crashes and
//! faults at any operation of the disk.
//!
//! Between crashes every answer is compared with the [oracle](crate::isolation::oracle). Every end of a transaction that leaves
//! something behind is an event: a commit, a prepare, the end of a prepared one. After a crash the rows and the prepared
//! transactions must be those after a prefix of the events, which reaches at least to the last one that was acknowledged with
//! the durability that the crash respects. Each transaction writes a row of its own, so each prefix looks different.

pub mod events;
pub mod run;
