//! Kills processes that share one engine: `crash [--rounds N] [--seed S]`. Last line: `N passed, N failed`.
//!
//! Each round starts an opener and six workers that attach to its region: writers that note every acknowledged batch in a
//! file of their own, which outlives them, and readers that check what they see. Then it kills random ones with SIGKILL, at
//! any moment and so within batches, too; readers are replaced, so that processes join while others die. At last it kills
//! all, opens the engine again and checks that every acknowledged batch is there, whole.
#![expect(clippy::print_stdout, reason = "a command reports on standard output")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use ssd_engine::{Class, Engine, Options, Tree, WriteBatch, WriteOptions};
use ssd_tests::rng::Rng;
use ssd_tests::shared_region::attach;

const WRITERS: u64 = 4;
const READERS: u64 = 2;
/// Keys of one batch; a recovered batch has all of them or none.
const BATCH_KEYS: u64 = 3;
/// Batches of a writer are spread over so many key groups, so that old versions are overwritten.
const GROUPS: u64 = 500;

fn options(background_threads: usize) -> Options {
    Options {
        memtable_bytes: 1 << 20,
        memtables: 4,
        cache_bytes: 4 << 20,
        target_file_bytes: 512 << 10,
        base_level_bytes: 2 << 20,
        log_segment_bytes: 1 << 20,
        log_ring_bytes: 256 << 10,
        disk_reserve_bytes: 0,
        background_threads,
        ..Options::default()
    }
}

fn key(writer: u64, group: u64, part: u64) -> Vec<u8> {
    format!("{writer}/{group:05}/{part}").into_bytes()
}

/// Value of batch `number`: its number, then filler that depends on it. Some are larger than a block, few are larger than what
/// a memtable takes.
fn value(number: u64, part: u64) -> Vec<u8> {
    let len = match number % 1009 {
        7 if part == 0 => 700_000,
        100..120 => 20_000,
        _ => (number * 7 + part * 13) % 300,
    };
    let mut out = number.to_le_bytes().to_vec();
    out.resize(8 + len as usize, number as u8);
    out
}

fn number_of(value: &[u8]) -> u64 {
    value.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

struct Place {
    dir: PathBuf,
}

impl Place {
    fn db(&self) -> PathBuf {
        self.dir.join("db")
    }

    fn region(&self) -> PathBuf {
        self.dir.join("region")
    }

    fn ack_file(&self, writer: u64) -> PathBuf {
        self.dir.join(format!("acknowledged-{writer}"))
    }

    fn acknowledged(&self, writer: u64) -> u64 {
        let mut bytes = [0; 8];
        let read = File::open(self.ack_file(writer)).and_then(|f| f.read_exact_at(&mut bytes, 0));
        read.map_or(0, |()| u64::from_le_bytes(bytes))
    }
}

fn open_or_attach(place: &Place, opener: bool) -> ssd_engine::Result<Engine> {
    let options = options(if opener { 1 } else { 0 });
    // A worker's stalled writes are helped by the opener's thread or by themselves.
    let layout = Engine::layout_of(&options);
    let region = attach(&place.region(), &layout).map_err(|e| ssd_engine::Error::io(&place.region(), "map", e))?;
    if opener { Engine::open_shared(place.db(), options, region) } else { Engine::attach(place.db(), options, region) }
}

/// The process that opens the engine and then only does background work.
fn opener(place: &Place) -> ssd_engine::Result<()> {
    let engine = open_or_attach(place, true)?;
    engine.tree("t")?;
    File::create(place.dir.join("ready")).map_err(|e| ssd_engine::Error::io(&place.dir, "create in", e))?;
    loop {
        std::thread::park();
    }
}

fn writer(place: &Place, id: u64, seed: u64) -> ssd_engine::Result<()> {
    let engine = open_or_attach(place, false)?;
    let tree = engine.tree("t")?;
    let mut rng = Rng::new(seed);
    let io = |e: io::Error| ssd_engine::Error::io(&place.dir, "write in", e);
    let acks = OpenOptions::new().create(true).truncate(false).write(true).open(place.ack_file(id)).map_err(io)?;
    let mut batch = WriteBatch::new();
    // Goes on after the last batch that the engine has, which may be one more than was acknowledged.
    for number in place.acknowledged(id).max(newest(&tree, id)?) + 1.. {
        batch.clear();
        for part in 0..BATCH_KEYS {
            batch.put(&tree, &key(id, number % GROUPS, part), &value(number, part));
        }
        let options = if rng.one_in(50) { WriteOptions::SYNC } else { WriteOptions::default() };
        engine.write(&batch, options)?;
        acks.write_all_at(&number.to_le_bytes(), 0).map_err(io)?;
    }
    Ok(())
}

/// The newest batch of a writer that the engine has; checks that each batch is whole.
fn newest(tree: &Tree, id: u64) -> ssd_engine::Result<u64> {
    let snapshot = tree.engine().snapshot()?;
    let mut newest = 0;
    let prefix = format!("{id}/");
    let mut scan = tree.scan_at(prefix.as_bytes().to_vec()..format!("{id}0").into_bytes(), &snapshot)?;
    let mut group: Vec<(u64, Vec<u8>)> = Vec::new();
    while let Some((_, row)) = scan.next_row()? {
        group.push((number_of(row), row.to_vec()));
        if group.len() as u64 == BATCH_KEYS {
            let number = group[0].0;
            for (part, (_, row)) in group.iter().enumerate() {
                assert_eq!(*row, value(number, part as u64), "writer {id}: batch {number} is torn");
            }
            newest = newest.max(number);
            group.clear();
        }
    }
    assert!(group.is_empty(), "writer {id}: a batch has only some of its keys");
    Ok(newest)
}

fn reader(place: &Place, seed: u64) -> ssd_engine::Result<()> {
    let engine = open_or_attach(place, false)?;
    let tree = engine.tree("t")?;
    let mut rng = Rng::new(seed);
    loop {
        let id = rng.below(WRITERS);
        let acknowledged = place.acknowledged(id);
        if rng.one_in(20) {
            let newest = newest(&tree, id)?;
            assert!(
                newest >= acknowledged,
                "writer {id}: batch {acknowledged} is acknowledged, {newest} is the newest"
            );
        } else if acknowledged > 0 {
            let group = acknowledged % GROUPS;
            let row = tree.get(&key(id, group, rng.below(BATCH_KEYS)))?;
            let found = row.as_deref().map_or(0, number_of);
            assert!(found >= acknowledged, "writer {id}: found batch {found}, {acknowledged} is acknowledged");
        }
    }
}

fn child(args: &[String]) -> ExitCode {
    let place = Place { dir: PathBuf::from(&args[1]) };
    let number = |at: usize| args.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
    let result = match args[0].as_str() {
        "opener" => opener(&place),
        "writer" => writer(&place, number(2), number(3)),
        _ => reader(&place, number(3)),
    };
    match result {
        // Another process died in the middle of a change: the engine is shut until it is opened again.
        Err(error) if error.class() == Class::Closed => ExitCode::from(3),
        Err(error) => {
            println!("{}: {error}", args[0]);
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn start(place: &Place, role: &str, id: u64, seed: u64) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["child", role])
        .arg(&place.dir)
        .args([id.to_string(), seed.to_string()])
        .stdin(Stdio::null())
        .spawn()
}

/// One life of the engine, ended by killing everybody; then the checks.
fn round(place: &Place, rng: &mut Rng) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    let _ = std::fs::remove_file(place.region());
    let _ = std::fs::remove_file(place.dir.join("ready"));
    let mut children = vec![start(place, "opener", 0, 0).map_err(text)?];
    while !place.dir.join("ready").exists() {
        if let Some(status) = children[0].try_wait().map_err(text)? {
            return Err(format!("the opener ended with {status}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for id in 0..WRITERS {
        children.push(start(place, "writer", id, rng.next()).map_err(text)?);
    }
    for id in 0..READERS {
        children.push(start(place, "reader", id, rng.next()).map_err(text)?);
    }
    let mut failure = None;
    for _ in 0..rng.below(4) {
        std::thread::sleep(Duration::from_micros(rng.below(170_000)));
        let victim = rng.below(children.len() as u64) as usize;
        let _ = children[victim].kill();
        let _ = children[victim].wait();
        if victim as u64 > WRITERS {
            children[victim] = start(place, "reader", 0, rng.next()).map_err(text)?;
        }
    }
    std::thread::sleep(Duration::from_micros(20_000 + rng.below(200_000)));
    for child in &mut children {
        let ended_before = child.try_wait().map_err(text)?;
        let _ = child.kill();
        let _ = child.wait();
        if ended_before.is_some_and(|status| status.code().is_some_and(|code| code != 3)) {
            failure = Some(format!("a process failed: {ended_before:?}"));
        }
    }
    failure.map_or_else(|| check(place), Err)
}

fn check(place: &Place) -> Result<(), String> {
    let text = |e: ssd_engine::Error| e.to_string();
    let engine = Engine::open(place.db(), options(1)).map_err(text)?;
    let tree = engine.tree("t").map_err(text)?;
    for id in 0..WRITERS {
        let (acknowledged, newest) = (place.acknowledged(id), newest(&tree, id).map_err(text)?);
        if newest < acknowledged {
            return Err(format!(
                "writer {id}: batch {acknowledged} was acknowledged, {newest} is the newest recovered"
            ));
        }
        for number in acknowledged.saturating_sub(GROUPS - 1).max(1)..=acknowledged {
            let row = tree.get(&key(id, number % GROUPS, 0)).map_err(text)?;
            let found = row.as_deref().map_or(0, number_of);
            if found != number && found != number + GROUPS {
                return Err(format!("writer {id}: batch {number} is lost, its keys hold {found}"));
            }
        }
    }
    engine.verify().map_err(text)?;
    engine.close().map_err(text)
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "child") {
        return child(&args[1..]);
    }
    let value = |name: &str, default: u64| {
        args.windows(2).find(|pair| pair[0] == name).and_then(|pair| pair[1].parse().ok()).unwrap_or(default)
    };
    let (rounds, mut rng) = (value("--rounds", 20), Rng::new(value("--seed", 1)));
    let dir = std::env::temp_dir().join(format!("ssd-crash-{}", std::process::id()));
    let mut failed = 0;
    for number in 1..=rounds {
        // A fresh engine now and then; in between each round goes on with what the last one left.
        if number % 10 == 1 {
            let _ = std::fs::remove_dir_all(&dir);
        }
        if let Err(error) = std::fs::create_dir_all(&dir) {
            println!("{}: {error}", dir.display());
            return ExitCode::FAILURE;
        }
        if let Err(what) = round(&Place { dir: dir.clone() }, &mut rng) {
            println!("round {number}: {what}");
            keep(&dir, number);
            failed += 1;
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
    println!("{} passed, {failed} failed", rounds - failed);
    ExitCode::from(u8::from(failed > 0))
}

/// Keeps the directory of a failed round for a look at it.
fn keep(dir: &Path, round: u64) {
    let kept = dir.with_extension(format!("failed-{round}"));
    if std::fs::rename(dir, &kept).is_ok() {
        println!("  its files are in {}", kept.display());
    }
}
