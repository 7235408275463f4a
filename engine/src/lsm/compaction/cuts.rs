//! Where an output file ends: pure, one answer per key.
//!
//! A file ends when it has its size, or a little early where a file of the next level begins: the compaction that later takes
//! it down then meets one file less. (RocksDB measured 12 % less written for this alignment.)

use crate::format::version_edit::FileMeta;

/// A file may overlap this many files' worth of the next level before it ends at the next boundary, however small it is.
const OVERLAP_FILES_MAX: u64 = 10;

/// Asked before each new full key of a merge, in ascending order.
#[derive(Clone, Debug)]
pub struct Cuts {
    file_bytes: u64,
    /// Smallest keys of the files in the level below the output, with their sizes, ascending.
    boundaries: Vec<(Vec<u8>, u64)>,
    at: usize,
    /// Bytes of the level below between the start of the current file and here.
    overlapped: u64,
}

impl Cuts {
    /// Cuts for files of `file_bytes`, over the files `below` the output's level, which are in key order.
    #[must_use]
    pub fn new<'f>(file_bytes: u64, below: impl IntoIterator<Item = &'f FileMeta>) -> Self {
        let boundaries = below.into_iter().map(|f| (f.smallest.clone(), f.size)).collect();
        Self { file_bytes, boundaries, at: 0, overlapped: 0 }
    }

    /// Whether the file with `bytes` should end before `key`.
    pub fn before(&mut self, key: &[u8], bytes: u64) -> bool {
        let mut crossed = false;
        while let Some((_, size)) = self.boundaries.get(self.at).filter(|(smallest, _)| smallest.as_slice() <= key) {
            self.overlapped += size;
            self.at += 1;
            crossed = true;
        }
        let overlaps_much = self.overlapped > OVERLAP_FILES_MAX * self.file_bytes;
        let early = crossed && (bytes >= self.file_bytes / 2 || overlaps_much);
        let cut = bytes > 0 && (bytes >= self.file_bytes || early);
        if cut || bytes == 0 {
            self.overlapped = 0;
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::version_edit::samples::file;

    #[test]
    fn files_end_at_their_size_or_where_the_next_level_has_a_boundary() {
        // Sizes are 4096 times the number.
        let below = [file(1, b"b", b"c", (1, 2)), file(2, b"f", b"g", (1, 2)), file(3, b"m", b"n", (1, 2))];
        let mut cuts = Cuts::new(8192, &below);
        assert!(!cuts.before(b"c", 0), "there is no file yet");
        assert!(!cuts.before(b"d", 4096), "no boundary here");
        assert!(cuts.before(b"f", 4096), "a boundary, and half a file");
        assert!(!cuts.before(b"g", 100));
        assert!(cuts.before(b"h", 8192), "full");
        assert!(!cuts.before(b"m", 100), "a boundary, but too small");
        let mut cuts = Cuts::new(8192, [&below[0], &file(90, b"q", b"r", (1, 2))]);
        assert!(!cuts.before(b"a", 0) && !cuts.before(b"b", 100));
        assert!(cuts.before(b"q", 100), "small, but it would overlap too much");
    }
}
