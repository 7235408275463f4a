//! Many threads on real files.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::scope;

use super::*;
use crate::env::pool::PoolEnv;

fn real(options: LogOptions) -> (tempfile::TempDir, LogPlace) {
    let dir = tempfile::tempdir().unwrap();
    let mut place = place_in(PoolEnv::new(1), dir.path().join("log"));
    place.options = options;
    (dir, place)
}

#[test]
fn threads_append_and_flush_at_once() {
    const THREADS: u64 = 6;
    let (_dir, place) = real(LogOptions { segment_bytes: 256 << 10, ..options() });
    let (region, part) = region();
    let first = FileLog::create(place.clone(), &region, part).unwrap();
    let second = FileLog::attach(place.clone(), &region, part).unwrap();
    let all = Mutex::new(BTreeMap::new());
    scope(|scope| {
        for thread in 0..THREADS {
            let (log, all) = (if thread % 2 == 0 { &first } else { &second }, &all);
            scope.spawn(move || {
                for turn in 0..150 {
                    let len = if turn % 40 == 39 { 70_000 } else { (turn * 37 % 900) as usize };
                    let payload = payload(thread << 32 | turn, len);
                    let appended = log.append(&payload, 1 + turn % 3).unwrap();
                    if turn % 4 == 0 {
                        log.flush(appended.end).unwrap();
                        assert!(log.durable() >= appended.end);
                    }
                    if turn % 16 == 0 {
                        log.write_out().unwrap();
                    }
                    all.lock().unwrap().insert(appended.ticket, (appended.first, 1 + turn % 3, payload));
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    assert_eq!(all.len() as u64, THREADS * 150);
    assert!(all.keys().copied().eq(0..THREADS * 150), "tickets have no gaps");
    drop((first, second));
    let (found, recovered) = replay(&place, Lsn(0)).unwrap();
    assert!(found.into_iter().map(|(_, first, count, payload)| (first, count, payload)).eq(all.into_values()));
    let (log, _) = reopen(&place, Lsn(0));
    log.truncate_below(recovered.end).unwrap();
    assert_eq!(place.segments().unwrap().first(), Some(&place.segment_of(recovered.end)));
}

#[test]
fn truncation_runs_beside_appends() {
    let (_dir, place) = real(LogOptions { segment_bytes: 64 << 10, ..options() });
    let archive_dir = Some(place.dir.join("archive"));
    let place = LogPlace { options: LogOptions { archive_dir, ..place.options.clone() }, ..place };
    let log = create(&place);
    let done = std::sync::atomic::AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                log.truncate_below(log.durable()).unwrap();
                log.write_out().unwrap();
            }
        });
        for tag in 0..400 {
            let end = log.append(&payload(tag, 3000), 1).unwrap().end;
            if tag % 10 == 9 {
                log.flush(end).unwrap();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    log.flush(log.position()).unwrap();
    log.truncate_below(log.position()).unwrap();
    let stats = log.stats();
    assert_eq!(stats.segments_archived, place.segment_of(log.position()) - 1);
    let end = log.position();
    drop(log);
    assert_eq!(replay(&place, end).unwrap().1.end, end);
}
