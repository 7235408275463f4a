//! Random operations over a small key space, so that keys meet again and again.

use crate::rng::Rng;
use crate::sim::model::{Model, ModelKey, Op};

/// Trees of a run.
pub const TREES: usize = 3;
/// Key that each batch sets to its own number; it sorts before all others.
pub const NUMBER_KEY: &[u8] = b"";

/// A key of 1 to 40 bytes. Short and long ones share prefixes.
pub fn key(rng: &mut Rng) -> Vec<u8> {
    let id = rng.below(400);
    match id % 4 {
        0 => format!("k{id:03}").into_bytes(),
        1 => format!("key/with/a/common/prefix/{id:06}").into_bytes(),
        2 => vec![b'b', (id >> 8) as u8, id as u8],
        _ => format!("k{:02}", id % 50).into_bytes(),
    }
}

/// A value of 0 to 2,000 bytes, seldom one larger than a block, more seldom one larger than a memtable takes.
pub fn value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(2000) {
        0 => 90_000,
        1..20 => 20_000,
        20..400 => rng.below(2000),
        _ => rng.below(60),
    };
    let (byte, random) = (rng.next() as u8, rng.one_in(2));
    (0..len).map(|_| if random { rng.next() as u8 } else { byte }).collect()
}

/// A key of one of the trees.
pub fn model_key(rng: &mut Rng) -> ModelKey {
    (rng.below(TREES as u64) as usize, key(rng))
}

/// The next batch: one to twenty operations, and its own number in the first tree.
pub fn batch(rng: &mut Rng, model: &Model) -> Vec<Op> {
    let count = if rng.one_in(4) { rng.below(20) + 1 } else { 1 };
    let mut ops: Vec<_> = (0..count).map(|_| operation(rng)).collect();
    let number = model.next_number().to_string().into_bytes();
    ops.push(Op::Put((0, NUMBER_KEY.to_vec()), number));
    ops
}

fn operation(rng: &mut Rng) -> Op {
    match rng.below(30) {
        0 => {
            let (tree, a) = model_key(rng);
            let b = key(rng);
            // Starts above the number's key, which must stay.
            let (start, mut end) = if a <= b { (a, b) } else { (b, a) };
            end.push(0);
            Op::DeleteRange(tree, start, end)
        }
        1..8 => Op::Delete(model_key(rng)),
        _ => Op::Put(model_key(rng), value(rng)),
    }
}
