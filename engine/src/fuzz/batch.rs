//! Fuzz entry for batches of operations.

/// Reads `data` as a batch.
pub fn fuzz_batch(data: &[u8]) {
    for op in crate::format::batch::ops(data) {
        let _ = op;
    }
}
