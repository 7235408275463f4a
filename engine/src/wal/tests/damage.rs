//! Bytes that lie: whatever is cut or flipped, what was durable survives or the log is refused, and nothing is invented.

use super::check::{CheckLine, check};
use super::*;
use crate::env::OpenMode;
use crate::error::Class;

/// A log of a few small segments and a buffer; returns its entries.
fn small(place: &mut LogPlace, close: bool) -> Vec<Entry> {
    place.options.segment_bytes = 4096;
    let log = create(place);
    let mut entries = Vec::new();
    for tag in 0..30 {
        entries.push(append(&log, tag, 80 + tag as usize * 13, 1));
        if tag % 5 == 4 {
            log.flush(log.position()).unwrap();
        }
    }
    if close {
        log.close().unwrap();
    }
    entries
}

fn file(place: &LogPlace, name: &str) -> Arc<dyn crate::env::File> {
    place.env.open(&place.dir.join(name), OpenMode::WRITE).unwrap()
}

fn contents(place: &LogPlace, name: &str) -> Vec<u8> {
    let file = file(place, name);
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Replays the log damaged: all of `entries`, or a corruption.
fn whole_or_refused(place: &LogPlace, entries: &[Entry], what: &str) -> bool {
    match replay(place, Lsn(0)) {
        Ok((found, _)) => {
            assert!(found == entries, "{what}: other records");
            false
        }
        Err(error) => {
            assert_eq!(error.class(), Class::Corruption, "{what}: {error}");
            true
        }
    }
}

#[test]
fn every_cut_of_every_segment_is_noticed() {
    let (_env, mut place) = world(20);
    let entries = small(&mut place, false);
    for number in place.segments().unwrap() {
        let name = segment_name(number);
        let bytes = contents(&place, &name);
        for len in (0..bytes.len()).rev() {
            file(&place, &name).set_len(len as u64).unwrap();
            assert!(whole_or_refused(&place, &entries, &format!("{name} cut to {len}")));
        }
        file(&place, &name).write_at(&bytes, 0).unwrap();
        assert!(!whole_or_refused(&place, &entries, "whole again"));
    }
}

/// Flips a bit of every byte of every file in turn. Without a buffer the noop of `close` is the witness.
fn every_flip(buffer: bool) {
    let (_env, mut place) = world(21);
    let entries = small(&mut place, !buffer);
    if !buffer {
        place.env.remove(&place.dir.join(BUFFER_NAME)).unwrap();
    }
    let mut refused = 0;
    for number in place.segments().unwrap() {
        let name = segment_name(number);
        let file = file(&place, &name);
        for (at, &byte) in contents(&place, &name).iter().enumerate() {
            file.write_at(&[byte ^ 1 << (at % 8)], at as u64).unwrap();
            refused += u32::from(whole_or_refused(&place, &entries, &format!("byte {at} of {name}")));
            file.write_at(&[byte], at as u64).unwrap();
        }
    }
    assert!(refused > 3 * 4096);
}

#[test]
fn every_flip_in_segments_is_noticed_by_the_buffer() {
    every_flip(true);
}

#[test]
fn every_flip_in_segments_is_noticed_after_a_close() {
    every_flip(false);
}

#[test]
fn flips_in_the_buffer_lose_nothing_durable() {
    let (_env, mut place) = world(22);
    let mut entries = small(&mut place, false);
    let durable = entries.len();
    let (log, _) = reopen(&place, Lsn(0));
    for tag in 0..5 {
        entries.push(append(&log, 100 + tag, 100, 1));
    }
    let file = file(&place, BUFFER_NAME);
    let ring = 4096 + (entries[durable].0.0 as usize & 0xFFFF);
    let bytes = contents(&place, BUFFER_NAME);
    for at in (0..128).chain(ring..ring + 800) {
        file.write_at(&[bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
        match replay(&place, Lsn(0)) {
            Ok((found, _)) => {
                assert!(found.len() >= durable, "byte {at}");
                assert_eq!(found, entries[..found.len()], "byte {at}");
            }
            Err(error) => assert_eq!(error.class(), Class::Corruption, "byte {at}"),
        }
        file.write_at(&bytes[at..=at], at as u64).unwrap();
    }
    assert_eq!(replay(&place, Lsn(0)).unwrap().0, entries);
}

#[test]
fn holes_and_missing_segments_are_refused() {
    let (_env, mut place) = world(23);
    let entries = small(&mut place, true);
    place.env.remove(&place.dir.join(BUFFER_NAME)).unwrap();
    let name = segment_name(1);
    let bytes = contents(&place, &name);
    file(&place, &name).write_at(&[0; 512], 4096 + 512).unwrap();
    let error = replay(&place, Lsn(0)).unwrap_err().to_string();
    assert!(error.contains("000001.wal") && error.contains("synced"), "{error}");
    file(&place, &name).write_at(&bytes, 0).unwrap();

    place.env.rename(&place.dir.join(segment_name(2)), &place.dir.join("aside")).unwrap();
    let error = replay(&place, Lsn(0)).unwrap_err().to_string();
    assert!(error.contains("000002.wal") && error.contains("missing"), "{error}");
    place.env.rename(&place.dir.join("aside"), &place.dir.join(segment_name(2))).unwrap();
    assert!(!whole_or_refused(&place, &entries, "as it was"));
}

#[test]
fn a_record_as_a_value_is_not_taken_for_one() {
    let (_env, place) = world(24);
    let log = create(&place);
    // The bytes of a record of another engine, made to fit the position they will have.
    let stranger = crate::format::log_record::RecordHeader {
        kind: crate::format::log_record::RecordKind::Batch,
        compressed: false,
        lsn: Lsn(40 + 40),
        first: SeqNo(1),
        count: 1,
        synced: Lsn(80),
        stored_len: 0,
        raw_len: 0,
        payload_checksum: crate::base::checksum::Checksum::of(b""),
    };
    let mut value = vec![0; 40];
    value.extend(stranger.encode(crate::format::log_record::LogId::of([1; 16])));
    log.append(&value, 1).unwrap();
    log.flush(log.position()).unwrap();
    drop(log);
    place.env.remove(&place.dir.join(BUFFER_NAME)).unwrap();
    file(&place, &segment_name(1)).write_at(&[0], 4096).unwrap();
    let (found, recovered) = replay(&place, Lsn(0)).unwrap();
    assert!(found.is_empty(), "the only record is damaged, and there is no witness of its sync");
    assert_eq!(recovered.ending, Ending::TornTail { lsn: Lsn(0) });
}

fn lines(place: &LogPlace, from: Option<Lsn>) -> Vec<CheckLine> {
    let mut lines = Vec::new();
    check(place, from, &mut |line| lines.push(line.clone())).unwrap();
    lines
}

#[test]
fn the_check_reports_and_goes_on() {
    let (_env, mut place) = world(25);
    let entries = small(&mut place, true);
    let count = |lines: &[CheckLine], want: fn(&CheckLine) -> bool| lines.iter().filter(|line| want(line)).count();
    let is_record = |line: &CheckLine| matches!(line, CheckLine::Record { .. });
    let is_problem = |line: &CheckLine| matches!(line, CheckLine::Problem { .. });

    let sound = lines(&place, None);
    assert_eq!(count(&sound, is_record), entries.len() + 1, "and the noop of the close");
    assert_eq!(count(&sound, is_problem), 0);
    assert_eq!(count(&sound, |line| matches!(line, CheckLine::Segment { .. })), place.segments().unwrap().len());
    assert!(matches!(sound.last(), Some(CheckLine::End { torn: false, records: 31, .. })));
    assert_eq!(count(&lines(&place, Some(entries[10].0)), is_record), entries.len() + 1 - 10);

    let name = segment_name(1);
    let bytes = contents(&place, &name);
    for at in [entries[2].0.0, entries[5].0.0 + 50] {
        file(&place, &name).write_at(&[0xEE], 4096 + at).unwrap();
    }
    let damaged = lines(&place, Some(Lsn(0)));
    assert_eq!(count(&damaged, is_problem), 2);
    assert_eq!(count(&damaged, is_record), entries.len() + 1 - 2);
    file(&place, &name).write_at(&bytes, 0).unwrap();

    place.env.remove(&place.dir.join(segment_name(2))).unwrap();
    assert_eq!(count(&lines(&place, None), is_problem), 1);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_segment_decodes_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        crate::fuzz::wal_segment::fuzz_wal_segment(&bytes);
    }
}

#[test]
fn damaged_segments_decode_without_panic() {
    let (_env, mut place) = world(26);
    small(&mut place, true);
    let bytes = contents(&place, &segment_name(1));
    crate::fuzz::wal_segment::fuzz_wal_segment(&bytes);
    for at in 0..bytes.len() / 4 {
        let mut flipped = bytes.clone();
        flipped[at * 4] ^= 1 << (at % 8);
        crate::fuzz::wal_segment::fuzz_wal_segment(&flipped[..bytes.len() - at]);
    }
}
