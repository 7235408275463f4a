//! The only owner of engine threads: each loops over `run_next_job` until the engine closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::env::Thread;
use crate::error::{Class, Result};
use crate::lsm::Lsm;
use crate::lsm::stats::Counter;

/// Longest sleep between two looks for work: memtables, compaction debt and free space are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Pause after a failed job. A full disk is the common reason; work resumes by itself when space returns.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(500);

/// The threads of one open engine.
pub struct Background {
    closing: Arc<AtomicBool>,
    lsm: Arc<Lsm>,
    threads: Vec<Box<dyn Thread>>,
}

impl Background {
    /// Starts as many threads as options say; `None` when that is none.
    ///
    /// # Errors
    /// I/O when the system refuses a thread.
    pub fn start(lsm: &Arc<Lsm>) -> Result<Option<Self>> {
        if lsm.options.background_threads == 0 {
            return Ok(None);
        }
        let closing = Arc::new(AtomicBool::new(false));
        let mut started = Self { closing, lsm: Arc::clone(lsm), threads: Vec::new() };
        for number in 0..lsm.options.background_threads {
            let (lsm, closing) = (Arc::clone(lsm), Arc::clone(&started.closing));
            let run = Box::new(move || work(&lsm, &closing));
            match lsm_spawn(&started.lsm, number, run) {
                Ok(thread) => started.threads.push(thread),
                Err(error) => {
                    started.stop();
                    return Err(error);
                }
            }
        }
        Ok(Some(started))
    }

    /// Ends the threads and waits for them.
    pub fn stop(self) {
        self.closing.store(true, Ordering::SeqCst);
        self.lsm.control().work.notify();
        for thread in self.threads {
            thread.join();
        }
    }
}

fn lsm_spawn(lsm: &Lsm, number: usize, run: Box<dyn FnOnce() + Send>) -> Result<Box<dyn Thread>> {
    lsm.env.spawn(&format!("ssd-engine {number}"), run)
}

fn work(lsm: &Lsm, closing: &AtomicBool) {
    while !closing.load(Ordering::SeqCst) {
        let seen = lsm.control().work.current();
        match lsm.run_next_job() {
            Ok(true) => {}
            Ok(false) => lsm.control().work.wait(seen, TICK),
            Err(error) => {
                lsm.stats().add(Counter::JobErrors, 1);
                match error.class() {
                    Class::Closed => return,
                    Class::Corruption => {
                        tracing::error!(error = &error as &dyn std::error::Error, "background job failed")
                    }
                    _ => tracing::warn!(error = &error as &dyn std::error::Error, "background job failed"),
                }
                lsm.env.sleep(PAUSE_AFTER_ERROR);
            }
        }
    }
}
