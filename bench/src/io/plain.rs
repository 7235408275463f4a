//! A load with plain positioned reads and writes, a thread for each operation in flight.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ssd_engine::mem::aligned::AlignedBuf;

use super::{Load, Pattern};
use crate::Result;
use crate::measure::{Latencies, Usage};
use crate::random::Random;
use crate::spec::Measured;

/// Does the load.
///
/// # Errors
/// I/O.
pub fn run(path: &Path, load: &Load) -> Result<Measured> {
    let file = open(path)?;
    let next = AtomicU64::new(0);
    let (usage, start) = (Usage::now(), Instant::now());
    let mut out = Measured::default();
    let mut all = Latencies::start()?;
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..load.depth)
            .map(|thread| {
                scope.spawn({
                    let (file, next) = (&file, &next);
                    move || work(file, load, thread, next)
                })
            })
            .collect();
        for thread in threads {
            all.add(&thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok(())
    })?;
    out.seconds = start.elapsed().as_secs_f64();
    Usage::now().since(&usage, &mut out);
    all.report(&mut out);
    Ok(out)
}

/// Opens the file past the page cache where there is a flag for it.
fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::DIRECT.bits().cast_signed());
    Ok(options.open(path)?)
}

fn work(file: &File, load: &Load, thread: usize, next: &AtomicU64) -> Result<Latencies> {
    let mut block = AlignedBuf::zeroed(load.block);
    let mut random = Random::new(3 + thread as u64);
    let deadline = Instant::now() + Duration::from_secs_f64(load.seconds);
    let mut latencies = Latencies::start()?;
    loop {
        let at = match load.pattern {
            Pattern::RandomRead | Pattern::TreeGet | Pattern::TreeMultiGet => random.below(load.blocks()),
            _ => next.fetch_add(1, Ordering::Relaxed) % load.blocks(),
        };
        let offset = at * load.block as u64;
        match load.pattern {
            Pattern::Write => file.write_all_at(&block, offset)?,
            Pattern::SyncedWrite => {
                file.write_all_at(&block, offset)?;
                file.sync_data()?;
            }
            _ => file.read_exact_at(&mut block, offset)?,
        }
        if latencies.lap() >= deadline {
            return Ok(latencies);
        }
    }
}
