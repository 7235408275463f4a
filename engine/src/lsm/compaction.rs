//! Compaction: merging sorted files into fewer, deeper ones. Deciding is pure (`shape` to `pick`, `drop_rule`), doing is `run`.

pub mod choice;
pub mod cuts;
pub mod drop_rule;
#[cfg(test)]
mod golden;
pub mod next;
pub mod pick;
mod pick_deletes;
mod pick_l0;
pub mod pieces;
pub mod run;
pub mod shape;
pub mod simulate;
pub mod split;
pub mod targets;
