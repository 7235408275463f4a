//! Postgres under `kill -9`: a bank in tables of one access method, killed processes, and checks of what is left.
//!
//! Data flows one way: [`bank`] says what each transaction does and what is left of it, [`session`] runs it, [`server`]
//! kills and revives, [`check`] and [`index`] compare, [`round`] puts the rounds together. [`full_disk`] is the same server on a
//! disk that fills up.

pub mod backup;
pub mod bank;
pub mod check;
pub mod full_disk;
pub mod index;
pub mod log;
pub mod round;
pub mod server;
pub mod session;

/// Why a round failed, in words.
pub type Result<T> = std::result::Result<T, String>;
