//! Repaired versions, read as readers read: wherever repair put the files, the newest entry is found.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::manifest::repair::place;

#[test]
fn the_later_of_two_zeroed_files_is_read_first() {
    let version = with(place(vec![file(8, b"a", b"c", (0, 0)), file(5, b"b", b"d", (0, 500))]));
    assert_eq!(numbers(version.l0_for(b"b")), [8, 5]);
}

/// Reads as a reader of versions does; the result is the sequence number and the file found.
fn read(version: &Version, entries: &[Vec<(u8, u64)>], key: u8) -> Option<(u64, u64)> {
    let newest = |file: &FileMeta| {
        let own = &entries[file.number.0 as usize];
        own.iter().filter(|entry| entry.0 == key).map(|entry| (entry.1, file.number.0)).max()
    };
    let mut best: Option<(u64, u64)> = None;
    for file in version.l0_for(&[key]) {
        if best.is_some_and(|best| best.0 >= file.largest_seqno.0 && best.0 > 0) {
            break;
        }
        let found = newest(file);
        if best.is_none_or(|best| found.is_some_and(|found| found.0 > best.0)) {
            best = found.or(best);
        }
    }
    best.or_else(|| (1..7).find_map(|level| version.file_for(Level(level), &[key]).and_then(|file| newest(file))))
}

proptest! {
    #[test]
    fn the_newest_entry_is_found_wherever_files_are_put(
        drawn in vec((vec((0..12u8, 0..40u64), 1..6), 0..400u64), 1..14)
    ) {
        // Shifting a file's numbers makes some files wholly newer than others; zero stays zero.
        let entries: Vec<Vec<(u8, u64)>> = drawn
            .into_iter()
            .map(|(own, shift)| {
                let lift = |seqno| if seqno < 8 { 0 } else { seqno + shift };
                own.into_iter().map(|(key, seqno)| (key, lift(seqno))).collect()
            })
            .collect();
        let files: Vec<_> = entries
            .iter()
            .enumerate()
            .map(|(number, own)| {
                let keys = || own.iter().map(|entry| entry.0);
                let seqnos = || own.iter().map(|entry| entry.1);
                let seqnos = (seqnos().min().unwrap(), seqnos().max().unwrap());
                file(number as u64, &[keys().min().unwrap()], &[keys().max().unwrap()], seqnos)
            })
            .collect();
        let version = with(place(files));
        prop_assert_eq!(version.file_count(), entries.len());
        for key in 0..12 {
            let all = entries.iter().enumerate().flat_map(|(number, own)| {
                own.iter().filter(|entry| entry.0 == key).map(move |entry| (entry.1, number as u64))
            });
            let (want, got) = (all.max(), read(&version, &entries, key));
            // Equal key and sequence number is the same entry, except where compaction zeroed it.
            prop_assert_eq!(got.map(|got| got.0), want.map(|want| want.0));
            prop_assert!(want.is_none_or(|want| want.0 > 0) || got == want, "{:?} instead of {:?}", got, want);
        }
    }
}
