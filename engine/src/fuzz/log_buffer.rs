//! Any bytes as the header of the log's buffer.

use crate::format::log_buffer::{BufferHeader, Mark};

/// Must not panic on any input; a header that is accepted is written the same.
///
/// # Panics
/// When an accepted header is written otherwise, which is a bug.
#[doc(hidden)]
pub fn fuzz_log_buffer(data: &[u8]) {
    let words: Vec<_> = data.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    if let Ok(header) = BufferHeader::decode(&words) {
        assert_eq!(header.encode()[..], words[..5], "one header has one form");
    }
    for mark in [Mark::Written, Mark::Durable, Mark::Closed] {
        let _ = mark.get(&words);
    }
}
