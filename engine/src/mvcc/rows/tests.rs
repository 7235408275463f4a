//! The row store on a simulated disk, with a table of transactions as its host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::*;
use crate::Engine;
use crate::env::memory::MemoryEnv;
use crate::lsm::merge::Direction;
use crate::lsm::row_host::{RowHost, TreeKind, ValueRule, ValueVerdict};
use crate::lsm::scan::{Follows, Scan};
use crate::mvcc::garbage::{Horizon, RowRule, RowVerdict};
use crate::mvcc::latch::ProcessLatches;
use crate::mvcc::row_scan::{KeyRange, RowSink, ScannedRow};
use crate::mvcc::snapshot::TxnSnapshot;
use crate::mvcc::status::TxnState;
use crate::options::Options;

/// Transactions by id, and the snapshots that garbage collection respects.
#[derive(Default)]
struct Table {
    states: Mutex<BTreeMap<u64, TxnState>>,
    kept: Mutex<Vec<TxnSnapshot>>,
}

impl Table {
    fn set(&self, txn: u64, state: TxnState) {
        self.states.lock().unwrap().insert(txn, state);
    }

    fn state_of(&self, txn: TxnId) -> TxnState {
        self.states.lock().unwrap().get(&txn.0).copied().unwrap_or(TxnState::Aborted)
    }

    fn snapshot(&self) -> TxnSnapshot {
        let states = self.states.lock().unwrap();
        let running: BTreeSet<_> =
            states.iter().filter(|(_, state)| **state == TxnState::InProgress).map(|(&id, _)| TxnId(id)).collect();
        let next = TxnId(states.keys().last().map_or(1, |&id| id + 1));
        let oldest = running.first().copied().unwrap_or(next);
        TxnSnapshot { oldest, next, running: running.into_iter().collect(), command: CommandId(0) }
    }
}

impl RowHost for Arc<Table> {
    fn rule(&self) -> Result<Box<dyn ValueRule + '_>> {
        let now = self.snapshot();
        let snapshots = self.kept.lock().unwrap().clone();
        let oldest = snapshots.iter().map(|s| s.oldest).chain([now.oldest]).min().unwrap();
        let rule = RowRule::new(Horizon { now, snapshots: Some(snapshots), oldest });
        Ok(Box::new(TableRule { rule, view: As(self, 0) }))
    }

    fn make_ends_stable(&self) -> Result<()> {
        Ok(())
    }
}

struct TableRule<'t> {
    rule: RowRule,
    view: As<'t>,
}

impl ValueRule for TableRule<'_> {
    fn next_row(&mut self) {
        self.rule.next_row();
    }

    fn judge(&mut self, value: &[u8], bottommost: bool, out: &mut Vec<u8>) -> Result<ValueVerdict> {
        let version = decode(value).unwrap();
        Ok(match self.rule.judge(&version, bottommost, &self.view)? {
            RowVerdict::Keep => ValueVerdict::Keep(version.stamp.map(|stamp| stamp.txn)),
            RowVerdict::Freeze => {
                version.frozen().encode(out);
                ValueVerdict::Freeze
            }
            RowVerdict::Drop => ValueVerdict::Drop,
        })
    }

    fn is_running(&mut self, txn: TxnId) -> Result<bool> {
        Ok(self.view.state(txn)? == TxnState::InProgress)
    }
}

/// The table as one transaction sees it.
struct As<'t>(&'t Table, u64);

impl TxnStatus for As<'_> {
    fn is_own(&self, txn: TxnId) -> bool {
        txn.0 == self.1
    }

    fn state(&self, txn: TxnId) -> Result<TxnState> {
        Ok(self.0.state_of(txn))
    }
}

struct World {
    engine: Engine,
    table: Arc<Table>,
    rows: RowStore,
    tree: TreeId,
}

fn world(row_locks: usize) -> World {
    let env = MemoryEnv::new(1);
    let options = Options { env: Some(env), background_threads: 0, row_locks, disk_reserve_bytes: 0, ..small() };
    let engine = Engine::open("/db", options).unwrap();
    let lsm = Arc::clone(engine.lsm());
    let table = Arc::new(Table::default());
    assert!(lsm.row_host.set(Arc::new(Arc::clone(&table))).is_ok());
    let tree = lsm.open_tree(b"rows", TreeKind::Rows).unwrap();
    let spill = lsm.open_tree(b"locks", TreeKind::Locks).unwrap();
    let locks = RowLocks::new(Arc::clone(&lsm), spill);
    let rows = RowStore::new(lsm, Arc::new(ProcessLatches::default()), locks);
    World { engine, table, rows, tree }
}

fn small() -> Options {
    Options { memtable_bytes: 1 << 20, cache_bytes: 1 << 20, log_ring_bytes: 1 << 20, ..Options::default() }
}

impl World {
    fn begin(&self, txn: u64) -> TxnSnapshot {
        self.table.set(txn, TxnState::InProgress);
        self.table.snapshot()
    }

    fn commit(&self, txn: u64) {
        self.table.set(txn, TxnState::Committed);
    }

    fn abort(&self, txn: u64) {
        self.table.set(txn, TxnState::Aborted);
    }

    /// Does something as transaction `txn`, in command `command`, with `snapshot`.
    fn by<R>(&self, txn: u64, command: u32, snapshot: &Snapshot, run: impl FnOnce(&Session<'_>) -> R) -> R {
        let status = As(&self.table, txn);
        let stamp = Stamp { txn: TxnId(txn), command: CommandId(command) };
        run(&Session { stamp, snapshot, status: &status })
    }

    fn insert(&self, txn: u64, key: &[u8], payload: &[u8]) -> Conflict {
        let at = Snapshot::At(self.table.snapshot());
        self.by(txn, 0, &at, |session| self.rows.insert(session, self.tree, key, put(payload)).unwrap())
    }

    fn update(&self, txn: u64, snapshot: &TxnSnapshot, key: &[u8], payload: &[u8]) -> Conflict {
        let at = Snapshot::At(snapshot.clone());
        self.by(txn, snapshot.command.0, &at, |session| {
            self.rows.change(session, self.tree, key, put(payload)).unwrap()
        })
    }

    fn delete(&self, txn: u64, snapshot: &TxnSnapshot, key: &[u8]) -> Conflict {
        let at = Snapshot::At(snapshot.clone());
        let gone = NewVersion { kind: RowKind::Tombstone, number: 0, payload: b"" };
        self.by(txn, snapshot.command.0, &at, |session| self.rows.change(session, self.tree, key, gone).unwrap())
    }

    fn lock(&self, txn: u64, key: &[u8], mode: Mode) -> Conflict {
        let at = Snapshot::At(self.table.snapshot());
        self.by(txn, 0, &at, |session| self.rows.lock(session, self.tree, key, mode, None).unwrap())
    }

    fn read(&self, txn: u64, snapshot: &Snapshot, key: &[u8]) -> Option<Vec<u8>> {
        let mut row = Row::default();
        let found = self.rows.fetch(self.tree, key, snapshot, &As(&self.table, txn), &mut row).unwrap();
        found.then(|| row.version().payload.to_vec())
    }

    fn scan(&self, snapshot: &Snapshot, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
        let begin = || self.rows.scan(self.tree, KeyRange::default(), direction, snapshot.clone()).unwrap();
        let mut scan = begin();
        let mut out = Rows::default();
        while let Some(row) = scan.next(&As(&self.table, 0), &mut Vec::new()).unwrap() {
            out.put(&row).unwrap();
        }
        // The other way to read a scan shows the same.
        let (mut scan, mut sunk) = (begin(), Rows::default());
        let mut count = 0;
        loop {
            match scan.put_more(&As(&self.table, 0), &mut Vec::new(), &mut sunk).unwrap() {
                0 => break,
                more => count += more,
            }
        }
        assert_eq!((&sunk, count), (&out, out.0.len()));
        out.0.into_iter().map(|(key, payload, _)| (key, payload)).collect()
    }
}

/// Copies of rows, and who wrote the next version of each.
#[derive(Default, Debug, PartialEq)]
struct Rows(Vec<(Vec<u8>, Vec<u8>, Option<Stamp>)>);

impl RowSink for Rows {
    fn put(&mut self, row: &ScannedRow<'_>) -> Result<()> {
        self.0.push((row.key.to_vec(), row.version.payload.to_vec(), row.newer));
        Ok(())
    }

    const FOLLOWS: Option<Follows> = Some(follows);
}

// All keys of a test are as long as each other.
fn follows(key: &[u8], next: &[u8]) -> bool {
    if next.len() == key.len() + 2 {
        return next.starts_with(key) && next.ends_with(&[0, 0]);
    }
    let parts = key.split_last().zip(next.split_last());
    parts.is_some_and(|((a, before), (b, same))| before == same && a.checked_add(1) == Some(*b))
}

/// Keys of a tree that have an entry which is not deleted.
fn entries_of(world: &World, tree: TreeId) -> usize {
    let (from, to) = (full_key(tree, &[]), full_key(TreeId(tree.0 + 1), &[]));
    let lsm = Arc::clone(world.rows.lsm());
    let mut scan = Scan::new(lsm, from, Some(to), Direction::Forward, None).unwrap();
    std::iter::from_fn(|| scan.next_row().unwrap().map(|_| ())).count()
}

fn put(payload: &[u8]) -> NewVersion<'_> {
    NewVersion { kind: RowKind::Put, number: 0, payload }
}

#[test]
fn each_snapshot_reads_its_own_moment() {
    let world = world(1 << 10);
    world.begin(1);
    assert_eq!(world.insert(1, b"k", b"one"), Conflict::None);
    let before = Snapshot::At(world.table.snapshot());
    world.commit(1);
    let after = world.table.snapshot();
    assert_eq!(world.read(0, &before, b"k"), None);
    assert_eq!(world.read(0, &Snapshot::At(after.clone()), b"k").unwrap(), b"one");
    let second = world.begin(2);
    assert_eq!(world.update(2, &second, b"k", b"two"), Conflict::None);
    let mut row = Row::default();
    assert!(world.rows.fetch(world.tree, b"k", &Snapshot::Dirty, &As(&world.table, 0), &mut row).unwrap());
    assert_eq!((row.version().payload, row.writing), (&b"one"[..], Some(TxnId(2))));
    assert_eq!(world.update(3, &world.begin(3), b"k", b"three"), Conflict::BeingModified { by: TxnId(2) });
    world.commit(2);
    let late = TxnSnapshot { oldest: TxnId(2), ..second };
    let by = Stamp { txn: TxnId(2), command: CommandId(0) };
    assert_eq!(world.update(3, &late, b"k", b"three"), Conflict::Updated { by });
    assert_eq!(world.read(0, &Snapshot::At(after), b"k").unwrap(), b"one");
    assert_eq!(world.read(0, &Snapshot::Now, b"k").unwrap(), b"two");
}

#[test]
fn what_was_rolled_back_never_was() {
    let world = world(1 << 10);
    world.begin(1);
    world.insert(1, b"k", b"kept");
    world.commit(1);
    let snapshot = world.begin(2);
    assert_eq!(world.update(2, &snapshot, b"k", b"lost"), Conflict::None);
    assert_eq!(world.insert(2, b"other", b"lost"), Conflict::None);
    world.abort(2);
    assert_eq!(world.read(0, &Snapshot::Now, b"k").unwrap(), b"kept");
    let third = world.begin(3);
    assert_eq!(world.delete(3, &third, b"k"), Conflict::None);
    assert_eq!(world.insert(3, b"other", b"mine"), Conflict::None);
    assert_eq!(world.insert(3, b"k", b"again"), Conflict::None, "over a row that this transaction deleted");
    world.commit(3);
    world.engine.compact().unwrap();
    assert_eq!(
        world.scan(&Snapshot::Now, Direction::Forward),
        [(b"k".to_vec(), b"again".to_vec()), (b"other".to_vec(), b"mine".to_vec())]
    );
}

#[test]
fn a_command_does_not_see_itself() {
    let world = world(1 << 10);
    let mut mine = world.begin(1);
    world.insert(1, b"k", b"a");
    let before = Snapshot::At(mine.clone());
    assert_eq!(world.read(1, &before, b"k"), None, "the command that inserted it");
    mine.command = CommandId(1);
    assert_eq!(world.update(1, &mine, b"k", b"b"), Conflict::None);
    let by = Stamp { txn: TxnId(1), command: CommandId(1) };
    assert_eq!(world.update(1, &mine, b"k", b"c"), Conflict::SelfModified { by });
    assert_eq!(world.read(1, &Snapshot::At(mine.clone()), b"k").unwrap(), b"a");
    mine.command = CommandId(2);
    assert_eq!(world.read(1, &Snapshot::At(mine), b"k").unwrap(), b"b");
}

#[test]
fn locks_stand_in_the_way_by_their_mode() {
    let world = world(1 << 10);
    world.begin(1);
    world.insert(1, b"k", b"row");
    world.commit(1);
    for txn in 2..6 {
        world.begin(txn);
    }
    assert_eq!(world.lock(2, b"k", Mode::KeyShare), Conflict::None);
    assert_eq!(world.lock(3, b"k", Mode::KeyShare), Conflict::None);
    assert_eq!(world.lock(4, b"k", Mode::Update), Conflict::BeingModified { by: TxnId(3) });
    assert_eq!(world.update(4, &world.table.snapshot(), b"k", b"new"), Conflict::None, "the key stays");
    assert_eq!(world.lock(5, b"k", Mode::KeyShare), Conflict::None, "beside an update under way");
    assert_eq!(world.lock(5, b"k", Mode::Share), Conflict::BeingModified { by: TxnId(4) });
    world.commit(4);
    world.commit(2);
    world.abort(3);
    let snapshot = world.begin(6);
    assert_eq!(world.delete(6, &snapshot, b"k"), Conflict::BeingModified { by: TxnId(5) });
    assert_eq!(world.lock(5, b"k", Mode::Update), Conflict::None, "raised by the only holder");
    world.commit(5);
    assert_eq!(world.delete(6, &snapshot, b"k"), Conflict::None);
    assert_eq!(world.lock(6, b"nothing", Mode::Share), Conflict::Invisible);
}

#[test]
fn locks_beyond_the_table_go_to_a_tree_and_end_the_same() {
    let world = world(1 << 10);
    world.begin(1);
    let keys: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_be_bytes().to_vec()).collect();
    for key in &keys {
        world.insert(1, key, b"row");
    }
    world.commit(1);
    world.begin(2);
    for key in &keys {
        assert_eq!(world.lock(2, key, Mode::Update), Conflict::None);
    }
    world.begin(3);
    for key in &keys {
        assert_eq!(world.lock(3, key, Mode::KeyShare), Conflict::BeingModified { by: TxnId(2) });
    }
    world.engine.compact().unwrap();
    assert_eq!(world.lock(3, &keys[2999], Mode::Share), Conflict::BeingModified { by: TxnId(2) });
    world.commit(2);
    for key in &keys {
        assert_eq!(world.lock(3, key, Mode::Update), Conflict::None);
    }
    world.commit(3);
    world.engine.compact().unwrap();
    let spill = world.engine.trees().unwrap().into_iter().find(|(_, name)| name == b"locks").unwrap().0;
    assert_eq!(entries_of(&world, spill), 0, "compaction drops the locks of those who have ended");
}

#[test]
fn old_versions_go_when_nobody_can_read_them() {
    let world = world(1 << 10);
    world.begin(1);
    world.insert(1, b"k", b"first");
    world.commit(1);
    let old = world.table.snapshot();
    world.table.kept.lock().unwrap().push(old.clone());
    for txn in 2..500 {
        let snapshot = world.begin(txn);
        assert_eq!(world.update(txn, &snapshot, b"k", &txn.to_be_bytes()), Conflict::None);
        world.commit(txn);
    }
    world.engine.compact().unwrap();
    let versions = |world: &World| world.scan(&Snapshot::Any, Direction::Forward).len();
    assert_eq!(versions(&world), 2, "the newest, and the one of the old snapshot");
    assert_eq!(world.read(0, &Snapshot::At(old), b"k").unwrap(), b"first");
    world.table.kept.lock().unwrap().clear();
    let snapshot = world.begin(500);
    world.delete(500, &snapshot, b"k");
    world.commit(500);
    world.engine.compact().unwrap();
    assert_eq!(versions(&world), 0);
    assert_eq!(entries_of(&world, world.tree), 0, "not even a tombstone is left");
}

#[test]
fn scans_see_one_moment_both_ways_across_flushes() {
    let world = world(1 << 10);
    let key = |n: u32| n.to_be_bytes();
    world.begin(1);
    for n in 0..2000u32 {
        world.insert(1, &key(n), b"old");
    }
    world.commit(1);
    world.engine.flush().unwrap();
    let moment = world.table.snapshot();
    world.table.kept.lock().unwrap().push(moment.clone());
    let mut forward =
        world.rows.scan(world.tree, KeyRange::default(), Direction::Forward, Snapshot::At(moment.clone())).unwrap();
    let (mut seen, mut deleted) = (0, 0);
    while let Some(row) = forward.next(&As(&world.table, 0), &mut Vec::new()).unwrap() {
        assert_eq!((row.key, row.version.payload), (&key(seen)[..], &b"old"[..]));
        if seen.is_multiple_of(100) {
            let txn = 2 + u64::from(seen);
            let snapshot = world.begin(txn);
            for n in (seen..2000).step_by(7) {
                world.update(txn, &snapshot, &key(n), b"new");
            }
            // One that this command has not updated.
            deleted += usize::from(world.delete(txn, &snapshot, &key(1999 - seen)) == Conflict::None);
            world.insert(txn, &[&key(seen)[..], b"x"].concat(), b"new");
            world.commit(txn);
            if seen.is_multiple_of(300) { world.engine.compact().unwrap() } else { world.engine.flush().unwrap() }
        }
        seen += 1;
    }
    assert_eq!(seen, 2000);
    let backward = world.scan(&Snapshot::At(moment), Direction::Backward);
    assert_eq!(backward.len(), 2000);
    assert!(backward.iter().rev().zip(0u32..).all(|((k, v), n)| *k == key(n) && v == b"old"));
    let now = world.scan(&Snapshot::Now, Direction::Forward);
    assert!(deleted > 10);
    assert_eq!(now.len(), 2000 - deleted + 20);
    let mut reversed = world.scan(&Snapshot::Now, Direction::Backward);
    reversed.reverse();
    assert_eq!(now, reversed);
}

/// Long runs of versions are passed by a seek: it must neither stop short of the next row nor go past one.
#[test]
fn scans_pass_rows_of_very_many_versions() {
    let world = world(1 << 10);
    let key = |n: u8| [n];
    world.begin(1);
    for n in 0..20 {
        world.insert(1, &key(n), b"0");
    }
    world.commit(1);
    let first = world.table.snapshot();
    world.table.kept.lock().unwrap().push(first.clone());
    for round in 1..=100u64 {
        let snapshot = world.begin(round + 1);
        // Every third row has a hundred versions, and row 7 has each number up to that.
        for n in (0..20).filter(|n| n % 3 == 0 || (*n == 7 && round <= 17)) {
            world.update(round + 1, &snapshot, &key(n), round.to_string().as_bytes());
        }
        world.commit(round + 1);
        if round == 50 {
            world.engine.flush().unwrap();
        }
    }
    let expected = |n: u8| match n {
        7 => "17".to_owned(),
        n if n % 3 == 0 => "100".to_owned(),
        _ => "0".to_owned(),
    };
    for direction in [Direction::Forward, Direction::Backward] {
        let mut now = world.scan(&Snapshot::Now, direction);
        let mut then = world.scan(&Snapshot::At(first.clone()), direction);
        if direction == Direction::Backward {
            now.reverse();
            then.reverse();
        }
        assert_eq!(now, (0..20).map(|n| (vec![n], expected(n).into_bytes())).collect::<Vec<_>>());
        assert_eq!(then, (0..20).map(|n| (vec![n], b"0".to_vec())).collect::<Vec<_>>());
    }
}

/// Hot rows in dense runs, with gaps, ends and rows that are no longer there, above the same rows in files.
#[test]
fn scans_walk_hot_rows_alone() {
    let world = world(1 << 10);
    let key = |n: u16| n.to_be_bytes();
    world.begin(1);
    for n in (0..200).filter(|n| n % 100 != 99) {
        world.insert(1, &key(n), b"0");
    }
    world.commit(1);
    let first = world.table.snapshot();
    world.table.kept.lock().unwrap().push(first.clone());
    let mut middle = first.clone();
    for txn in 2..60u64 {
        let snapshot = world.begin(txn);
        // A few rows deep in the files, long runs of hot ones, and ends of some.
        for n in (0..200).filter(|n| n % 50 < 40 && n % 100 != 99) {
            if txn % 8 == 7 && n % 17 == u16::try_from(txn % 17).unwrap() {
                world.delete(txn, &snapshot, &key(n));
            } else if (u64::from(n) << 8 | txn).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 & 1 > 0 {
                world.update(txn, &snapshot, &key(n), txn.to_string().as_bytes());
            }
        }
        // A row between two others that were hot already.
        if txn == 30 {
            world.insert(txn, &key(99), b"new");
        }
        // The last one is still at it; every ninth was rolled back.
        match txn {
            59 => {}
            txn if txn % 9 == 0 => world.table.set(txn, TxnState::Aborted),
            txn => world.commit(txn),
        }
        if matches!(txn, 5 | 20 | 40) {
            world.engine.flush().unwrap();
        }
        // Most rows have changed since the last flush by then, the others will.
        if txn == 44 {
            middle = world.table.snapshot();
            world.table.kept.lock().unwrap().push(middle.clone());
        }
    }
    assert_eq!(world.scan(&Snapshot::At(first.clone()), Direction::Forward).len(), 198);
    let moments = [world.table.snapshot(), middle, first].map(Snapshot::At);
    for snapshot in [Snapshot::Now, Snapshot::Any].into_iter().chain(moments) {
        // Each is read in both ways, of which one walks alone, and they are compared.
        let rows = world.scan(&snapshot, Direction::Forward);
        assert!(rows.len() > 100);
    }
}

#[test]
fn a_speculative_row_can_be_taken_back() {
    let world = world(1 << 10);
    world.begin(1);
    let speculative = NewVersion { kind: RowKind::Speculative, number: 0, payload: b"maybe" };
    let at = Snapshot::At(world.table.snapshot());
    let insert = |session: &Session<'_>| world.rows.insert(session, world.tree, b"k", speculative).unwrap();
    assert_eq!(world.by(1, 0, &at, insert), Conflict::None);
    let mut row = Row::default();
    assert!(world.rows.fetch(world.tree, b"k", &Snapshot::Dirty, &As(&world.table, 0), &mut row).unwrap());
    assert_eq!((row.version().kind, row.writing), (RowKind::Speculative, Some(TxnId(1))));
    world.rows.take_back(world.tree, b"k").unwrap();
    assert!(!world.rows.fetch(world.tree, b"k", &Snapshot::Dirty, &As(&world.table, 0), &mut row).unwrap());
    world.commit(1);
    assert_eq!(world.read(0, &Snapshot::Now, b"k"), None);
    world.engine.compact().unwrap();
    assert_eq!(world.scan(&Snapshot::Any, Direction::Forward), []);
}
