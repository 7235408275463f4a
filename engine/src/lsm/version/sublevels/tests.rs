use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::format::version_edit::samples::{file, open_file};

/// Draws files given oldest first as `a..b` (inclusive) or `a..b)`; returns the rows, top first, as numbers.
fn draw(spec: &[&str]) -> String {
    let make = |(at, spec): (usize, &&str)| {
        let (smallest, largest) = spec.split_once("..").unwrap();
        let seqnos = (10 * at as u64, 10 * at as u64 + 9);
        Arc::new(match largest.strip_suffix(')') {
            Some(largest) => open_file(at as u64, smallest.as_bytes(), largest.as_bytes(), seqnos),
            None => file(at as u64, smallest.as_bytes(), largest.as_bytes(), seqnos),
        })
    };
    let files: Vec<_> = spec.iter().enumerate().map(make).rev().collect();
    let sublevels = Sublevels::assign(&files);
    let row = |row: &[usize]| row.iter().map(|&at| spec[spec.len() - 1 - at]).collect::<Vec<_>>().join(" ");
    (0..sublevels.count()).rev().map(|at| row(sublevels.row(at))).collect::<Vec<_>>().join(" / ")
}

#[test]
fn files_lie_on_what_they_overlap() {
    assert_eq!(draw(&[]), "");
    assert_eq!(draw(&["a..c", "d..f"]), "a..c d..f");
    assert_eq!(draw(&["d..f", "a..c"]), "a..c d..f");
    assert_eq!(draw(&["a..c", "c..f"]), "c..f / a..c", "both have c");
    assert_eq!(draw(&["a..c)", "c..f"]), "a..c) c..f");
    assert_eq!(draw(&["a..z", "b..c", "d..e", "c..d"]), "c..d / b..c d..e / a..z");
    assert_eq!(draw(&["a..b", "m..n", "a..n", "y..z"]), "a..n / a..b m..n y..z");
    assert_eq!(draw(&["k..k", "k..k", "k..k"]), "k..k / k..k / k..k");
}

proptest! {
    #[test]
    fn order_and_disjointness_hold(bounds in vec((0..30u8, 0..6u8, any::<bool>()), 0..25)) {
        let files: Vec<_> = bounds.iter().enumerate().map(|(at, &(from, len, open))| {
            let make = if open { open_file } else { file };
            Arc::new(make(at as u64, &[from], &[from + len + u8::from(open)], (1, 2)))
        }).collect();
        let sublevels = Sublevels::assign(&files);
        let mut seen: Vec<_> = (0..sublevels.count()).flat_map(|at| sublevels.row(at)).copied().collect();
        seen.sort_unstable();
        prop_assert!(seen.into_iter().eq(0..files.len()), "every file once");
        for row in (0..sublevels.count()).map(|at| sublevels.row(at)) {
            prop_assert!(row.windows(2).all(|two| files[two[0]].end() <= files[two[1]].start()));
        }
        for newer in 0..files.len() {
            let below = (newer + 1..files.len()).filter(|&older| files[newer].overlaps(&files[older]));
            let want = below.map(|older| sublevels.of(older) + 1).max().unwrap_or(0);
            prop_assert_eq!(sublevels.of(newer), want, "right above the highest older file it overlaps");
        }
    }
}
