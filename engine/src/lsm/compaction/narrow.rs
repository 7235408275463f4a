//! What a merge need not read: files of the output level between whose bounds none of its other inputs has anything.
//!
//! The inputs from above have a hull that is often wider than what is in them: a flush has rows of several trees, and the trees
//! between them were not written to. Files of the output level that lie in such a gap stay as they are, and the merge goes around
//! them, in ranges of keys. What is in the ranges is decided here; what the inputs have is asked for.

use crate::base::ids::FileNumber;
use crate::error::Result;
use crate::format::version_edit::FileMeta;
use crate::lsm::compaction::pieces::KeyRange;

/// Bytes from which on a file is not small, when files end at `file_bytes`. A small one is merged when something beside it is, so
/// that small files grow together: a merge that only appends to a level would leave one more of them each time.
#[must_use]
pub const fn stays_from(file_bytes: u64) -> u64 {
    file_bytes / 2
}

/// What a merge reads and what it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Files of the output level that stay.
    pub stays: Vec<FileNumber>,
    /// The keys to merge: ascending, disjoint, and free of keys of the files that stay.
    pub ranges: Vec<KeyRange>,
}

/// The keys between a file's bounds.
fn keys_of(file: &FileMeta) -> KeyRange {
    let mut behind = file.largest.clone();
    if !file.largest_exclusive {
        // The first key behind.
        behind.push(0);
    }
    KeyRange { from: Some(file.smallest.clone()), to: Some(behind) }
}

/// Goes around those files of the output level, `base` (in key order), that have nothing to do with the merge. `has` says whether one of
/// the other inputs has an entry, or a part of a range tombstone, in a range. `file_bytes` is the size at which outputs end.
///
/// # Errors
/// Those of `has`.
pub fn narrow<'f>(
    base: impl IntoIterator<Item = &'f FileMeta>,
    file_bytes: u64,
    mut has: impl FnMut(&KeyRange) -> Result<bool>,
) -> Result<Narrowed> {
    let files: Vec<(&FileMeta, KeyRange)> = base.into_iter().map(|file| (file, keys_of(file))).collect();
    let mut merged = files.iter().map(|(_, keys)| has(keys)).collect::<Result<Vec<_>>>()?;
    // Whether there is something before each file, and behind the last. Between two that are merged that does not matter.
    let mut gaps = vec![true; files.len() + 1];
    for (at, gap) in gaps.iter_mut().enumerate() {
        let (before, behind) = (at.checked_sub(1), (at < files.len()).then_some(at));
        if before.into_iter().chain(behind).any(|file| !merged[file]) {
            let from = before.and_then(|file| files[file].1.to.clone());
            *gap = has(&KeyRange { from, to: behind.and_then(|file| files[file].1.from.clone()) })?;
        }
    }
    let is_small = |at: usize| files[at].0.size < stays_from(file_bytes);
    for at in 0..files.len() {
        let beside = gaps[at] || gaps[at + 1] || (at > 0 && merged[at - 1]);
        merged[at] |= is_small(at) && beside;
    }
    for at in (1..files.len()).rev() {
        merged[at - 1] |= is_small(at - 1) && merged[at];
    }
    let (mut stays, mut ranges) = (Vec::new(), Vec::new());
    let (mut from, mut is_empty) = (None, true);
    for (at, (file, keys)) in files.into_iter().enumerate() {
        is_empty &= !gaps[at] && !merged[at];
        if !merged[at] {
            let range = KeyRange { from: std::mem::replace(&mut from, keys.to), to: keys.from };
            ranges.extend((!std::mem::replace(&mut is_empty, true)).then_some(range));
            stays.push(file.number);
        }
    }
    ranges.extend((!is_empty || gaps[gaps.len() - 1]).then_some(KeyRange { from, to: None }));
    Ok(Narrowed { stays, ranges })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::version_edit::samples::file;

    fn text(ranges: &[KeyRange]) -> String {
        let text = |key: &Option<Vec<u8>>| key.as_ref().map_or(String::new(), |key| key.escape_ascii().to_string());
        let ranges: Vec<_> = ranges.iter().map(|r| format!("{}..{}", text(&r.from), text(&r.to))).collect();
        ranges.join(" ")
    }

    /// Files `b-c`, `f-g`, `m-n` and `q-r` of sizes 4096 times 1, 2, 3 and 2, with keys of other inputs.
    fn around(keys: &[&str], file_bytes: u64) -> (Vec<u64>, String) {
        let base = [
            file(1, b"b", b"c", (1, 2)),
            file(2, b"f", b"g", (1, 2)),
            file(3, b"m", b"n", (1, 2)),
            file(2, b"q", b"r", (1, 2)),
        ];
        let is_in = |key: &[u8], range: &KeyRange| {
            range.from.as_deref().is_none_or(|from| from <= key) && range.to.as_deref().is_none_or(|to| key < to)
        };
        let has = |range: &KeyRange| Ok(keys.iter().any(|key| is_in(key.as_bytes(), range)));
        let narrowed = narrow(&base, file_bytes, has).unwrap();
        (narrowed.stays.iter().map(|number| number.0).collect(), text(&narrowed.ranges))
    }

    #[test]
    fn a_merge_goes_around_files_that_it_does_not_touch() {
        assert_eq!(around(&["a", "z"], 4096), (vec![1, 2, 3, 2], "..b r\\x00..".into()));
        assert_eq!(around(&["h"], 4096), (vec![1, 2, 3, 2], "g\\x00..m".into()));
        assert_eq!(around(&["c", "m"], 4096), (vec![2, 2], "..f g\\x00..q".into()), "bounds are keys of a file");
        assert_eq!(around(&["d", "na"], 4096), (vec![1, 2, 3, 2], "c\\x00..f n\\x00..q".into()));
        assert_eq!(around(&["b", "f", "m", "q"], 4096), (vec![], "..".into()), "all are touched");
    }

    #[test]
    fn small_files_are_merged_along_with_what_is_beside_them() {
        // All but the third are small.
        assert_eq!(around(&["z"], 20 << 10), (vec![1, 2, 3], "n\\x00..".into()));
        assert_eq!(around(&["p"], 20 << 10), (vec![1, 2, 3], "n\\x00..".into()));
        assert_eq!(around(&["a"], 20 << 10), (vec![3, 2], "..m".into()), "so are neighbours of neighbours");
        assert_eq!(around(&["m"], 20 << 10), (vec![], "..".into()));
        // Only the first is.
        assert_eq!(around(&["m"], 16 << 10), (vec![1, 2, 2], "g\\x00..q".into()));
        assert_eq!(around(&["d"], 16 << 10), (vec![2, 3, 2], "..f".into()));
    }

    #[test]
    fn a_file_that_ends_before_its_last_bound_leaves_that_key_to_the_merge() {
        let mut base = file(1, b"b", b"c", (1, 2));
        base.largest_exclusive = true;
        let narrowed = narrow([&base], 4096, |range| Ok(range.to.is_none())).unwrap();
        assert_eq!(text(&narrowed.ranges), "c..");
    }

    proptest! {
        #[test]
        fn ranges_have_every_key_and_none_of_a_file_that_stays(
            sizes in proptest::collection::vec(1u64..4, 0..12),
            keys in proptest::collection::btree_set(0u8..130, 0..20),
        ) {
            // Files with the keys from 3 to 6, from 13 to 16, and so on.
            let base = sizes.iter().zip((3u8..).step_by(10)).zip(1..);
            let base: Vec<_> = base
                .map(|((size, first), number)| {
                    FileMeta { size: 4096 * size, ..file(number, &[first], &[first + 3], (1, 2)) }
                })
                .collect();
            let is_in = |key: &[u8], range: &KeyRange| {
                range.from.as_deref().is_none_or(|from| from <= key) && range.to.as_deref().is_none_or(|to| key < to)
            };
            let has = |range: &KeyRange| Ok(keys.iter().any(|key| is_in(&[*key], range)));
            let Narrowed { stays, ranges } = narrow(&base, 16 << 10, has).unwrap();
            for file in &base {
                let is_there = |key: &[u8]| ranges.iter().filter(|range| is_in(key, range)).count();
                let whole = if stays.contains(&file.number) { 0 } else { 1 };
                prop_assert_eq!((is_there(&file.smallest), is_there(&file.largest)), (whole, whole));
            }
            for key in &keys {
                prop_assert_eq!(ranges.iter().filter(|range| is_in(&[*key], range)).count(), 1);
            }
            prop_assert!(ranges.windows(2).all(|two| two[0].to <= two[1].from), "{:?}", ranges);
        }
    }
}
