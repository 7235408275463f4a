//! Any bytes as a list of range tombstones.

use crate::base::codec::Reader;
use crate::base::ids::SeqNo;
use crate::format::range_del::RangeTombstones;

/// Must not panic on any input.
#[doc(hidden)]
pub fn fuzz_range_del(data: &[u8]) {
    if let Ok(list) = RangeTombstones::decode_list(&mut Reader::new(data)) {
        let tombstones = RangeTombstones::new(list);
        for key in [&b""[..], b"a", b"some longer key"] {
            for bound in [SeqNo(0), SeqNo(7), SeqNo::MAX] {
                let _ = tombstones.covering_seqno(key, bound);
            }
        }
    }
}
