//! The log when nothing goes wrong.

use super::*;
use crate::error::Class;

#[test]
fn records_come_back_in_order() {
    let (_env, place) = world(1);
    let log = create(&place);
    let mut entries = Vec::new();
    for (tag, len) in [0, 1, 7, 8, 9, 130, 4096, 5000, 20_000].into_iter().enumerate() {
        let before = log.position();
        entries.push(append(&log, tag as u64, len, tag as u64));
        let next = log.append(b"", 0).unwrap();
        assert_eq!(next.ticket, 2 * tag as u64 + 1);
        assert_eq!(next.first, log.next_seqno(), "a record of no entries takes no sequence number");
        let at = Lsn(before.0 + (40 + len as u64).next_multiple_of(8));
        entries.push((at, next.first, 0, Vec::new()));
    }
    log.flush(log.position()).unwrap();
    assert_eq!(log.durable(), log.position());
    let (found, recovered) = replay(&place, Lsn(0)).unwrap();
    assert_eq!(found, entries);
    assert_eq!((recovered.end, recovered.ending), (log.position(), Ending::Clean));
    assert_eq!(recovered.last_seqno, SeqNo(36), "numbers start at 1 and 0 + 1 + … + 8 were taken");
    let (tail, _) = replay(&place, entries[6].0).unwrap();
    assert_eq!(tail, entries[6..], "replay may start at any record");
}

#[test]
fn a_record_larger_than_the_ring_goes_through_it() {
    let (_env, place) = world(2);
    let log = create(&place);
    let mut entries = vec![append(&log, 1, 100, 1)];
    entries.push(append(&log, 2, 500_000, 1));
    entries.push(append(&log, 3, 65_536 - 40, 1));
    entries.push(append(&log, 4, 61_000, 1));
    entries.push(append(&log, 5, 130, 1));
    assert_eq!(log.durable(), Lsn(0), "nobody asked for a sync");
    let (found, _) = replay(&place, Lsn(0)).unwrap();
    assert_eq!(found, entries, "what is only in the ring is found there");
    log.flush(log.position()).unwrap();
    let stats = log.stats();
    assert_eq!((stats.records, stats.appended_bytes), (5, log.position().0));
    assert_eq!(stats.segments_created, log.position().0 / 8192);
    let (log, found) = reopen(&place, Lsn(0));
    assert_eq!(found, entries);
    assert_eq!(log.next_seqno(), SeqNo(6));
}

#[test]
fn flush_of_a_short_tail_is_one_write() {
    let (_env, place) = world(3);
    let log = create(&place);
    for tag in 0..10 {
        append(&log, tag, 130, 1);
        let before = log.stats();
        log.flush(log.position()).unwrap();
        log.flush(log.position()).unwrap();
        let after = log.stats();
        assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    }
}

#[test]
fn compression_is_kept_only_when_it_saves() {
    let (env, mut place) = world(4);
    place.options.compress = true;
    let log = create(&place);
    let noise: Vec<u8> = (0..125).flat_map(|_| env.random().to_le_bytes()).collect();
    for payload in [vec![7; 1000], noise, vec![7; 255], vec![0; 100_000]] {
        log.append(&payload, 1).unwrap();
    }
    assert!(log.position().0 < 1_000 + 1_000 + 40 * 8 + 255 + 600);
    let (found, _) = replay(&place, Lsn(0)).unwrap();
    assert_eq!(found.iter().map(|entry| entry.3.len()).collect::<Vec<_>>(), [1000, 1000, 255, 100_000]);
    assert!(found[3].3.iter().all(|&b| b == 0) && found[0].3.iter().all(|&b| b == 7));
    assert_eq!(log.stats().payload_bytes, 102_255);
}

#[test]
fn old_segments_are_recycled_and_their_contents_ignored() {
    let (_env, place) = world(5);
    let mut log = create(&place);
    let (mut entries, mut from) = (Vec::new(), 0);
    for tag in 0..400 {
        entries.push(append(&log, tag, 216, 1));
        log.flush(log.position()).unwrap();
        if tag % 20 == 19 {
            from = entries.len() - 10;
            log.truncate_below(entries[from].0).unwrap();
        }
        if tag % 37 == 36 {
            let (next, found) = reopen(&place, entries[from].0);
            assert_eq!(found, entries[from..], "equal records of recycled segments do not show up");
            log = next;
        }
    }
    assert!(log.stats().segments_recycled > 0);
    let names = place.env.list(&place.dir).unwrap();
    let count = |ext: &str| names.iter().filter(|name| name.ends_with(ext)).count();
    assert!(count(".wal") <= 3 && count(".spare") <= 2 && count(".new") == 0, "{names:?}");
}

#[test]
fn background_work_is_asked_for_and_done() {
    let (_env, place) = world(6);
    let log = create(&place);
    assert!(!log.should_write() && !log.write_out().unwrap());
    for tag in 0..20 {
        append(&log, tag, 1000, 1);
    }
    assert!(log.should_write() && log.write_out().unwrap());
    let stats = log.stats();
    assert!(stats.written_bytes >= 16 << 10 && stats.syncs == 0);
    assert_eq!(log.durable(), Lsn(0));
    assert!(place.segment_start(place.segments().unwrap().len() as u64 + 1) > log.position().plus(4096), "one ahead");
    assert!(!log.should_write() && !log.write_out().unwrap());
    log.flush(log.position()).unwrap();
    let (found, _) = replay(&place, Lsn(0)).unwrap();
    assert_eq!(found.len(), 20);
}

#[test]
fn finished_segments_are_archived() {
    let (env, mut place) = world(7);
    let archive = PathBuf::from("/archive");
    place.options.archive_dir = Some(archive.clone());
    let log = create(&place);
    let mut copies = Vec::new();
    for tag in 0..60 {
        append(&log, tag, 1000, 1);
    }
    log.flush(log.position()).unwrap();
    let finished = place.segment_of(log.position()) - 1;
    let read = |dir: &std::path::Path, number| {
        let file = env.open(&dir.join(segment_name(number)), crate::env::OpenMode::READ).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    for number in 1..=finished {
        copies.push(read(&place.dir, number));
    }
    assert!(log.should_write() && log.write_out().unwrap());
    assert_eq!(log.stats().segments_archived, finished);
    log.truncate_below(log.position()).unwrap();
    for number in 1..=finished {
        assert_eq!(read(&archive, number), copies[number as usize - 1]);
    }
    assert_eq!(place.segments().unwrap()[0], finished + 1);

    // A replay of the archive alone: the same records, as far as it goes.
    let restored = LogPlace { dir: archive.clone(), ..place.clone() };
    let (found, _) = replay(&restored, Lsn(0)).unwrap();
    assert_eq!(found.len(), (finished * 8192 / 1040) as usize);

    // The archive of one engine is not another's.
    let (other_region, part) = region();
    let other = LogPlace { dir: "/other".into(), uuid: [9; 16], ..place.clone() };
    let other = FileLog::create(other, &other_region, part).unwrap();
    for _ in 0..10 {
        other.append(&[0; 1000], 1).unwrap();
    }
    let refused = other.truncate_below(other.position()).unwrap_err();
    assert_eq!(refused.class(), Class::Usage);
    assert!(!refused.hint().is_empty());
}

#[test]
fn an_attached_log_is_the_same_log() {
    let (_env, place) = world(8);
    let (region, part) = region();
    let first = FileLog::create(place.clone(), &region, part).unwrap();
    let second = FileLog::attach(place.clone(), &region, part).unwrap();
    let mut entries = Vec::new();
    for tag in 0..300 {
        let log = if tag % 3 == 0 { &second } else { &first };
        entries.push(append(log, tag, 500, 2));
        if tag % 50 == 0 {
            (if tag % 4 == 0 { &first } else { &second }).flush(log.position()).unwrap();
        }
    }
    second.close().unwrap();
    assert_eq!(first.append(b"x", 1).unwrap_err().to_string(), "engine is closed: the log was closed");
    drop((first, second));
    assert_eq!(replay(&place, Lsn(0)).unwrap().0, entries);

    let other = LogPlace { options: LogOptions { ring_bytes: 128 << 10, ..options() }, ..place };
    assert_eq!(FileLog::attach(other, &region, part).err().unwrap().class(), Class::Usage);
}

#[test]
fn what_cannot_be_is_refused() {
    let (_env, place) = world(9);
    let (region, part) = region();
    for (segment_bytes, ring_bytes) in [(0, 64 << 10), (5000, 64 << 10), (8192, 100_000), (8192, 32 << 10)] {
        let options = LogOptions { segment_bytes, ring_bytes, ..options() };
        let refused = FileLog::create(LogPlace { options, ..place.clone() }, &region, part).err().unwrap();
        assert_eq!(refused.class(), Class::Usage);
    }
    let log = create(&place);
    assert_eq!(log.append(b"", 1 << 32).unwrap_err().class(), Class::Usage);
    assert_eq!(log.flush(Lsn(8)).unwrap_err().class(), Class::Usage);
    append(&log, 1, 10, 1);
    log.close().unwrap();
    assert_eq!(FileLog::create(place.clone(), &region, part).err().unwrap().class(), Class::Usage);
    assert_eq!(replay(&place, Lsn(3)).unwrap_err().class(), Class::Usage);
    let options = LogOptions { segment_bytes: 4096, ..options() };
    assert_eq!(replay(&LogPlace { options, ..place.clone() }, Lsn(0)).unwrap_err().class(), Class::Usage);
    assert_eq!(replay(&LogPlace { uuid: [0; 16], ..place }, Lsn(0)).unwrap_err().class(), Class::Corruption);
}

/// Zeros ahead of need are for logs whose writers wait for the device.
#[test]
fn a_spare_is_filled_where_the_log_is_synced_often() {
    for synced in [false, true] {
        let (env, place) = world(7);
        let log = create(&place);
        env.faults().set_trace_len(10_000);
        for tag in 0..200 {
            append(&log, tag, 216, 1);
            if synced {
                log.flush(log.position()).unwrap();
            }
            if log.should_write() {
                log.write_out().unwrap();
            }
        }
        let fills =
            env.faults().trace().iter().filter(|line| line.contains("write") && line.contains(".blank")).count();
        // Each spare has its header written; one that is filled has its data, too.
        let spares =
            env.faults().trace().iter().filter(|line| line.contains("rename") && line.contains(".blank")).count();
        assert!(spares > 0);
        assert_eq!(fills > spares, synced, "{fills} writes to {spares} spares");
    }
}
