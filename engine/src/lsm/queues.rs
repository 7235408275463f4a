//! Queues for reads that overlap on the device, and their buffers, kept between uses: a ring costs more to make than a read, and
//! fresh memory has to be cleared by the kernel.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::env::{Env, IoQueue};
use crate::error::Result;
use crate::mem::aligned::AlignedBuf;

/// Reads in flight at once on one queue.
pub const DEPTH: usize = 64;
/// Longest buffer that is kept.
const BUFFER_MAX: usize = 128 << 10;

/// The queues of this process that nobody uses at the moment.
pub struct Queues {
    env: Arc<dyn Env>,
    idle: Mutex<Vec<Box<dyn IoQueue>>>,
    buffers: Mutex<Vec<AlignedBuf>>,
}

impl Queues {
    /// No queues yet.
    #[must_use]
    pub const fn new(env: Arc<dyn Env>) -> Self {
        Self { env, idle: Mutex::new(Vec::new()), buffers: Mutex::new(Vec::new()) }
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

    /// A buffer for a read; any length, any contents.
    pub fn take_buffer(&self) -> AlignedBuf {
        self.buffers.lock().pop().unwrap_or_else(AlignedBuf::empty)
    }

    /// Takes a buffer back; there are as many as a queue can have in flight.
    pub fn give_buffer(&self, buffer: AlignedBuf) {
        let mut buffers = self.buffers.lock();
        if buffers.len() < DEPTH && buffer.capacity() <= BUFFER_MAX {
            buffers.push(buffer);
        }
    }
}
