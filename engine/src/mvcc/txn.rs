//! The transaction manager of hosts that have none of their own: embedded programs and the standalone server.
//!
//! | file | job | |
//! |---|---|---|
//! | [`record`] | one transaction to itself: phase, commands, savepoints and their ids | values |
//! | [`window`] | how far each recent id has come | atomics |
//! | [`running`] | ids, snapshots, the oldest of everything | one short lock |
//! | [`lock_mode`], [`lock_queue`] | table locks, who holds and who waits | values |
//! | [`waits`] | who waits for whom, circles | values |
//! | [`ssi`] | serializable transactions | values |

pub mod lock_mode;
pub mod lock_queue;
pub mod record;
pub mod running;
pub mod ssi;
pub mod waits;
pub mod window;
