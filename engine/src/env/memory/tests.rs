//! Crashes, faults and determinism of the simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::{Crash, MemoryEnv};
use crate::env::fault::FaultKind;
use crate::env::{Env, File, IoOp, OpenMode};
use crate::error::{Error, Result};
use crate::mem::aligned::AlignedBuf;

fn world(seed: u64) -> Arc<MemoryEnv> {
    let env = MemoryEnv::new(seed);
    env.create_dir(Path::new("/d")).unwrap();
    env
}

fn path(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

fn create(env: &MemoryEnv, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = env.open(&path(name), OpenMode::CREATE).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

/// A file that is stable, name and all.
fn stable(env: &MemoryEnv, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = create(env, name, bytes);
    file.sync().unwrap();
    env.sync_dir(Path::new("/d")).unwrap();
    file
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Err(Error::Io { source, .. }) => source.kind(),
        _ => panic!("no I/O error"),
    }
}

#[test]
fn a_dead_process_loses_nothing_but_its_handles() {
    let env = world(1);
    let file = create(&env, "f", b"unsynced");
    let map = env.map_shared(&path("m"), 4096).unwrap();
    map.words()[1].store(77, Ordering::Relaxed);
    let lock = env.lock(&path("LOCK")).unwrap();
    env.crash(Crash::Process);
    assert_eq!(env.read_file(&path("f")).unwrap(), b"unsynced");
    assert!(file.read_at(&mut [0; 1], 0).is_err() && file.sync().is_err() && file.len().is_err());
    map.words()[1].store(78, Ordering::Relaxed);
    let again = env.map_shared(&path("m"), 4096).unwrap();
    assert_eq!(again.words()[1].load(Ordering::Relaxed), 77, "the dead process's map is cut off");
    let new_lock = env.lock(&path("LOCK")).unwrap();
    drop((lock, file));
    assert!(env.lock(&path("LOCK")).is_err(), "the old guard does not release the new lock");
    drop(new_lock);
}

#[test]
fn power_failures_keep_what_was_synced_and_sometimes_more() {
    let (mut kept, mut lost, mut names_lost, mut torn) = (0, 0, 0, 0);
    for seed in 0..200 {
        let env = world(seed);
        let file = stable(&env, "f", &[1; 2048]);
        file.write_at(&[2; 2048], 1024).unwrap();
        create(&env, "unsynced name", b"x").sync().unwrap();
        env.crash(Crash::Power);
        let bytes = env.read_file(&path("f")).unwrap();
        assert_eq!(bytes[..1024], [1; 1024]);
        let sectors: Vec<&[u8]> = bytes[1024..].chunks(512).collect();
        assert!(sectors.iter().all(|sector| [[0; 512], [1; 512], [2; 512]].contains(&(*sector).try_into().unwrap())));
        let new = sectors.iter().filter(|sector| sector[0] == 2).count();
        kept += usize::from(new == 4);
        lost += usize::from(new == 0);
        torn += usize::from((1..4).contains(&new));
        names_lost += usize::from(env.read_file(&path("unsynced name")).is_none());
    }
    assert!(kept > 20 && lost > 20 && torn > 20, "{kept} {lost} {torn}");
    assert!((40..160).contains(&names_lost), "{names_lost}");
}

#[test]
fn a_rename_is_atomic_over_a_power_failure() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let env = world(seed);
        stable(&env, "CURRENT", b"old");
        stable(&env, "tmp", b"new");
        env.rename(&path("tmp"), &path("CURRENT")).unwrap();
        env.crash(Crash::Power);
        let current = env.read_file(&path("CURRENT")).unwrap();
        assert_eq!(env.read_file(&path("tmp")).is_none(), current == b"new");
        seen.insert(current);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn removed_files_may_come_back_until_the_directory_is_synced() {
    let mut back = 0;
    for seed in 0..100 {
        let env = world(seed);
        drop(stable(&env, "f", b"bytes"));
        env.remove(&path("f")).unwrap();
        if seed % 2 == 0 {
            env.sync_dir(Path::new("/d")).unwrap();
        }
        env.crash(Crash::Power);
        match env.read_file(&path("f")) {
            Some(bytes) if seed % 2 == 1 => {
                assert_eq!(bytes, b"bytes");
                back += 1;
            }
            file => assert!(file.is_none()),
        }
    }
    assert!((10..40).contains(&back), "{back}");
}

#[test]
fn maps_are_torn_by_power_failures_but_not_when_synced() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let env = world(seed);
        let map = env.map_shared(&path("m"), 8192).unwrap();
        let file = env.open(&path("m"), OpenMode::WRITE).unwrap();
        map.words()[0].store(1, Ordering::Relaxed);
        file.sync().unwrap();
        env.sync_dir(Path::new("/d")).unwrap();
        map.words()[0].store(2, Ordering::Relaxed);
        map.words()[1000].store(3, Ordering::Relaxed);
        env.crash(Crash::Power);
        let map = env.map_shared(&path("m"), 8192).unwrap();
        let pair = [0, 1000].map(|at| map.words()[at].load(Ordering::Relaxed));
        assert!([1, 2].contains(&pair[0]) && [0, 3].contains(&pair[1]));
        seen.insert(pair);
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_range_written_through_is_stable_without_a_sync() {
    for seed in 0..50 {
        let env = world(seed);
        let file = stable(&env, "f", &[]);
        file.write_at(&[1; 8192], 0).unwrap();
        file.write_sync_at(&[2; 512], 4096).unwrap();
        file.write_at(&[3; 512], 0).unwrap();
        env.crash(Crash::Power);
        let bytes = env.read_file(&path("f")).unwrap();
        assert_eq!(bytes[4096..4608], [2; 512], "older unsynced bytes do not come back over it");
        assert!(bytes[..512] == [0; 512] || bytes[..512] == [1; 512] || bytes[..512] == [3; 512]);
    }
    for seed in 0..50 {
        let env = world(seed);
        let file = stable(&env, "f", &[1; 8192]);
        file.set_len(100).unwrap();
        file.write_sync_at(&[2; 512], 0).unwrap();
        env.crash(Crash::Power);
        assert_eq!(env.read_file(&path("f")).unwrap(), [2; 512]);
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let env = world(1);
    env.disk_capacity(Some(5 * 4096));
    let file = create(&env, "f", &[1; 4096]);
    file.allocate(3 * 4096).unwrap();
    assert_eq!(env.free_space(Path::new("/d")).unwrap(), 2 * 4096);
    assert_eq!(kind(file.allocate(6 * 4096)), ErrorKind::StorageFull);
    let other = create(&env, "g", &[2; 2 * 4096]);
    assert!(other.write_at(&[0; 1], 2 * 4096).unwrap_err().is_no_space());
    file.write_at(&[3; 3 * 4096], 0).unwrap();
    env.remove(&path("g")).unwrap();
    assert_eq!(env.free_space(Path::new("/d")).unwrap(), 0, "an open handle keeps the space");
    drop(other);
    assert_eq!(env.free_space(Path::new("/d")).unwrap(), 2 * 4096);
    assert_eq!(kind(env.map_shared(&path("m"), 3 * 4096)), ErrorKind::StorageFull);
    file.set_len(0).unwrap();
    env.map_shared(&path("m"), 3 * 4096).unwrap();
}

#[test]
fn scheduled_faults_strike_where_told() {
    let env = world(1);
    let faults = env.faults();
    let file = create(&env, "f", &[1; 1000]);
    let before = faults.op_count();
    faults.fail_at(2, FaultKind::Eio);
    file.read_at(&mut [0; 4], 0).unwrap();
    assert!(file.read_at(&mut [0; 4], 0).is_err());
    file.read_at(&mut [0; 4], 0).unwrap();
    assert_eq!(faults.op_count() - before, 3);

    faults.fail_at(1, FaultKind::ShortWrite);
    file.sync().unwrap();
    assert!(file.write_at(&[9; 100], 0).is_err());
    assert_eq!(env.read_file(&path("f")).unwrap()[..100], [[9; 50], [1; 50]].concat());

    faults.fail_from(1, FaultKind::NoSpace);
    assert!(file.write_at(b"x", 0).unwrap_err().is_no_space());
    file.sync().unwrap();
    assert!(env.open(&path("g"), OpenMode::CREATE).err().unwrap().is_no_space());
    faults.clear();
    file.write_at(b"x", 0).unwrap();

    faults.fail_randomly(500_000);
    let failed = (0..200).filter(|_| file.sync().is_err()).count();
    faults.fail_randomly(0);
    assert!((50..150).contains(&failed), "{failed}");
    assert!(file.sync().is_ok());
    assert!(faults.trace().iter().any(|line| line.ends_with("sync /d/f !Eio")), "{faults:?}");
    faults.set_trace_len(2);
    file.sync().unwrap();
    assert_eq!(faults.trace().len(), 2);
}

#[test]
fn a_lost_sync_stays_lost_although_later_syncs_succeed() {
    let mut reverted = 0;
    for seed in 0..50 {
        let env = world(seed);
        let file = stable(&env, "f", &[1; 512]);
        file.write_at(&[2; 5000], 0).unwrap();
        env.faults().fail_at(1, FaultKind::SyncLost);
        assert!(file.sync().is_err());
        reverted += usize::from(env.read_file(&path("f")).unwrap()[0] == 1);
        file.sync().unwrap();
        env.crash(Crash::Power);
        assert_eq!(env.read_file(&path("f")).unwrap(), [1; 512]);
    }
    assert!((10..40).contains(&reverted), "{reverted}");
}

#[test]
fn a_crash_fault_kills_until_the_crash_is_called() {
    let mut happened = 0;
    for seed in 0..40 {
        let env = world(seed);
        stable(&env, "f", b"old");
        env.faults().fail_at(1, FaultKind::Crash);
        assert!(env.rename(&path("f"), &path("g")).is_err());
        assert!(env.faults().is_crashed());
        assert!(env.open(&path("f"), OpenMode::READ).is_err() && env.lock(&path("LOCK")).is_err());
        let counted = env.faults().op_count();
        env.crash(Crash::Process);
        happened += usize::from(env.read_file(&path("g")).is_some());
        env.list(Path::new("/d")).unwrap();
        assert_eq!(env.faults().op_count(), counted + 1, "the dead count nothing");
    }
    assert!((8..32).contains(&happened), "{happened}");
}

#[test]
fn the_clock_moves_by_operations_sleep_and_latency() {
    let env = world(1);
    let start = env.now();
    assert_eq!(env.now(), start);
    create(&env, "f", b"x");
    assert_eq!(env.now() - start, Duration::from_micros(2));
    env.sleep(Duration::from_secs(60));
    assert_eq!(env.now() - start, Duration::from_micros(60_000_002));
    env.faults().set_latency(Duration::from_millis(1)..=Duration::from_millis(3));
    let start = env.now();
    env.list(Path::new("/d")).unwrap();
    assert!((1..=3).contains(&(env.now() - start).as_millis()));
}

#[test]
fn damage_is_done_behind_the_back() {
    let env = world(1);
    env.write_file(&path("sub/f"), &[0; 1000]);
    assert!(env.flip_bit(&path("sub/f"), 8 * 5 + 3) && !env.flip_bit(&path("sub/f"), 8000));
    assert_eq!(env.read_file(&path("sub/f")).unwrap()[5], 8);
    assert!(env.cut(&path("sub/f"), 6));
    env.crash(Crash::Power);
    assert_eq!(env.read_file(&path("sub/f")).unwrap(), [0, 0, 0, 0, 0, 8]);
    assert!(!env.cut(&path("g"), 6) && env.read_file(&path("g")).is_none());
    env.write_file(&path("sub/f"), b"anew");
    env.crash(Crash::Power);
    assert_eq!(env.read_file(&path("sub/f")).unwrap(), b"anew");
    assert_eq!(env.files(), [path("sub/f")]);
}

#[test]
fn the_same_seed_is_the_same_world() {
    let run = |seed| {
        let env = world(seed);
        env.faults().fail_randomly(100_000);
        let mut queue = env.queue(4).unwrap();
        let file: Arc<dyn File> = loop {
            if let Ok(file) = env.open(&path("f"), OpenMode::CREATE) {
                break file;
            }
        };
        let mut out = Vec::new();
        for tag in 0..50u8 {
            let mut buf = AlignedBuf::zeroed(700);
            buf.fill(tag);
            let write = IoOp::Write { file: Arc::clone(&file), offset: u64::from(tag) * 300, buf };
            queue.push(tag.into(), write).unwrap();
            queue.wait(0, &mut out).unwrap();
        }
        drop(queue);
        env.crash(Crash::Power);
        let order: Vec<(u64, bool)> = out.iter().map(|done| (done.tag, done.result.is_ok())).collect();
        (order, env.read_file(&path("f")), env.random(), env.now(), env.faults().trace())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

#[test]
fn queued_writes_happen_in_any_order_and_die_with_the_process() {
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let env = world(seed);
        let file = create(&env, "f", b"");
        let mut queue = env.queue(8).unwrap();
        let mut out = Vec::new();
        for tag in 0..3 {
            let buf = AlignedBuf::zeroed(10);
            queue.push(tag, IoOp::Write { file: Arc::clone(&file), offset: 0, buf }).unwrap();
        }
        queue.push(3, IoOp::Sync { file: Arc::clone(&file) }).unwrap();
        queue.wait(4, &mut out).unwrap();
        let tags: Vec<u64> = out.iter().map(|done| done.tag).collect();
        assert_eq!(tags[3], 3, "the sync comes after the writes it covers");
        orders.insert(tags);
        queue.push(9, IoOp::Write { file, offset: 0, buf: AlignedBuf::zeroed(100) }).unwrap();
        env.crash(Crash::Process);
        drop(queue);
        assert_eq!(env.read_file(&path("f")).unwrap().len(), 10);
    }
    assert!(orders.len() > 3);
}

/// Steps of a random life of one file.
#[derive(Clone, Debug)]
enum Step {
    Write { at: u64, len: usize },
    WriteSync { at: u64, len: usize },
    Extend(u64),
    Allocate(u64),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..20_000u64, 1..6000usize).prop_map(|(at, len)| Step::Write { at, len }),
        1 => (0..20_000u64, 1..3000usize).prop_map(|(at, len)| Step::WriteSync { at, len }),
        1 => (0..5000u64).prop_map(Step::Extend),
        1 => (0..20_000u64).prop_map(Step::Allocate),
        1 => Just(Step::Sync),
    ]
}

/// What a power failure may leave of one file: for each sector every version since it was last stable.
#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    stable_len: usize,
    versions: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Model {
    fn sector(&self, sector: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.bytes.iter().skip(sector * 512).take(512).copied().collect();
        bytes.resize(512, 0);
        bytes
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let sectors = at / 512..(at + bytes.len()).div_ceil(512);
        for sector in sectors.clone() {
            let base = self.sector(sector);
            self.versions.entry(sector).or_insert_with(|| vec![base]);
        }
        self.extend(at + bytes.len());
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for sector in sectors {
            let now = self.sector(sector);
            self.versions.get_mut(&sector).unwrap().push(now);
        }
    }

    fn extend(&mut self, len: usize) {
        self.bytes.resize(self.bytes.len().max(len), 0);
    }

    fn sync(&mut self) {
        self.stable_len = self.bytes.len();
        self.versions.clear();
    }

    fn sync_range(&mut self, at: usize, len: usize) {
        self.stable_len = self.stable_len.max(at + len);
        for sector in at / 512..(at + len).div_ceil(512) {
            self.versions.remove(&sector);
        }
    }

    fn check(&self, left: &[u8]) {
        assert!((self.stable_len..=self.bytes.len()).contains(&left.len()), "length {}", left.len());
        for (sector, bytes) in left.chunks(512).enumerate() {
            let allowed = self.versions.get(&sector).cloned().unwrap_or_else(|| vec![self.sector(sector)]);
            assert!(allowed.iter().any(|version| version[..bytes.len()] == *bytes), "sector {sector}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn bytes_after_a_power_failure_are_ones_that_were_written(
        seed: u64,
        lives in prop::collection::vec(prop::collection::vec(step(), 0..12), 1..4),
    ) {
        let env = world(seed);
        drop(stable(&env, "f", b""));
        let mut model = Model::default();
        let mut byte = 0u8;
        for life in lives {
            let file = env.open(&path("f"), OpenMode::WRITE).unwrap();
            for step in life {
                byte = byte.wrapping_add(1);
                match step {
                    Step::Write { at, len } => {
                        file.write_at(&vec![byte; len], at).unwrap();
                        model.write(usize::try_from(at).unwrap(), &vec![byte; len]);
                    }
                    Step::WriteSync { at, len } => {
                        file.write_sync_at(&vec![byte; len], at).unwrap();
                        model.write(usize::try_from(at).unwrap(), &vec![byte; len]);
                        model.sync_range(usize::try_from(at).unwrap(), len);
                    }
                    Step::Extend(more) => {
                        let len = model.bytes.len() + usize::try_from(more).unwrap();
                        file.set_len(len as u64).unwrap();
                        model.extend(len);
                    }
                    Step::Allocate(len) => {
                        file.allocate(len).unwrap();
                        model.extend(usize::try_from(len).unwrap());
                    }
                    Step::Sync => {
                        file.sync().unwrap();
                        model.sync();
                    }
                }
                prop_assert_eq!(&env.read_file(&path("f")).unwrap(), &model.bytes);
            }
            env.crash(Crash::Power);
            let left = env.read_file(&path("f")).unwrap();
            model.check(&left);
            model = Model { stable_len: left.len(), bytes: left, versions: BTreeMap::new() };
        }
    }

    #[test]
    fn names_after_a_power_failure_are_ones_that_were_given(
        seed: u64,
        steps in prop::collection::vec((0..5u8, 0..4usize, 0..4usize), 0..30),
    ) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let env = world(seed);
        let mut now: [Option<u8>; 4] = [None; 4];
        let mut allowed: [BTreeSet<Option<u8>>; 4] = std::array::from_fn(|_| BTreeSet::from([None]));
        for (number, (what, one, two)) in (1u8..).zip(steps) {
            let (from, to) = (path(NAMES[one]), path(NAMES[two]));
            match what {
                0 | 1 if now[one].is_none() => {
                    let file = env.open(&from, OpenMode::CREATE).unwrap();
                    file.write_sync_at(&[number], 0).unwrap();
                    now[one] = Some(number);
                }
                2 if now[one].is_some() && one != two => {
                    env.rename(&from, &to).unwrap();
                    now[two] = now[one].take();
                }
                3 if now[one].is_some() => {
                    env.remove(&from).unwrap();
                    now[one] = None;
                }
                4 => {
                    env.sync_dir(Path::new("/d")).unwrap();
                    allowed = now.map(|name| BTreeSet::from([name]));
                }
                _ => {}
            }
            for (set, name) in allowed.iter_mut().zip(now) {
                set.insert(name);
            }
        }
        env.crash(Crash::Power);
        for (set, name) in allowed.iter().zip(NAMES) {
            let left = env.read_file(&path(name)).map(|bytes| bytes[0]);
            prop_assert!(set.contains(&left), "{name}: {left:?} of {set:?}");
        }
    }
}
