//! How far a long command has come, as the `pg_stat_progress_` views show it: what heap reports, in the same columns.

use pgrx::pg_sys;

/// Sets a column of the present command's progress.
pub fn set(column: u32, value: impl TryInto<i64>) {
    // SAFETY: writes a word of this process's own in shared memory, and nothing when no command is under way.
    unsafe { pg_sys::pgstat_progress_update_param(column as i32, value.try_into().unwrap_or(i64::MAX)) };
}

/// Sets columns at once.
pub fn set_all<const N: usize>(columns: [(u32, u64); N]) {
    let (columns, values) = (columns.map(|(column, _)| column as i32), columns.map(|(_, value)| value as i64));
    // SAFETY: as in `set`; both arrays have N values.
    unsafe { pg_sys::pgstat_progress_update_multi_param(N as i32, columns.as_ptr(), values.as_ptr()) };
}

/// Blocks of a table that a command goes through once, from the first to the last.
pub struct Blocks {
    column: u32,
    first: u64,
    total: u64,
    done: u64,
}

impl Blocks {
    /// Tells `total` in one column; how many are done will be told in the other. The first block has number `first`.
    #[must_use]
    pub fn begin((total_column, column): (u32, u32), first: u64, total: u64) -> Self {
        set(total_column, total);
        Self { column, first, total, done: 0 }
    }

    /// Comes to `block`; whether it is another than before.
    pub fn at(&mut self, block: u64) -> bool {
        let done = block.saturating_sub(self.first) + 1;
        if done == self.done {
            return false;
        }
        self.done = done;
        // The one it is at is not done. Blocks that were begun since the start are beyond the total.
        set(self.column, (done - 1).min(self.total));
        true
    }

    /// All are done.
    pub fn end(self) {
        set(self.column, self.total);
    }
}
