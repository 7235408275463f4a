//! Any bytes as a stored block and as the payload of a data block.

use crate::base::checksum::key_hash;
use crate::base::key::Trailer;
use crate::format::block::iter::{BlockIter, block_get, check_block};
use crate::format::block::{BlockType, Stored};

/// Must not panic on any input. The first byte is the length of a key to look for, which follows; the rest is the block.
#[doc(hidden)]
pub fn fuzz_block(data: &[u8]) {
    let Some((&len, rest)) = data.split_first() else { return };
    let (key, block) = rest.split_at(rest.len().min(usize::from(len)));
    for kind in [BlockType::Data, BlockType::Index, BlockType::Filter] {
        let mut payload = Vec::new();
        if let Ok(stored) = Stored::check(block, kind)
            && stored.open_vec(&mut payload).is_ok()
        {
            walk(&payload, key);
        }
    }
    walk(block, key);
}

fn walk(payload: &[u8], key: &[u8]) {
    let _ = check_block(payload, key_hash);
    for bound in [Trailer(0), Trailer(u64::MAX / 2), Trailer::MAX] {
        let _ = block_get(payload, key, key_hash(key), bound);
        let Ok(mut iter) = BlockIter::new(payload) else { return };
        let mut steps = payload.len();
        let mut valid = iter.seek(key, bound);
        while valid == Ok(true) && steps > 0 {
            let _ = (iter.key(), iter.value(), iter.trailer());
            valid = iter.next();
            steps -= 1;
        }
        let mut valid = iter.seek_for_prev(key, bound);
        let mut steps = 100;
        while valid == Ok(true) && steps > 0 {
            valid = iter.prev();
            steps -= 1;
        }
        let _ = (iter.first(), iter.last());
    }
}
