//! Closing an engine: who ends what, and in which order.
//!
//! The owner (the process that holds the directory's lock) ends everything, the lock last: whoever opens the directory
//! then finds it finished. A process that attached takes out itself alone.

use crate::db::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Closes the engine for all handles and all attached processes: ends background work, writes memtables to SSTs, ends
    /// the log with a record that proves it whole, and gives the directory free. The next open then has nothing to replay
    /// and knows that damage to any record is damage. In a process that has attached, this makes the log stable and ends
    /// the handles of this process alone.
    ///
    /// Dropping the last handle instead loses nothing that survives the process, but leaves the rest to the next open.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let engine = ssd_engine::Engine::open(dir.path(), ssd_engine::Options::default())?;
    /// let clone = engine.clone();
    /// engine.close()?;
    /// assert_eq!(clone.sync().unwrap_err().class(), ssd_engine::Class::Closed);
    /// # Ok::<(), ssd_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// I/O: what was acknowledged as durable is safe all the same. Closed, when it is closed already.
    pub fn close(self) -> Result<()> {
        let lsm = self.lsm();
        lsm.check_not_closed()?;
        if let Some(transactions) = self.core.open_transactions() {
            transactions.manager.close();
        }
        if let Some(background) = self.core.background.lock().take() {
            background.stop();
        }
        let is_sound = !lsm.control().is_poisoned();
        if !self.core.is_owner {
            let result = if is_sound { self.sync() } else { Ok(()) };
            lsm.leave();
            return result;
        }
        // Also after a failure that shut the engine: the log may be as good as ever, and has what was acknowledged.
        let result = if is_sound { self.end_log() } else { lsm.log().close() };
        lsm.control().close();
        self.core.lock.lock().take();
        result
    }

    fn end_log(&self) -> Result<()> {
        if let Err(error) = self.flush() {
            // What is in memory is in the log, too, and will be replayed.
            tracing::warn!(error = &error as &dyn std::error::Error, "could not write memtables out before closing");
        }
        self.lsm().log().close()
    }
}
