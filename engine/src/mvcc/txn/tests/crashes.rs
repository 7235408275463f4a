//! Crashes at any operation of the disk: exactly those are committed whose commit was acknowledged or is there as a whole,
//! prepared transactions run on, and no id comes twice.
//!
//! Each id writes a row of its own. States are asked as readers ask: for the versions that are there. So the rules for
//! garbage, freezing and old commit records are under test, too.

use std::collections::BTreeMap;

use super::*;
use crate::base::key::{Kind, full_key};
use crate::env::Env;
use crate::env::fault::FaultKind;
use crate::format::batch::{Op, push_op};
use crate::format::row_version::{RowKind, RowVersion, Stamp, decode};
use crate::format::version_edit::{TreeEdit, VersionEdit};
use crate::lsm::row_host::TreeKind;
use crate::lsm::versions::Expected;

/// What the caller knows of a transaction after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    Prepared,
    /// Its last call returned an error, or it was acknowledged only as far as the process goes.
    Unknown,
}

struct Life {
    world: World,
    rows: TreeId,
    /// All ids of a transaction, and its fate; by its first id.
    known: BTreeMap<u64, (Vec<TxnId>, Fate)>,
    names: BTreeMap<Vec<u8>, u64>,
    largest: TxnId,
}

const ROWS: &[u8] = b"rows";

/// The tree of rows, created when it is missing.
fn rows(world: &World) -> TreeId {
    let engine = world.engine();
    if let Some(tree) = engine.find_tree(ROWS).unwrap() {
        return tree.id();
    }
    let claim = engine.lsm().claim_manifest().unwrap();
    let id = TreeId(engine.lsm().local_view().version.next_tree);
    let created = TreeEdit::Created { id, name: ROWS.to_vec(), options: TreeKind::Rows.to_options() };
    engine.lsm().install(&claim, VersionEdit { trees: vec![created], ..VersionEdit::default() }).unwrap();
    id
}

impl Life {
    fn new(seed: u64) -> Self {
        let world = World::new(seed, small());
        let rows = rows(&world);
        Self { world, rows, known: BTreeMap::new(), names: BTreeMap::new(), largest: TxnId(0) }
    }

    fn key(&self, id: TxnId) -> Vec<u8> {
        full_key(self.rows, &id.0.to_be_bytes())
    }

    /// The id of the transaction's next write, and its row.
    fn write(&self, txn: &mut Txn) -> Result<TxnId> {
        let id = txn.write_id()?;
        let stamp = Some(Stamp { txn: id, command: CommandId(0) });
        let mut value = Vec::new();
        RowVersion { kind: RowKind::Put, number: 0, stamp, payload: b"row" }.encode(&mut value);
        let mut batch = Vec::new();
        push_op(&mut batch, Op { kind: Kind::Put, key: &self.key(id), value: &value });
        self.world.engine().lsm().write(&batch, 1, Durability::Process)?;
        Ok(id)
    }

    /// How far the writer of a row has come, by what is there of the row.
    fn state_of_row(&self, id: TxnId) -> TxnState {
        let mut state = TxnState::Aborted;
        let mut visit = |value: &[u8]| {
            let stamp = decode(value).unwrap().stamp;
            state = stamp.map_or(TxnState::Committed, |stamp| self.world.state(stamp.txn));
            Ok(std::ops::ControlFlow::Break(()))
        };
        self.world
            .engine()
            .lsm()
            .visit_versions(&self.key(id), Expected::default(), &mut Vec::new(), &mut visit)
            .unwrap();
        state
    }

    fn below(&self, bound: u64) -> u64 {
        self.world.env.random() % bound
    }

    /// One transaction, as far as it comes.
    fn step(&mut self) -> Result<()> {
        if self.below(8) == 0 && !self.names.is_empty() {
            return self.end_prepared();
        }
        let mut txn = self.world.begin();
        let mut ids = Vec::new();
        for _ in 0..1 + self.below(3) {
            ids.push(self.write(&mut txn)?);
            let savepoint = txn.set_savepoint()?;
            ids.push(self.write(&mut txn)?);
            if self.below(3) == 0 {
                let undone = ids.pop().unwrap();
                txn.rollback_to(savepoint)?;
                self.known.insert(undone.0, (vec![undone], Fate::Aborted));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        assert!(ids[0] > self.largest, "an id came twice");
        let first = ids[0].0;
        self.largest = *ids.last().unwrap();
        self.known.insert(first, (ids.clone(), Fate::Unknown));
        let durability = if self.below(2) == 0 { Durability::Machine } else { Durability::Process };
        let fate = match self.below(6) {
            0 => {
                txn.rollback();
                Fate::Aborted
            }
            1 => {
                let name = format!("gid {first}").into_bytes();
                self.names.insert(name.clone(), first);
                txn.prepare(&name, b"", b"")?;
                Fate::Prepared
            }
            _ => {
                txn.commit(durability)?;
                if durability == Durability::Machine { Fate::Committed } else { Fate::Unknown }
            }
        };
        self.known.insert(first, (ids, fate));
        Ok(())
    }

    fn end_prepared(&mut self) -> Result<()> {
        let (name, first) = self.names.pop_first().unwrap();
        self.known.get_mut(&first).unwrap().1 = Fate::Unknown;
        let commits = self.below(2) == 0;
        if commits {
            self.world.txns().commit_prepared(&name, Durability::Machine)?;
        } else {
            self.world.txns().rollback_prepared(&name, Durability::Machine)?;
        }
        self.known.get_mut(&first).unwrap().1 = if commits { Fate::Committed } else { Fate::Aborted };
        Ok(())
    }

    /// What is there after a crash fits what was known, and is what is known from now on.
    fn check(&mut self) {
        let prepared: Vec<_> = self.world.txns().prepared();
        self.names = prepared.iter().map(|p| (p.name.clone(), p.id.0)).collect();
        let mut found = Vec::new();
        for (first, (ids, fate)) in &self.known {
            let states: Vec<_> = ids.iter().map(|&id| self.state_of_row(id)).collect();
            assert!(states.windows(2).all(|w| w[0] == w[1]), "{ids:?} are {states:?}");
            let now = match states[0] {
                TxnState::Committed => Fate::Committed,
                TxnState::Aborted => Fate::Aborted,
                TxnState::InProgress => Fate::Prepared,
            };
            assert_eq!(self.names.values().any(|id| id == first), now == Fate::Prepared);
            assert!(*fate == Fate::Unknown || *fate == now, "{ids:?} were {fate:?}, are {now:?}");
            found.push(now);
        }
        for ((_, fate), now) in self.known.values_mut().zip(found) {
            *fate = now;
        }
    }

    /// What the engine does beside transactions; whether old commit records went.
    fn tend(&self, step: u64) -> Result<bool> {
        match step % 3 {
            0 => self.world.engine().compact()?,
            _ => self.world.engine().flush()?,
        }
        self.world.txns().trim_status()
    }
}

#[test]
fn what_was_acknowledged_survives_and_nothing_is_invented() {
    let (mut crashes, mut trims) = (0, 0);
    for seed in 0..60 {
        let mut life = Life::new(seed);
        for round in 0..4 {
            let operations = 5 + life.below(300);
            life.world.env.faults().fail_at(operations, FaultKind::Crash);
            for step in 0..60 {
                let done = life.step().and_then(|()| if step % 7 == 6 { life.tend(step / 7) } else { Ok(false) });
                match done {
                    Ok(trimmed) => trims += u64::from(trimmed),
                    Err(_) => {
                        crashes += 1;
                        break;
                    }
                }
            }
            life.world.reopen(if round % 2 == 0 { Crash::Power } else { Crash::Process });
            life.check();
            life.world.engine().compact().unwrap();
            life.check();
        }
    }
    println!("{crashes} crashes in the middle of things; old commit records went {trims} times");
    assert!(crashes > 50 && trims > 50, "too tame: {crashes} {trims}");
}

/// A compaction freezes the first row of a transaction whose commit and second row are in the log alone, not synced: a loss
/// of power must not leave the frozen half.
#[test]
fn what_a_compaction_relied_on_is_stable_before_its_files_count() {
    let mut life = Life::new(0);
    let mut txn = life.world.begin();
    let savepoint = txn.set_savepoint().unwrap();
    let first = life.write(&mut txn).unwrap();
    life.world.engine().flush().unwrap();
    txn.release_savepoint(savepoint).unwrap();
    txn.set_savepoint().unwrap();
    let second = life.write(&mut txn).unwrap();
    txn.commit(Durability::Process).unwrap();
    assert_ne!(first, second);
    life.world.engine().lsm().compact_all().unwrap();
    life.world.reopen(Crash::Power);
    assert_eq!(life.state_of_row(first), life.state_of_row(second));
}
