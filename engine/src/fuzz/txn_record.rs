//! Fuzz entry for what is written down of transactions.

use crate::format::txn_record::{PreparedRecord, decode_next_id, encode_next_id};

/// Reads `data` as each kind of value; what reads must write back to the same bytes.
pub fn fuzz_txn_record(data: &[u8]) {
    if let Ok(record) = PreparedRecord::decode(data) {
        assert_eq!(record.encode(), data, "equal records have equal bytes");
    }
    if let Ok(next) = decode_next_id(data) {
        assert_eq!(encode_next_id(next), data, "equal ids have equal bytes");
    }
}
