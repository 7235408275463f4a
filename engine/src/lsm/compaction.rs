//! Compaction: merging sorted files into fewer, deeper ones. Deciding is pure (`pick`, `drop_rule`), doing is `run`.

pub mod drop_rule;
pub mod next;
pub mod pick;
pub mod run;
