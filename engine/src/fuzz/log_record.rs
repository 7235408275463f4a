//! Arbitrary bytes as a record of the log.

use crate::base::ids::Lsn;
use crate::format::log_record::{HEADER_LEN, LogId, Outcome, decode};

/// Decodes `data` at every position field it may carry, and its payload when the header checks out.
#[doc(hidden)]
pub fn fuzz_log_record(data: &[u8]) {
    let id = LogId::of([0; 16]);
    let own = data.get(16..24).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    for at in [own, 0, u64::MAX] {
        if let Outcome::Header(header) = decode(data, Lsn(at), id) {
            let body = &data[HEADER_LEN..];
            let _ = header.check_payload(body);
            // The checksum says nothing to a fuzzer: decompression is tried whether or not it matches.
            let stored = &body[..body.len().min(header.stored_len as usize)];
            let _ = header.expand(stored, &mut Vec::new());
        }
    }
}
