//! The patterns, run on an environment of the engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ssd_engine::env::{Env, File, IoDone, IoOp, OpenMode};
use ssd_engine::mem::aligned::AlignedBuf;

use super::{Outcome, Pattern, Plan, Point};

/// Writes the whole file once, so that no read finds a hole.
pub(crate) fn fill(env: &dyn Env, path: &Path, len: u64) -> Outcome<()> {
    let file = env.open(path, OpenMode::CREATE_DIRECT)?;
    file.allocate(len)?;
    let mut buf = AlignedBuf::zeroed(1 << 20);
    for offset in (0..len).step_by(buf.len()) {
        // Not compressible, not the same everywhere: disks that look at the data gain nothing.
        for word in buf.chunks_exact_mut(8) {
            word.copy_from_slice(&env.random().to_le_bytes());
        }
        file.write_at(&buf, offset)?;
    }
    Ok(file.sync()?)
}

/// The place of each operation, one after the other.
struct Places {
    random: bool,
    blocks: u64,
    block: u64,
    state: u64,
}

impl Places {
    fn next(&mut self) -> u64 {
        let at = if self.random {
            // A full-period walk over 64 bits; its upper half picks the block.
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 32) % self.blocks
        } else {
            self.state += 1;
            self.state % self.blocks
        };
        at * self.block
    }
}

/// Keeps `depth` operations in flight for the plan's time; operations per second.
pub(crate) fn stream(env: &dyn Env, file: &Arc<dyn File>, point: Point, plan: &Plan) -> Outcome<f64> {
    let block = point.block as u64;
    let random = point.pattern == Pattern::RandomRead;
    let state = if random { env.random() } else { u64::MAX - 1 };
    let mut places = Places { random, blocks: plan.file_len / block, block, state: state / 2 };
    let mut queue = env.queue(point.depth)?;
    let mut op = |buf| {
        let (file, offset) = (Arc::clone(file), places.next());
        match point.pattern {
            Pattern::SequentialWrite => IoOp::Write { file, offset, buf },
            _ => IoOp::Read { file, offset, buf },
        }
    };
    let mut out: Vec<IoDone> = Vec::with_capacity(point.depth);
    let start = Instant::now();
    for tag in 0..point.depth as u64 {
        queue.push(tag, op(AlignedBuf::zeroed(point.block)))?;
    }
    let mut count = 0;
    while start.elapsed() < plan.time {
        queue.wait(1, &mut out)?;
        for done in out.drain(..) {
            assert_eq!(done.result?, point.block, "a whole block");
            count += 1;
            queue.push(done.tag, op(done.buf.expect("reads and writes have buffers")))?;
        }
    }
    let rate = f64::from(u32::try_from(count)?) / start.elapsed().as_secs_f64();
    queue.wait(usize::MAX, &mut out)?;
    Ok(rate)
}

/// Writes and syncs blocks one after the other in a file of its own; writes per second.
pub(crate) fn synced(env: &dyn Env, path: &Path, point: Point, plan: &Plan) -> Outcome<f64> {
    let file = env.open(path, OpenMode::CREATE_DIRECT)?;
    let len = plan.synced_writes * point.block as u64;
    file.allocate(len)?;
    if !point.fresh {
        let buf = AlignedBuf::zeroed(usize::try_from(len)?);
        file.write_at(&buf, 0)?;
    }
    file.sync()?;
    let mut queue = env.queue(2)?;
    let mut out = Vec::new();
    let mut buf = AlignedBuf::zeroed(point.block);
    let start = Instant::now();
    for offset in (0..len).step_by(point.block) {
        buf.fill(1);
        match point.pattern {
            Pattern::WriteSync => file.write_sync_at(&buf, offset)?,
            Pattern::QueuedWriteThenSync => {
                queue.push(0, IoOp::Write { file: Arc::clone(&file), offset, buf })?;
                queue.push(1, IoOp::Sync { file: Arc::clone(&file) })?;
                queue.wait(2, &mut out)?;
                let mut write = None;
                for done in out.drain(..) {
                    done.result?;
                    write = write.or(done.buf);
                }
                buf = write.expect("a write has a buffer");
            }
            _ => {
                file.write_at(&buf, offset)?;
                file.sync()?;
            }
        }
    }
    Ok(f64::from(u32::try_from(plan.synced_writes)?) / start.elapsed().as_secs_f64())
}
