//! Queues for reads that overlap on the device, kept between uses: a ring costs more to make than a read.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::env::{Env, IoQueue};
use crate::error::Result;

/// Reads in flight at once on one queue.
pub const DEPTH: usize = 64;

/// The queues of this process that nobody uses at the moment.
pub struct Queues {
    env: Arc<dyn Env>,
    idle: Mutex<Vec<Box<dyn IoQueue>>>,
}

impl Queues {
    /// No queues yet.
    #[must_use]
    pub const fn new(env: Arc<dyn Env>) -> Self {
        Self { env, idle: Mutex::new(Vec::new()) }
    }

    /// A queue with nothing in flight.
    ///
    /// # Errors
    /// I/O when the system refuses one.
    pub fn take(&self) -> Result<Box<dyn IoQueue>> {
        let idle = self.idle.lock().pop();
        idle.map_or_else(|| self.env.queue(DEPTH), Ok)
    }

    /// Takes a queue back, unless something is still in flight on it.
    pub fn give(&self, queue: Box<dyn IoQueue>) {
        if queue.in_flight() == 0 {
            self.idle.lock().push(queue);
        }
    }
}
