//! Any bytes as the description of a filter and one of its partitions.

use crate::base::checksum::key_hash;
use crate::base::codec::Reader;
use crate::format::filter::FilterInfo;

/// Must not panic on any input. The description comes first, the rest is a partition.
#[doc(hidden)]
pub fn fuzz_filter(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(info) = FilterInfo::decode(&mut reader) else { return };
    for key in [&b""[..], b"a", b"some longer key"] {
        let hash = key_hash(key);
        let slot = info.slot(hash);
        assert!(slot.partition < info.partitions() && slot.line < info.partition_lines);
        let _ = (info.handle(slot.partition), info.end(), info.matches(reader.rest(), slot, hash));
    }
}
