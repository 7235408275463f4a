//! What the tests of the log share: a world, a model of what was appended, replay into a list.

mod crash;
mod damage;
mod faults;
mod plain;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::env::memory::MemoryEnv;
use crate::mem::region::{Layout, Region};

const UUID: [u8; 16] = *b"the log's engine";

/// A record as the tests compare it.
type Entry = (Lsn, SeqNo, u64, Vec<u8>);

fn options() -> LogOptions {
    LogOptions { segment_bytes: 8192, ring_bytes: 64 << 10, ..LogOptions::default() }
}

fn place_in(env: Arc<dyn Env>, dir: PathBuf) -> LogPlace {
    LogPlace { env, dir, uuid: UUID, options: options() }
}

fn world(seed: u64) -> (Arc<MemoryEnv>, LogPlace) {
    let env = MemoryEnv::new(seed);
    let place = place_in(env.clone(), PathBuf::from("/db/log"));
    (env, place)
}

fn region() -> (Region, crate::mem::region::Part<LogShared>) {
    let mut layout = Layout::new();
    let part = layout.part::<LogShared>("log", 1);
    (Region::anonymous(&layout).unwrap(), part)
}

fn create(place: &LogPlace) -> FileLog {
    let (region, part) = region();
    FileLog::create(place.clone(), &region, part).unwrap()
}

fn replay(place: &LogPlace, from: Lsn) -> Result<(Vec<Entry>, Recovered)> {
    let mut entries = Vec::new();
    let mut next = from;
    let recovered = FileLog::recover(place, from, &mut |record| {
        assert_eq!(record.kind, crate::format::log_record::RecordKind::Batch);
        assert!(record.lsn >= next && record.end > record.lsn);
        next = record.end;
        entries.push((record.lsn, record.first, record.count, record.payload.to_vec()));
        Ok(())
    })?;
    assert_eq!(recovered.records, entries.len() as u64);
    Ok((entries, recovered))
}

fn open(place: &LogPlace, recovered: &Recovered, next: SeqNo) -> Result<FileLog> {
    let (region, part) = region();
    FileLog::open(place.clone(), &region, part, recovered, next)
}

/// Replays from `from` and opens at the end.
fn reopen(place: &LogPlace, from: Lsn) -> (FileLog, Vec<Entry>) {
    let (entries, recovered) = replay(place, from).unwrap();
    (open(place, &recovered, recovered.last_seqno.plus(1)).unwrap(), entries)
}

/// Appends a record of `len` bytes told apart by `tag`, and says what replay should hand out for it.
fn append(log: &FileLog, tag: u64, len: usize, count: u64) -> Entry {
    let payload = payload(tag, len);
    let at = log.position();
    let appended = log.append(&payload, count).unwrap();
    assert_eq!(appended.end, log.position());
    (at, appended.first, count, payload)
}

fn payload(tag: u64, len: usize) -> Vec<u8> {
    tag.to_le_bytes().into_iter().chain((0..).map(|i: u64| (i * 31 + tag) as u8)).take(len).collect()
}
