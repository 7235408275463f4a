//! A host with a log in memory: what it logged and did not see flushed is replayed after a crash.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;
use crate::base::ids::CommandId;
use crate::base::ids::{Lsn, SeqNo, TreeId, TxnId};
use crate::base::key::{Kind, full_key};
use crate::env::memory::{Crash, MemoryEnv};
use crate::format::batch::{Op, push_op};
use crate::format::row_version::{RowKind, RowVersion, Stamp, decode};
use crate::lsm::hosted::{Place, Placed};
use crate::lsm::row_host::{TreeKind, ValueRule, ValueVerdict};
use crate::lsm::versions::Expected;
use crate::wal::Appended;

const LOCKS: TreeId = TreeId(1);
const ROWS: TreeId = TreeId(0x4000_0001);

/// A log of a host: records by position, which stays when the engine goes.
#[derive(Default)]
struct HostLog {
    records: Mutex<Vec<(u64, SeqNo, Vec<u8>)>>,
    next: AtomicU64,
    flushed: AtomicU64,
    interrupted: AtomicBool,
    /// While the log is replayed: one more than where the last replayed record ends.
    replayed: AtomicU64,
    /// Whether this process flushes when it waits.
    flushes: AtomicBool,
    /// Whether somebody copies the directory.
    keeps: AtomicBool,
    /// What a flush waits for; it is interrupted then.
    waits: Mutex<Vec<String>>,
}

struct Handle(Arc<HostLog>);

impl Log for Handle {
    fn append(&self, _payload: &[u8], _count: u64) -> Result<Appended> {
        Err(Error::usage("the host logs by itself", ""))
    }
    fn flush(&self, upto: Lsn) -> Result<()> {
        assert!(upto.0 <= self.0.next.load(Ordering::SeqCst), "flush beyond the end");
        self.0.flushed.fetch_max(upto.0, Ordering::SeqCst);
        Ok(())
    }
    fn position(&self) -> Lsn {
        match self.0.replayed.load(Ordering::SeqCst) {
            0 => Lsn(self.0.next.load(Ordering::SeqCst)),
            past => Lsn(past - 1),
        }
    }
    fn durable(&self) -> Lsn {
        Lsn(self.0.flushed.load(Ordering::SeqCst))
    }
}

impl Host for Handle {
    fn write(&self, placed: Placed<'_>) -> Result<()> {
        let mut records = self.0.records.lock().unwrap();
        let at = self.0.next.fetch_add(10, Ordering::SeqCst);
        records.push((at, placed.first(), placed.batch().to_vec()));
        placed.insert();
        Ok(())
    }
    fn check_interrupts(&self) -> Result<()> {
        if self.0.interrupted.load(Ordering::SeqCst) { Err(Error::Closed("cancelled".into())) } else { Ok(()) }
    }
    fn waits_long(&self, what: &str) {
        self.0.waits.lock().unwrap().push(what.to_owned());
        self.0.interrupted.store(true, Ordering::SeqCst);
    }
    fn flushes_itself(&self) -> bool {
        self.0.flushes.load(Ordering::SeqCst)
    }
    fn tree_kind(&self, tree: TreeId) -> TreeKind {
        if tree == LOCKS { TreeKind::Locks } else { TreeKind::Rows }
    }
    fn keeps_files(&self) -> bool {
        self.0.keeps.load(Ordering::SeqCst)
    }
}

/// Everybody has committed, except odd transactions, which have rolled back.
struct Rows;

impl RowHost for Rows {
    fn rule(&self) -> Result<Box<dyn ValueRule + '_>> {
        Ok(Box::new(Odd))
    }
    fn make_ends_stable(&self) -> Result<()> {
        Ok(())
    }
}

struct Odd;

impl ValueRule for Odd {
    fn next_row(&mut self) {}
    fn judge(&mut self, value: &[u8], _bottommost: bool, _out: &mut Vec<u8>) -> Result<ValueVerdict> {
        let txn = decode(value).unwrap().stamp.map(|stamp| stamp.txn);
        Ok(if txn.is_some_and(|txn| txn.0 % 2 == 1) { ValueVerdict::Drop } else { ValueVerdict::Keep(txn) })
    }
    fn is_running(&mut self, _txn: TxnId) -> Result<bool> {
        Ok(true)
    }
}

struct World {
    env: Arc<MemoryEnv>,
    log: Arc<HostLog>,
    region: Region,
    options: Options,
}

impl World {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let env = MemoryEnv::new(seed);
        let options = Options {
            memtable_bytes: 64 << 10,
            memtables: 2,
            cache_bytes: 1 << 20,
            disk_reserve_bytes: 0,
            background_threads: 1,
            env: Some(Arc::<MemoryEnv>::clone(&env)),
            ..Options::default()
        };
        let region = Region::anonymous(&layout(&options).0).unwrap();
        let log = Arc::new(HostLog::default());
        log.flushes.store(true, Ordering::SeqCst);
        Self { env, log, region, options }
    }

    fn parts(&self) -> HostParts {
        HostParts {
            log: Arc::new(Handle(Arc::clone(&self.log))),
            host: Arc::new(Handle(Arc::clone(&self.log))),
            rows: Arc::new(Rows),
            copied: None,
        }
    }

    fn open(&self) -> Arc<Lsm> {
        open_hosted(Path::new("db"), self.options.clone(), self.region.clone(), self.parts()).unwrap()
    }

    /// The machine dies: memory is gone, and what was not synced; then the host replays from `redo`.
    fn crash(&mut self, redo: u64) -> Arc<Lsm> {
        self.env.crash(Crash::Power);
        self.region = Region::anonymous(&layout(&self.options).0).unwrap();
        self.log.replayed.store(redo + 1, Ordering::SeqCst);
        let lsm = self.open();
        self.replay(&lsm, redo);
        lsm
    }

    /// Replays the log from `redo` on.
    fn replay(&self, lsm: &Arc<Lsm>, redo: u64) {
        self.log.replayed.store(redo + 1, Ordering::SeqCst);
        for (at, first, batch) in &*self.log.records.lock().unwrap() {
            if *at >= redo {
                lsm.replay_hosted(batch, *first, Lsn(*at)).unwrap();
                self.log.replayed.store(at + 11, Ordering::SeqCst);
            }
        }
        self.log.replayed.store(0, Ordering::SeqCst);
    }
}

fn row(number: u64, txn: u64, len: usize) -> Vec<u8> {
    let mut value = Vec::new();
    let stamp = Some(Stamp { txn: TxnId(txn), command: CommandId(0) });
    RowVersion { kind: RowKind::Put, number: 0, stamp, payload: &vec![7; len] }.encode(&mut value);
    let mut batch = Vec::new();
    push_op(&mut batch, Op { kind: Kind::Put, key: &full_key(ROWS, &number.to_be_bytes()), value: &value });
    batch
}

fn count(lsm: &Arc<Lsm>) -> usize {
    use crate::lsm::{merge::Direction, scan::Scan};
    let mut scan = Scan::unanchored(Arc::clone(lsm), full_key(ROWS, &[]), None, Direction::Forward);
    let mut count = 0;
    while scan.next_row().unwrap().is_some() {
        count += 1;
    }
    count
}

#[test]
fn what_was_logged_comes_back_and_what_was_flushed_is_not_replayed_twice() {
    let mut world = World::new();
    let lsm = world.open();
    for number in 0..2000 {
        lsm.write(&row(number, 2, 100), 1, crate::Durability::Process).unwrap();
    }
    assert!(lsm.view().unwrap().files().count() > 0, "the writer flushed by itself");
    let durable = lsm.view().unwrap().version.durable;
    assert!(durable.0 > 0 && durable.0 < 20_000);
    assert!(world.log.flushed.load(Ordering::SeqCst) >= durable.0, "the log before the data");
    let lsm = world.crash(0);
    assert_eq!(count(&lsm), 2000);
    // A checkpoint with a later redo pointer may complete once what lies below it is in files.
    assert!(lsm.flush_below(Lsn(15_005)).unwrap());
    let lsm = world.crash(15_005);
    assert_eq!(count(&lsm), 2000);
    lsm.write(&row(2000, 2, 100), 1, crate::Durability::Process).unwrap();
    assert_eq!(count(&lsm), 2001, "numbers go on above those that were replayed");
}

#[test]
fn a_placed_batch_is_readable_once_inserted_and_nothing_when_given_up() {
    let world = World::new();
    let lsm = world.open();
    let batch = row(1, 2, 10);
    let Place::Placed(placed) = lsm.try_place(&batch, 1).unwrap() else { panic!("an empty memtable has room") };
    assert_eq!(count(&lsm), 0);
    let first = placed.first();
    drop(placed);
    assert_eq!(count(&lsm), 0);
    let placed = lsm.place(&batch, 1).unwrap();
    assert!(placed.first() > first);
    placed.insert();
    assert_eq!(count(&lsm), 1);
}

#[test]
fn trees_are_what_the_host_says() {
    let world = World::new();
    let lsm = world.open();
    for number in 0..10 {
        lsm.write(&row(number, number + 1, 10), 1, crate::Durability::Process).unwrap();
    }
    lsm.flush_below(Lsn(1_000)).unwrap();
    assert_eq!(count(&lsm), 5, "those of transactions that rolled back are gone");
    assert!(lsm.tree_has_entries(ROWS).unwrap() && !lsm.tree_has_entries(LOCKS).unwrap());
}

#[test]
fn who_waits_for_room_can_be_interrupted() {
    let world = World::new();
    world.log.flushes.store(false, Ordering::SeqCst);
    let lsm = world.open();
    world.log.interrupted.store(true, Ordering::SeqCst);
    let failed = (0..).find_map(|number| lsm.write(&row(number, 2, 1000), 1, crate::Durability::Process).err());
    assert!(failed.unwrap().to_string().contains("cancelled"));
    let attached = attach_hosted(Path::new("db"), world.options.clone(), world.region.clone(), world.parts()).unwrap();
    assert_eq!(count(&attached), count(&lsm));
}

#[test]
fn a_flush_that_a_reader_holds_back_says_whom_it_waits_for() {
    let world = World::new();
    let lsm = world.open();
    let pin = lsm.pin_reader();
    let failed = (0..10).find_map(|number| {
        lsm.write(&row(number, 2, 10), 1, crate::Durability::Process).unwrap();
        lsm.flush_below(Lsn(u64::MAX)).err()
    });
    assert!(failed.unwrap().to_string().contains("cancelled"), "no memtable was left");
    let told = std::mem::take(&mut *world.log.waits.lock().unwrap());
    assert!(told.len() == 1 && told[0].contains(&std::process::id().to_string()), "{told:?}");
    drop(pin);
    world.log.interrupted.store(false, Ordering::SeqCst);
    lsm.flush_below(Lsn(u64::MAX)).unwrap();
    assert!(world.log.waits.lock().unwrap().is_empty());
}

#[test]
fn a_process_that_ends_in_a_call_leaves_no_pin() {
    let world = World::new();
    let lsm = world.open();
    let batch = row(1, 2, 10);
    std::mem::forget(lsm.place(&batch, 1).unwrap());
    assert!(lsm.pins.oldest_writer().is_some());
    lsm.forget_process();
    assert!(lsm.pins.oldest().is_none());
}

#[test]
fn replay_may_begin_before_what_files_have() {
    let mut world = World::new();
    let lsm = world.open();
    for number in 0..500 {
        lsm.write(&row(number, 2, 100), 1, crate::Durability::Process).unwrap();
    }
    lsm.flush_below(Lsn(u64::MAX)).unwrap();
    let durable = lsm.view().unwrap().version.durable;
    for number in 500..600 {
        lsm.write(&row(number, 2, 100), 1, crate::Durability::Process).unwrap();
    }
    // As a copy of the directory that was taken while it changed is replayed: from a checkpoint before the copied files.
    let lsm = world.crash(0);
    world.log.replayed.store(1001, Ordering::SeqCst);
    lsm.flush_below(Lsn(1000)).unwrap();
    lsm.flush_below(Lsn(u64::MAX)).unwrap();
    assert!(lsm.view().unwrap().version.durable >= durable, "what files have is not forgotten");
    assert_eq!(count(&lsm), 600);
}

#[test]
fn what_is_replayed_twice_is_one_entry() {
    let mut world = World::new();
    let lsm = world.open();
    for number in 0..500 {
        lsm.write(&row(number, 2, 100), 1, crate::Durability::Process).unwrap();
    }
    // The host's account of what was replayed lags behind: the files have more than their durable position says.
    world.log.replayed.store(1001, Ordering::SeqCst);
    lsm.flush_below(Lsn(u64::MAX)).unwrap();
    let lsm = world.crash(0);
    lsm.flush_below(Lsn(u64::MAX)).unwrap();
    lsm.compact_all().unwrap();
    assert_eq!(count(&lsm), 500);
}

#[test]
fn what_is_known_of_versions_saves_files_and_hides_none() {
    let world = World::new();
    let lsm = world.open();
    // The oldest file has rows 1 and 3, the next one rows 1 and 2, the memtable row 1.
    for (rows, txn) in [([1, 3], 2), ([1, 2], 10)] {
        for number in rows {
            lsm.write(&row(number, txn, 10), 1, crate::Durability::Process).unwrap();
        }
        lsm.flush_below(Lsn(u64::MAX)).unwrap();
    }
    lsm.write(&row(1, 20, 10), 1, crate::Durability::Process).unwrap();
    let writers = |number: u64, newer_than: Option<u64>, is_there| {
        let expected = Expected { newer_than: newer_than.map(TxnId), is_there };
        let (key, mut found) = (full_key(ROWS, &number.to_be_bytes()), Vec::new());
        lsm.visit_versions(&key, expected, &mut Vec::new(), &mut |value| {
            found.push(decode(value).unwrap().stamp.unwrap().txn.0);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        found
    };
    for is_there in [false, true] {
        assert_eq!(writers(1, None, is_there), [20, 10, 2]);
        assert_eq!(writers(2, None, is_there), [10]);
        assert_eq!(writers(3, None, is_there), [2]);
        assert_eq!(writers(4, None, is_there), [0; 0]);
    }
    assert_eq!(writers(1, Some(10), false), [20, 10]);
    assert_eq!(writers(1, Some(11), false), [20]);
    assert_eq!(writers(3, Some(10), false), [0; 0]);
}

mod copies;
