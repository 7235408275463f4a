//! Any bytes as the end of an SST.

use crate::format::footer::{Footer, Tail};

/// Must not panic on any input. The first eight bytes are the offset of the region, which follows.
#[doc(hidden)]
pub fn fuzz_footer(data: &[u8]) {
    let Some((offset, region)) = data.split_first_chunk() else { return };
    let _ = Tail::decode(region);
    let _ = Footer::decode(region, u64::from_le_bytes(*offset));
}
