//! What an append and a durable append cost on this machine, and which way of making a write durable is fastest.
//!
//! `cargo run --release -p ssd-engine --example log_speed [directory]`; the directory is on the disk to measure.
#![expect(clippy::print_stdout, reason = "a command that prints")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ssd_engine::env::pool::PoolEnv;
use ssd_engine::env::{Env, File, OpenMode};
use ssd_engine::error::Result;
use ssd_engine::mem::aligned::AlignedBuf;
use ssd_engine::mem::region::{Layout, Region};
use ssd_engine::wal::{FileLog, Log, LogOptions, LogPlace, LogShared};

const FILE_LEN: u64 = 64 << 20;
const DURABLE: u32 = 1000;

fn main() -> Result<()> {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("log-speed");
    let env: Arc<dyn Env> = PoolEnv::new(1);
    env.create_dir(&base)?;
    durable_writes(&*env, &base)?;
    append_speed(&env, &base)?;
    for recycled in [false, true] {
        flush_speed(&env, &base, recycled)?;
    }
    Ok(())
}

fn describe(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    format!("best tenth {:?}, median {:?}, mean {mean:?}", times[times.len() / 10], times[times.len() / 2])
}

/// One way of making 4 KiB durable.
struct Way {
    direct: bool,
    zeroed: bool,
    dsync: bool,
    file: Arc<dyn File>,
    times: Vec<Duration>,
}

impl Way {
    fn new(env: &dyn Env, base: &Path, number: u32) -> Result<Self> {
        let [direct, zeroed, dsync] = [4, 2, 1].map(|bit| number & bit != 0);
        let path = base.join(format!("probe-{number}"));
        let file: Arc<dyn File> = env.open(&path, OpenMode { direct, ..OpenMode::CREATE })?;
        env.remove(&path)?;
        file.allocate(FILE_LEN)?;
        let block = AlignedBuf::zeroed(1 << 20);
        if zeroed {
            for offset in (0..FILE_LEN).step_by(1 << 20) {
                file.write_at(&block, offset)?;
            }
        }
        file.sync()?;
        Ok(Self { direct, zeroed, dsync, file, times: Vec::new() })
    }

    fn run(&mut self, env: &dyn Env, block: &[u8]) -> Result<()> {
        let at = self.times.len() as u64 * 4096;
        let start = env.now();
        if self.dsync {
            self.file.write_sync_at(block, at)?;
        } else {
            self.file.write_at(block, at)?;
            self.file.sync()?;
        }
        self.times.push(env.now() - start);
        Ok(())
    }
}

/// Takes the ways in turns, so that what else the machine does hits all of them.
fn durable_writes(env: &dyn Env, base: &Path) -> Result<()> {
    let mut ways = (0..8).map(|number| Way::new(env, base, number)).collect::<Result<Vec<_>>>()?;
    let mut block = AlignedBuf::zeroed(4096);
    block.fill(7);
    for _ in 0..DURABLE / 20 {
        for way in &mut ways {
            for _ in 0..20 {
                way.run(env, &block)?;
            }
        }
    }
    println!("file level, {DURABLE} × 4 KiB in order, each durable:");
    for Way { direct, zeroed, dsync, times, .. } in ways {
        let how = if dsync { "write with DSYNC" } else { "write, then fdatasync" };
        let space = if zeroed { "overwritten" } else { "freshly allocated" };
        println!("  direct {direct:5}  {space:17}  {how:21}  {}", describe(times));
    }
    Ok(())
}

fn new_log(env: &Arc<dyn Env>, dir: PathBuf) -> Result<(FileLog, LogPlace)> {
    if env.list(&dir).is_ok() {
        for name in env.list(&dir)? {
            env.remove(&dir.join(name))?;
        }
    }
    let mut layout = Layout::new();
    let part = layout.part::<LogShared>("log", 1);
    let region = Region::anonymous(&layout)?;
    let place = LogPlace { env: env.clone(), dir, uuid: [7; 16], options: LogOptions::default() };
    Ok((FileLog::create(place.clone(), &region, part)?, place))
}

fn append_speed(env: &Arc<dyn Env>, base: &Path) -> Result<()> {
    const BURST: u32 = 50_000;
    for len in [130, 1000] {
        let (log, _) = new_log(env, base.join("append"))?;
        let payload = vec![5; len];
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let start = env.now();
            for _ in 0..BURST / (len as u32 / 100) {
                log.append(&payload, 1)?;
            }
            best = best.min((env.now() - start) / (BURST / (len as u32 / 100)));
            log.write_out()?;
            log.truncate_below(log.position())?;
        }
        println!("append of {len} bytes, nobody else: {best:?}");
    }
    Ok(())
}

fn flush_speed(env: &Arc<dyn Env>, base: &Path, recycled: bool) -> Result<()> {
    let (log, place) = new_log(env, base.join("flush"))?;
    let payload = [5; 130];
    if recycled {
        // Fill three segments, so that the next one is made from an old one.
        while log.position().0 < 3 * place.options.segment_bytes {
            log.append(&[6; 100_000], 1)?;
        }
        log.truncate_below(log.position())?;
        while log.position().0 < 4 * place.options.segment_bytes {
            log.append(&[6; 100_000], 1)?;
        }
    }
    log.flush(log.position())?;
    let (mut times, before) = (Vec::new(), log.stats());
    for _ in 0..DURABLE {
        let start = env.now();
        let end = log.append(&payload, 1)?.end;
        log.flush(end)?;
        times.push(env.now() - start);
    }
    let writes = log.stats().writes - before.writes;
    let segment = if recycled { "recycled" } else { "fresh" };
    println!("durable append of 130 bytes, {segment} segment: {}, {writes} writes for {DURABLE}", describe(times));
    Ok(())
}
