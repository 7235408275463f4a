//! A load through the engine's environment: one thread, one queue, direct I/O.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssd_engine::env::pool::PoolEnv;
use ssd_engine::env::{Env, File, IoDone, IoOp, IoQueue, OpenMode, default_env};
use ssd_engine::mem::aligned::AlignedBuf;

use super::{Load, Pattern};
use crate::Result;
use crate::measure::{Latencies, Usage};
use crate::random::Random;
use crate::spec::Measured;

/// Makes the file, with bytes that no device can compress.
///
/// # Errors
/// I/O.
pub fn fill(path: &Path, bytes: u64) -> Result<()> {
    const CHUNK: usize = 1 << 20;
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let file = default_env().open(path, OpenMode::CREATE_DIRECT)?;
    let (mut chunk, mut random) = (AlignedBuf::zeroed(CHUNK), Random::new(1));
    for offset in (0..bytes).step_by(CHUNK) {
        for word in chunk.chunks_exact_mut(8) {
            word.copy_from_slice(&random.bits().to_le_bytes());
        }
        file.write_at(&chunk, offset)?;
    }
    Ok(file.sync()?)
}

/// Threads of the portable backend.
const POOL_THREADS: usize = 64;

/// Does the load on the backend that the engine takes on this machine.
///
/// # Errors
/// I/O.
pub fn run(path: &Path, load: &Load) -> Result<Measured> {
    run_in(&*default_env(), path, load)
}

/// Does the load on the portable backend.
///
/// # Errors
/// I/O.
pub fn run_pool(path: &Path, load: &Load) -> Result<Measured> {
    run_in(&*PoolEnv::new(POOL_THREADS), path, load)
}

fn run_in(env: &dyn Env, path: &Path, load: &Load) -> Result<Measured> {
    let mode = OpenMode { direct: true, ..OpenMode::WRITE };
    let file = env.open(path, mode)?;
    let (usage, start) = (Usage::now(), Instant::now());
    let mut out = Measured::default();
    let latencies = if load.pattern == Pattern::SyncedWrite {
        synced(&file, load)?
    } else {
        queued(&file, &mut *env.queue(load.depth)?, load)?
    };
    out.seconds = start.elapsed().as_secs_f64();
    Usage::now().since(&usage, &mut out);
    latencies.report(&mut out);
    Ok(out)
}

fn synced(file: &Arc<dyn File>, load: &Load) -> Result<Latencies> {
    let block = AlignedBuf::zeroed(load.block);
    let deadline = Instant::now() + Duration::from_secs_f64(load.seconds);
    let mut latencies = Latencies::start()?;
    for at in (0..load.blocks()).cycle() {
        file.write_sync_at(&block, at * load.block as u64)?;
        if latencies.lap() >= deadline {
            break;
        }
    }
    Ok(latencies)
}

/// Keeps as many operations in flight as the load says. The tag of an operation is its place in `started`.
fn queued(file: &Arc<dyn File>, queue: &mut dyn IoQueue, load: &Load) -> Result<Latencies> {
    let (mut random, mut next) = (Random::new(2), 0);
    let mut operation = |buf: AlignedBuf| {
        let block = if load.pattern.is_random() { random.below(load.blocks()) } else { next % load.blocks() };
        next += 1;
        let (file, offset) = (Arc::clone(file), block * load.block as u64);
        match load.pattern {
            Pattern::Write | Pattern::SyncedWrite => IoOp::Write { file, offset, buf },
            _ => IoOp::Read { file, offset, buf },
        }
    };
    let deadline = Instant::now() + Duration::from_secs_f64(load.seconds);
    let mut latencies = Latencies::start()?;
    let mut started = vec![Instant::now(); load.depth];
    for (tag, start) in started.iter_mut().enumerate() {
        *start = Instant::now();
        queue.push(tag as u64, operation(AlignedBuf::zeroed(load.block)))?;
    }
    let mut done: Vec<IoDone> = Vec::with_capacity(load.depth);
    while queue.in_flight() > 0 {
        queue.wait(1, &mut done)?;
        let now = Instant::now();
        for IoDone { tag, result, buf } in done.drain(..) {
            let bytes = result?;
            if bytes != load.block {
                return Err(format!("{bytes} of {} bytes", load.block).into());
            }
            let slot = usize::try_from(tag)?;
            latencies.record(now - started[slot]);
            if now < deadline {
                started[slot] = now;
                queue.push(tag, operation(buf.ok_or("a buffer did not come back")?))?;
            }
        }
    }
    Ok(latencies)
}
