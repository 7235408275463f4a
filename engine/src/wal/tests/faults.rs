//! Disks that fail: a full one is waited out, a failed write or sync closes the log, and so does the death of a process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::env::fault::FaultKind;
use crate::env::memory::Crash;
use crate::error::Class;

#[test]
fn a_full_disk_is_waited_out() {
    let (env, place) = world(60);
    let log = create(&place);
    let mut entries = vec![append(&log, 0, 100, 1)];
    log.flush(log.position()).unwrap();
    env.faults().fail_from(1, FaultKind::NoSpace);
    // The first segment is there; its space is not asked for again, but simulated writes fail too, so only creation is
    // left to fail: fill the first segment before.
    env.faults().clear();
    while log.position() < Lsn(8192 - 200) {
        entries.push(append(&log, entries.len() as u64, 100, 1));
    }
    log.flush(log.position()).unwrap();
    env.disk_capacity(Some(0));
    let refused = loop {
        match log.append(&payload(entries.len() as u64, 1000), 1) {
            Ok(appended) => {
                let at = Lsn(appended.end.0 - 1040);
                entries.push((at, appended.first, 1, payload(entries.len() as u64, 1000)));
            }
            Err(error) => break error,
        }
    };
    assert!(refused.is_no_space(), "{refused}");
    let last = entries.last().unwrap().0;
    assert!(last.0 > 60_000, "the ring was filled first");
    assert!(log.flush(log.position()).unwrap_err().is_no_space());
    assert!(log.write_out().unwrap_err().is_no_space());
    assert!(!log.should_write(), "no busy loop on a full disk");
    assert!(log.append(&[0; 200_000], 1).unwrap_err().is_no_space());
    assert_eq!(log.position(), Lsn(last.0 + 1040), "a refused record leaves nothing behind");
    env.disk_capacity(None);
    entries.push(append(&log, 999, 200_000, 1));
    log.flush(log.position()).unwrap();
    assert_eq!(log.stats().records, entries.len() as u64);
    env.crash(Crash::Power);
    assert_eq!(reopen(&place, Lsn(0)).1, entries);
}

#[test]
fn a_failed_write_or_sync_closes_the_log() {
    for (seed, kind) in [FaultKind::Eio, FaultKind::SyncLost, FaultKind::ShortWrite].into_iter().enumerate() {
        let (env, place) = world(70 + seed as u64);
        let log = create(&place);
        let mut entries: Vec<_> = (0..10).map(|tag| append(&log, tag, 100, 1)).collect();
        log.flush(log.position()).unwrap();
        let durable = entries.len();
        // More than one segment, so that writes and syncs are apart.
        entries.extend((0..10).map(|tag| append(&log, tag, 1500, 1)));
        env.faults().fail_at(1, kind);
        let first = log.flush(log.position()).unwrap_err();
        assert_eq!(first.class(), Class::Io, "{kind:?}");
        for again in [
            log.flush(log.position()).unwrap_err(),
            log.append(b"more", 1).unwrap_err(),
            log.write_out().unwrap_err(),
            log.truncate_below(log.position()).unwrap_err(),
            log.close().unwrap_err(),
        ] {
            assert_eq!(again.class(), Class::Closed);
            assert!(again.to_string().contains("log segment 00000"), "names what failed: {again}");
        }
        assert!(!log.should_write());
        log.flush(log.durable()).unwrap();
        env.crash(Crash::Power);
        let found = reopen(&place, Lsn(0)).1;
        assert!(found.len() >= durable && found == entries[..found.len()], "{kind:?}");
    }
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again() {
    for seed in 100..120 {
        let (env, place) = world(seed);
        let log = create(&place);
        let entries: Vec<_> = (0..10).map(|tag| append(&log, tag, 1500, 1)).collect();
        log.write_out().unwrap();
        env.faults().fail_at(1, FaultKind::SyncLost);
        let failed = log.flush(log.position()).unwrap_err();
        assert!(failed.to_string().contains("sync"), "{failed}");
        env.crash(Crash::Process);
        let (log, found) = reopen(&place, Lsn(0));
        assert!(found == entries[..found.len()]);
        drop(log);
        env.crash(Crash::Power);
        assert_eq!(reopen(&place, Lsn(0)).1, found, "what was recovered stays");
    }
}

#[test]
fn a_death_under_a_lock_closes_the_log() {
    for claim in [false, true] {
        let (_env, place) = world(80);
        let log = create(&place);
        let entry = append(&log, 1, 10, 1);
        let died = catch_unwind(AssertUnwindSafe(|| {
            let shared = log.shared();
            let _held = if claim { &shared.claim } else { &shared.lock }.lock().unwrap();
            std::panic::resume_unwind(Box::new("died"));
        }));
        assert!(died.is_err());
        let error = if claim { log.flush(log.position()).unwrap_err() } else { log.append(b"x", 1).unwrap_err() };
        assert_eq!(error.class(), Class::Closed);
        assert!(error.to_string().contains("died"), "{error}");
        assert_eq!(log.append(b"x", 1).unwrap_err().to_string(), error.to_string());
        assert_eq!(reopen(&place, Lsn(0)).1, [entry]);
    }
}

#[test]
fn an_archive_that_fails_keeps_the_segments() {
    let (env, mut place) = world(90);
    place.options.archive_dir = Some("/archive".into());
    let log = create(&place);
    let entries: Vec<_> = (0..40).map(|tag| append(&log, tag, 1000, 1)).collect();
    log.flush(log.position()).unwrap();
    env.disk_capacity(Some(0));
    assert!(log.truncate_below(log.position()).unwrap_err().is_no_space());
    assert!(log.write_out().unwrap_err().is_no_space());
    assert!(!log.should_write());
    assert_eq!(replay(&place, Lsn(0)).unwrap().0, entries);
    env.disk_capacity(None);
    log.truncate_below(log.position()).unwrap();
    assert_eq!(log.stats().segments_archived, place.segment_of(log.position()) - 1);
}
