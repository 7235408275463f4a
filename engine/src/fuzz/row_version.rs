//! Fuzz entry for the versions of rows.

use crate::format::row_version::decode;

/// Reads `data` as a version; what reads must write back to the same bytes.
pub fn fuzz_row_version(data: &[u8]) {
    if let Ok(version) = decode(data) {
        let mut bytes = Vec::with_capacity(data.len());
        version.encode(&mut bytes);
        assert_eq!(bytes, data, "equal versions have equal bytes");
    }
}
