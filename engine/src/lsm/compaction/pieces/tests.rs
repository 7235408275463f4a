use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::base::ids::Level;
use crate::base::limits::LEVEL_COUNT;
use crate::env::fault::FaultKind;
use crate::env::memory::MemoryEnv;
use crate::lsm::check::check;
use crate::lsm::compaction::small_options;
use crate::{Engine, Options, Snapshot, Tree};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

struct World {
    env: Arc<MemoryEnv>,
    engine: Engine,
    tree: Tree,
    rows: Rows,
    then: (Snapshot, Rows),
}

fn key(number: u64) -> Vec<u8> {
    format!("row {:05}", number % 5000).into_bytes()
}

/// Rows in several overlapping files, with range tombstones over long stretches and a snapshot in between.
fn world() -> World {
    let env = MemoryEnv::new(7);
    let engine = Engine::open("/db", small_options(env.clone())).unwrap();
    let tree = engine.tree("rows").unwrap();
    let (mut rows, mut then) = (Rows::new(), None);
    for round in 0..4u64 {
        for at in 0..1500u64 {
            let row = key(at * 7919 + round * 31);
            let value = vec![(at % 251) as u8; 40 + (at % 50) as usize];
            tree.put(&row, &value).unwrap();
            rows.insert(row, value);
        }
        let (from, to) = (key(800 * round + 100), key(800 * round + 1500));
        tree.delete_range(&from, &to).unwrap();
        rows.retain(|row, _| *row < from || *row >= to);
        engine.flush().unwrap();
        if round == 1 {
            then = Some((engine.snapshot().unwrap(), rows.clone()));
        }
    }
    World { env, engine, tree, rows, then: then.unwrap() }
}

impl World {
    fn plan(&self) -> Arc<MergePlan> {
        let view = self.engine.lsm().view_full().unwrap();
        let inputs = view.files().map(|(level, file)| (level, Arc::clone(file))).collect();
        Arc::new(MergePlan { inputs, output: Level(LEVEL_COUNT as u8 - 1), view, apart: Vec::new() })
    }

    fn check(&self) {
        let view = self.engine.lsm().view_full().unwrap();
        assert_eq!(check(&view.version), Vec::<String>::new());
        let now: Rows = self.tree.scan::<&[u8]>(..).unwrap().map(|row| row.unwrap()).collect();
        assert!(now == self.rows, "rows differ");
        let then: Rows = self.tree.scan_at::<&[u8]>(.., &self.then.0).unwrap().map(|row| row.unwrap()).collect();
        assert!(then == self.then.1, "rows of the snapshot differ");
    }

    fn files_on_disk(&self) -> Vec<PathBuf> {
        let is_sst = |path: &PathBuf| path.extension().is_some_and(|e| e == "sst");
        let mut files: Vec<_> = self.env.files().into_iter().filter(is_sst).collect();
        files.sort();
        files
    }
}

#[test]
fn pieces_together_do_what_one_merge_does() {
    let world = world();
    world.check();
    let before = world.plan();
    world.engine.lsm().run_merge(&before, 4).unwrap();
    assert!(world.engine.lsm().stats().get(Counter::CompactionPieces) > 1);
    let after = world.plan();
    assert!(after.inputs.iter().all(|(level, _)| *level == after.output) && after.inputs.len() > 4);
    world.check();
    assert!(world.engine.lsm().split_merges.0.lock().is_empty());
}

#[test]
fn a_failure_of_any_piece_leaves_everything_as_it_was() {
    let world = world();
    while world.engine.lsm().remove_obsolete().unwrap() > 0 {}
    let before = world.files_on_disk();
    let mut failures = 0;
    for nth in (1..).step_by(5) {
        world.env.faults().fail_at(nth, FaultKind::Eio);
        let result = world.engine.lsm().merge_in_pieces(&world.plan(), vec![KeyRange::default()], 4);
        world.env.faults().clear();
        match result {
            Err(error) => assert_eq!(error.class(), crate::Class::Io, "{error}"),
            Ok(merged) => {
                for file in merged.files {
                    world.engine.lsm().env.remove(&world.engine.lsm().opener.path(file.number)).unwrap();
                }
                break;
            }
        }
        failures += 1;
        let left: Vec<_> = world.files_on_disk().into_iter().filter(|path| !before.contains(path)).collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "after a failure of operation {nth}");
        assert_eq!(world.plan().inputs.len(), before.len());
    }
    assert!(failures > 5, "only {failures} operations could fail");
    world.check();
}

#[test]
fn threads_share_the_pieces_of_a_merge() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        memtable_bytes: 128 << 10,
        block_bytes: 4 << 10,
        compress: false,
        target_file_bytes: 16 << 10,
        background_threads: 3,
        log_segment_bytes: 1 << 20,
        log_ring_bytes: 64 << 10,
        disk_reserve_bytes: 0,
        ..Options::default()
    };
    let engine = Engine::open(dir.path(), options).unwrap();
    let tree = engine.tree("rows").unwrap();
    let mut rows = Rows::new();
    for at in 0..20_000u64 {
        let (row, value) = (key(at * 7919), at.to_be_bytes().repeat(8));
        tree.put(&row, &value).unwrap();
        rows.insert(row, value);
        if at % 4000 == 3999 {
            let (from, to) = (key(at / 8), key(at / 8 + 700));
            tree.delete_range(&from, &to).unwrap();
            rows.retain(|row, _| *row < from || *row >= to);
        }
    }
    engine.compact().unwrap();
    engine.settle().unwrap();
    assert!(engine.lsm().stats().get(Counter::CompactionPieces) > 1);
    assert_eq!(engine.lsm().stats().get(Counter::JobErrors), 0);
    let view = engine.lsm().view_full().unwrap();
    assert_eq!(check(&view.version), Vec::<String>::new());
    let now: Rows = tree.scan::<&[u8]>(..).unwrap().map(|row| row.unwrap()).collect();
    assert!(now == rows, "rows differ");
}

#[test]
fn ranges_are_cut_where_keys_lie_within_them() {
    let range = |from: &str, to: &str| {
        let key = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        KeyRange { from: key(from), to: key(to) }
    };
    let keys = [b"c".to_vec(), b"f".to_vec(), b"k".to_vec()];
    assert_eq!(cut_ranges(vec![range("", "")], &[]), [range("", "")]);
    assert_eq!(cut_ranges(vec![range("", "")], &keys[..2]), [range("", "c"), range("c", "f"), range("f", "")]);
    assert_eq!(
        cut_ranges(vec![range("", "c"), range("f", "h"), range("i", "")], &keys),
        [range("", "c"), range("f", "h"), range("i", "k"), range("k", "")],
        "not at their ends, and not between them"
    );
}

#[test]
fn a_merge_leaves_files_alone_that_it_has_nothing_for() {
    let engine = Engine::open("/db", small_options(MemoryEnv::new(7))).unwrap();
    let trees: Vec<_> = ["first", "between", "last"].iter().map(|name| engine.tree(name).unwrap()).collect();
    let fill = |tree: &Tree, rows: std::ops::Range<u64>, value: u8| {
        rows.for_each(|at| tree.put(&key(at), &[value; 100]).unwrap());
    };
    trees.iter().for_each(|tree| fill(tree, 0..1000, 0));
    engine.compact().unwrap();
    let files = || -> Vec<_> {
        let view = engine.lsm().view_full().unwrap();
        view.files().map(|(level, file)| (level, file.meta.number, file.meta.size)).collect()
    };
    let before = files();
    fill(&trees[0], 0..10, 1);
    fill(&trees[2], 1000..1100, 1);
    trees[2].delete_range(&key(900), &key(950)).unwrap();
    engine.flush().unwrap();
    let view = engine.lsm().view_full().unwrap();
    let inputs: Vec<_> = view.files().map(|(level, file)| (level, Arc::clone(file))).collect();
    let large = |&&(_, _, size): &&(Level, _, u64)| size >= 8 << 10;
    let written = engine.lsm().stats().get(Counter::CompactionWriteBytes);
    engine
        .lsm()
        .run_merge(&MergePlan { inputs, output: Level(LEVEL_COUNT as u8 - 1), view, apart: Vec::new() }, 4)
        .unwrap();
    let written = engine.lsm().stats().get(Counter::CompactionWriteBytes) - written;
    let after = files();
    let kept = before.iter().filter(|file| after.contains(file)).count();
    assert_eq!(kept, before.iter().filter(large).count() - 2, "one of the first, one of the last tree's is touched");
    let size: u64 = before.iter().map(|(_, _, size)| size).sum();
    assert!(kept >= 10 && written < size / 4, "{kept} kept, {written} of {size} bytes written");
    assert_eq!(check(&engine.lsm().view_full().unwrap().version), Vec::<String>::new());
    let counts: Vec<_> = trees.iter().map(|tree| tree.scan::<&[u8]>(..).unwrap().count()).collect();
    assert_eq!(counts, [1000, 1000, 1050]);
    assert_eq!(trees[0].get(&key(9)).unwrap().unwrap()[0], 1);
}
