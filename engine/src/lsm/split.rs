//! Cuts a range of keys into parts with about as many bytes each, at the bounds of files.

use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::lsm::Lsm;

impl Lsm {
    /// Up to `parts - 1` full keys inside `[from, to)`, ascending, that cut it into parts of about the same size.
    ///
    /// # Errors
    /// I/O, corruption (of the manifest, when another process has moved on).
    pub fn split_keys(&self, from: &[u8], to: Option<&[u8]>, parts: usize) -> Result<Vec<Vec<u8>>> {
        let view = self.view_full()?;
        let mut starts: Vec<(Vec<u8>, u64)> = Vec::new();
        for level in 0..LEVEL_COUNT {
            for file in view.overlapping(level, from, to) {
                starts.push((file.meta.smallest.clone(), file.meta.size));
            }
        }
        Ok(cut(starts, from, parts))
    }
}

/// Chooses among the starts of files, each with the bytes that follow it.
fn cut(mut starts: Vec<(Vec<u8>, u64)>, from: &[u8], parts: usize) -> Vec<Vec<u8>> {
    starts.sort();
    let total: u64 = starts.iter().map(|(_, size)| size).sum();
    let share = total / parts.max(1) as u64;
    let (mut out, mut passed) = (Vec::<Vec<u8>>::new(), 0);
    for (key, size) in starts {
        let due = (out.len() as u64 + 1) * share;
        let inside = key.as_slice() > from && out.last().is_none_or(|last| *last < key);
        if passed >= due && inside && out.len() + 1 < parts {
            out.push(key);
        }
        passed += size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_about_equal() {
        let starts: Vec<_> = (0..100u8).map(|key| (vec![key], 10)).collect();
        assert_eq!(cut(starts.clone(), &[0], 4), [[25], [50], [75]]);
        assert_eq!(cut(starts.clone(), &[60], 2), [[61]], "never at or before the start");
        assert_eq!(cut(starts, &[0], 1), [[0u8; 1]; 0]);
        assert_eq!(cut(Vec::new(), &[0], 8), [[0u8; 1]; 0]);
    }
}
