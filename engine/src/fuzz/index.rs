//! Any bytes as an index block.

use crate::base::key::Trailer;
use crate::format::index::IndexBlock;

/// Must not panic on any input. The first byte is the length of a key to look for, which follows; the rest is the block.
#[doc(hidden)]
pub fn fuzz_index(data: &[u8]) {
    let Some((&len, rest)) = data.split_first() else { return };
    let (key, block) = rest.split_at(rest.len().min(usize::from(len)));
    let Ok(index) = IndexBlock::parse(block) else { return };
    let _ = index.check();
    let mut separator = Vec::new();
    for bound in [Trailer(0), Trailer::MAX] {
        if let Ok(at) = index.search(key, bound) {
            let _ = (index.handle(at), index.separator(at, &mut separator));
        }
    }
}
