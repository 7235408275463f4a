//! Search of a level's files by key through small arrays of 8-byte key pieces instead of the files' keys.
//!
//! A file's keys are two dependent cache misses away. So the keys of a level are cut down to what tells them apart: the
//! prefix they all share is compared once, and the eight bytes after it, as a big-endian number, stand in one array. Keys
//! that agree in these, too, form a node of their own with the same shape, eight or more bytes further on (the layers of
//! Masstree, made static). Only where a few keys agree are the keys themselves compared.
//!
//! 1. `piece(a) < piece(b)` implies `a < b`; equal pieces say nothing (a key that ends is padded with zeros).
//! 2. A child node covers a run of equal pieces whose keys really share the bytes up to the child's depth.
//! 3. All nodes together have at most [`PIECES_PER_KEY_MAX`] pieces for each key.

use std::sync::Arc;

use crate::base::key::common_prefix_len;
use crate::format::version_edit::FileMeta;

/// Runs of equal pieces shorter than this are searched by whole keys.
const CHILD_RUN_MIN: usize = 4;
/// Long keys that each branch off a little later would make a node at every step; past this, whole keys are compared.
const PIECES_PER_KEY_MAX: usize = 4;

/// The first eight bytes of `bytes` as a number that orders like them; missing bytes count as zero.
#[inline]
fn piece(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk() {
        return u64::from_be_bytes(*chunk);
    }
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(padded)
}

/// Sorted keys (equal ones allowed), cut down to pieces.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    /// The root is the first; empty when there are no keys.
    nodes: Box<[Node]>,
}

#[derive(Debug)]
struct Node {
    /// Index of the node's first key among all keys.
    first: usize,
    /// Bytes in which the keys agree because of the nodes above.
    depth: usize,
    /// Bytes after these in which they also agree.
    shared: Box<[u8]>,
    /// For each key the piece after `shared`.
    pieces: Box<[u64]>,
    /// Runs of equal pieces that have a node, by place of the run.
    children: Box<[Child]>,
}

#[derive(Clone, Copy, Debug)]
struct Child {
    /// Place of the run's first piece in its node.
    at: usize,
    node: usize,
}

impl KeyIndex {
    /// Indexes `keys`, which do not fall.
    pub(super) fn build(keys: &[&[u8]]) -> Self {
        let mut nodes = Vec::new();
        // First key, count of keys, depth; nodes come out in the order in which they were put here.
        let mut waiting = vec![(0, keys.len(), 0)];
        let mut room = keys.len() * (PIECES_PER_KEY_MAX - 1);
        while let Some(&(first, count, depth)) = waiting.get(nodes.len()) {
            let here = &keys[first..first + count];
            let (Some(low), Some(high)) = (here.first(), here.last()) else {
                break;
            };
            let end = common_prefix_len(low, high);
            let pieces: Box<[u64]> = here.iter().map(|key| piece(&key[end..])).collect();
            let mut children = Vec::new();
            let mut at = 0;
            for run in pieces.chunk_by(|a, b| a == b) {
                let last = at + run.len() - 1;
                let deep = run.len() >= CHILD_RUN_MIN && common_prefix_len(here[at], here[last]) >= end + 8;
                if deep && run.len() <= room {
                    room -= run.len();
                    children.push(Child { at, node: waiting.len() });
                    waiting.push((first + at, run.len(), end + 8));
                }
                at = last + 1;
            }
            let (shared, children) = (low[depth..end].into(), children.into());
            nodes.push(Node { first, depth, shared, pieces, children });
        }
        Self { nodes: nodes.into() }
    }

    /// Index of the first key that is not smaller than `key`, or the count of keys. `full` gives the key at an index.
    #[inline]
    pub(super) fn lower_bound<'k>(&self, key: &[u8], full: impl Fn(usize) -> &'k [u8]) -> usize {
        let Some(mut node) = self.nodes.first() else {
            return 0;
        };
        loop {
            // A key that ends here agreed with the node's keys by its padding only, so it is a prefix of them all.
            let Some(rest) = key.get(node.depth..) else {
                return node.first;
            };
            let Some(rest) = rest.strip_prefix(&*node.shared) else {
                let smaller = rest < &*node.shared;
                return if smaller { node.first } else { node.first + node.pieces.len() };
            };
            let wanted = piece(rest);
            let at = node.pieces.partition_point(|&piece| piece < wanted);
            if node.pieces.get(at) != Some(&wanted) {
                return node.first + at;
            }
            if let Ok(child) = node.children.binary_search_by_key(&at, |child| child.at) {
                node = &self.nodes[node.children[child].node];
                continue;
            }
            let run = node.pieces[at..].partition_point(|&piece| piece == wanted);
            let (mut low, mut high) = (node.first + at, node.first + at + run);
            while low < high {
                let middle = low.midpoint(high);
                if full(middle) < key {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            return low;
        }
    }
}

/// The bounds of files in any order, cut down to pieces: rules out most files that do not have a key.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// What all bounds begin with.
    shared: Box<[u8]>,
    /// For each file the pieces of its smallest and its largest key after `shared`.
    spans: Box<[(u64, u64)]>,
}

impl Spans {
    /// Takes the bounds of `files`.
    pub(super) fn build(files: &[Arc<FileMeta>]) -> Self {
        let Some(model) = files.first().map(|file| file.smallest.as_slice()) else {
            return Self::default();
        };
        let bounds = files.iter().flat_map(|file| [&file.smallest, &file.largest]);
        let shared = bounds.map(|key| common_prefix_len(model, key)).min().unwrap_or(0);
        let spans = files.iter().map(|file| (piece(&file.smallest[shared..]), piece(&file.largest[shared..])));
        Self { shared: model[..shared].into(), spans: spans.collect() }
    }

    /// Indices of the files that may have `key` between their bounds, rising.
    pub(super) fn candidates(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let wanted = key.strip_prefix(&*self.shared).map(piece);
        self.spans.iter().enumerate().filter_map(move |(at, &(low, high))| {
            wanted.is_some_and(|wanted| low <= wanted && wanted <= high).then_some(at)
        })
    }
}

#[cfg(test)]
mod tests;
