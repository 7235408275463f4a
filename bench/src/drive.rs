//! Doing one step on one store, and measuring it.
//!
//! Every value read is checked, so a store that answers wrongly fails instead of winning.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::cgroup;
use crate::data::{self, Key, Values, is_value_of};
use crate::measure::{self, Latencies, Pace, Usage};
use crate::random::{Permutation, Random, Zipf, mix};
use crate::spec::{Measured, Pick, SCAN_ROWS, Spec, Step, WRITER_RATE, Ycsb};
use crate::store::Store;

/// Part of a timed step's time that it runs unmeasured first: caches and the branch predictors settle.
pub(crate) const WARM_UP: f64 = 0.25;

/// Keys of the first rows are this far apart, so that inserted rows fall between them.
const KEY_GAP: u64 = 16;

/// Longest scan of YCSB's workload E.
const YCSB_SCAN_MAX: u64 = 100;

/// Runs `spec` on its store.
///
/// # Errors
/// Whatever the store, or the system, reports; a row that is missing or wrong.
pub fn run<S: Store>(spec: &Spec) -> Result<Measured> {
    if let Some(cgroup) = &spec.cgroup {
        cgroup::enter(cgroup)?;
    }
    std::fs::create_dir_all(&spec.dir)?;
    if !spec.warm {
        measure::evict(&spec.dir)?;
    }
    let store = S::open(&spec.dir, &spec.settings)?;
    let driver = Driver::new(spec, &store);
    let mut out = match spec.step {
        Step::FillSeq => driver.fill(|i| i)?,
        Step::FillRandom => {
            let order = Permutation::new(spec.rows, spec.seed);
            driver.fill(|i| order.at(i))?
        }
        Step::Overwrite => driver.overwrite()?,
        Step::ReadWhileWriting(_) => driver.beside_a_writer()?,
        Step::Read(_) | Step::Scan(_) | Step::Durable | Step::Ycsb(_) => driver.timed()?,
        Step::Txn(_) => return Err("a store without transactions".into()),
    };
    out.space_bytes = measure::space_bytes(&spec.dir)?;
    out.live_bytes = if spec.step == Step::Durable { out.user_bytes } else { spec.rows * spec.row_len() };
    out.rss_max_bytes = measure::rss_max_bytes();
    Ok(out)
}

/// The smallest block of any store, before compression.
const SMALLEST_BLOCK: u64 = 4096;

/// The key of row `id` in a data set that was filled with `rows` rows.
fn row_key(id: u64, rows: u64) -> Key {
    if id < rows {
        return data::key(id * KEY_GAP);
    }
    let scattered = mix(id);
    data::key((scattered % rows.max(1)) * KEY_GAP + 1 + (scattered >> 32) % (KEY_GAP - 1))
}

/// One run: what its threads share.
struct Driver<'a, S> {
    spec: &'a Spec,
    store: &'a S,
    zipf: Option<Zipf>,
    /// The next row to insert.
    next_id: AtomicU64,
}

impl<'a, S: Store> Driver<'a, S> {
    fn new(spec: &'a Spec, store: &'a S) -> Self {
        let zipf = match spec.step {
            Step::Read(Pick::Zipf) | Step::Scan(Pick::Zipf) | Step::ReadWhileWriting(Pick::Zipf) | Step::Ycsb(_) => {
                Some(Zipf::new(spec.rows))
            }
            _ => None,
        };
        Self { spec, store, zipf, next_id: AtomicU64::new(spec.rows) }
    }

    fn worker(&self, index: usize) -> Worker<'_, 'a, S> {
        let seed = mix(self.spec.seed.wrapping_add(1 + index as u64));
        Worker {
            driver: self,
            random: Random::new(seed),
            values: Values::new(self.spec.value_len, seed),
            scratch: Vec::with_capacity(self.spec.value_len),
            written: 0,
        }
    }

    /// Writes every row once, in the order that `order` gives, then settles.
    fn fill(&self, order: impl Fn(u64) -> u64) -> Result<Measured> {
        let mut worker = self.worker(0);
        let (usage, start) = (Usage::now(), Instant::now());
        let mut latencies = Latencies::start()?;
        for i in 0..self.spec.rows {
            worker.write(order(i), false)?;
            latencies.lap();
        }
        let mut out = Measured { seconds: start.elapsed().as_secs_f64(), ..Measured::default() };
        self.finish_writes(&usage, &latencies, worker.written, &mut out)?;
        Ok(out)
    }

    /// Overwrites as many rows as there are, then settles; both count.
    fn overwrite(&self) -> Result<Measured> {
        if self.spec.warm {
            self.read_all()?;
        }
        let each = self.spec.rows / self.spec.threads as u64;
        let mut workers: Vec<_> = (0..self.spec.threads).map(|i| self.worker(i)).collect();
        let (usage, start) = (Usage::now(), Instant::now());
        let latencies = in_parallel(&mut workers, |worker| {
            let mut latencies = Latencies::start()?;
            for _ in 0..each {
                let id = worker.random.below(self.spec.rows);
                worker.write(id, false)?;
                latencies.lap();
            }
            Ok(latencies)
        })?;
        let written = workers.iter().map(|w| w.written).sum();
        let mut out = Measured::default();
        self.finish_writes(&usage, &latencies, written, &mut out)?;
        out.seconds = start.elapsed().as_secs_f64();
        Ok(out)
    }

    fn finish_writes(&self, usage: &Usage, latencies: &Latencies, written: u64, out: &mut Measured) -> Result<()> {
        let start = Instant::now();
        self.store.settle()?;
        out.settle_seconds = start.elapsed().as_secs_f64();
        Usage::now().since(usage, out);
        latencies.report(out);
        out.user_bytes = written;
        Ok(())
    }

    /// Does the step's operation for its time.
    fn timed(&self) -> Result<Measured> {
        if self.spec.warm && self.spec.step != Step::Durable {
            self.read_all()?;
        }
        let mut workers: Vec<_> = (0..self.spec.threads).map(|i| self.worker(i)).collect();
        self.operate(&mut workers, self.spec.seconds * WARM_UP)?;
        let written_before: u64 = workers.iter().map(|w| w.written).sum();
        let (usage, start) = (Usage::now(), Instant::now());
        let latencies = self.operate(&mut workers, self.spec.seconds)?;
        let mut out = Measured { seconds: start.elapsed().as_secs_f64(), ..Measured::default() };
        Usage::now().since(&usage, &mut out);
        latencies.report(&mut out);
        out.user_bytes = workers.iter().map(|w| w.written).sum::<u64>() - written_before;
        Ok(out)
    }

    /// Runs [`timed`](Self::timed) beside a thread that overwrites rows at a fixed rate.
    fn beside_a_writer(&self) -> Result<Measured> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> Result<()> {
                let (mut worker, mut pace) = (self.worker(usize::MAX - 1), Pace::new(WRITER_RATE));
                while !done.load(Ordering::Relaxed) {
                    let id = worker.random.below(self.spec.rows);
                    worker.write(id, false)?;
                    pace.step();
                }
                Ok(())
            });
            let out = self.timed();
            done.store(true, Ordering::Relaxed);
            writer.join().map_err(|_| "the writer panicked")??;
            out
        })
    }

    /// Every worker does the step's operation until `seconds` have passed.
    fn operate(&self, workers: &mut [Worker<'_, 'a, S>], seconds: f64) -> Result<Latencies> {
        repeat(workers, seconds, Worker::operation)
    }

    /// Reads a row of every block, so that what fits the caches is in them. By point reads: a scan may pass by the cache.
    fn read_all(&self) -> Result<()> {
        let rows_per_step = (SMALLEST_BLOCK / 2 / self.spec.row_len()).max(1);
        let (mut bytes, mut scratch) = (0_usize, Vec::new());
        for id in (0..self.spec.rows).step_by(usize::try_from(rows_per_step)?) {
            self.store.get(&row_key(id, self.spec.rows), &mut scratch, |value| bytes += value.len())?;
        }
        std::hint::black_box(bytes);
        Ok(())
    }
}

/// Every worker, on a thread of its own, does `work` until `seconds` have passed; returns the latencies of each time.
pub(crate) fn repeat<W: Send>(
    workers: &mut [W],
    seconds: f64,
    work: impl Fn(&mut W) -> Result<()> + Sync,
) -> Result<Latencies> {
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    in_parallel(workers, |worker| {
        let mut latencies = Latencies::start()?;
        loop {
            work(worker)?;
            if latencies.lap() >= deadline {
                return Ok(latencies);
            }
        }
    })
}

/// Runs `work` on a thread for each worker; returns all their latencies.
fn in_parallel<W: Send>(workers: &mut [W], work: impl Fn(&mut W) -> Result<Latencies> + Sync) -> Result<Latencies> {
    let mut all = Latencies::start()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
        for thread in threads {
            all.add(&thread.join().map_err(|_| "a worker panicked")??)?;
        }
        Ok(all)
    })
}

/// One thread of a run.
struct Worker<'d, 's, S> {
    driver: &'d Driver<'s, S>,
    random: Random,
    values: Values,
    scratch: Vec<u8>,
    /// Bytes of keys and values written.
    written: u64,
}

impl<S: Store> Worker<'_, '_, S> {
    /// One operation of the step.
    fn operation(&mut self) -> Result<()> {
        match self.driver.spec.step {
            Step::Read(pick) | Step::ReadWhileWriting(pick) => {
                let id = self.pick(pick);
                self.read(id)
            }
            Step::Scan(pick) => {
                let id = self.pick(pick);
                self.scan(id, SCAN_ROWS)
            }
            Step::Durable => {
                let id = self.driver.next_id.fetch_add(1, Ordering::Relaxed);
                self.write(id, true)
            }
            Step::Ycsb(mix) => self.ycsb(mix),
            Step::FillSeq | Step::FillRandom | Step::Overwrite | Step::Txn(_) => {
                Err("the step has no timed operation".into())
            }
        }
    }

    fn ycsb(&mut self, mix: Ycsb) -> Result<()> {
        let percent = self.random.below(100);
        let id = if mix == Ycsb::D { self.latest() } else { self.pick(Pick::Zipf) };
        match mix {
            Ycsb::A if percent < 50 => self.write(id, false),
            Ycsb::B if percent < 5 => self.write(id, false),
            Ycsb::D | Ycsb::E if percent < 5 => {
                let id = self.driver.next_id.fetch_add(1, Ordering::Relaxed);
                self.write(id, false)
            }
            Ycsb::E => {
                let rows = 1 + self.random.below(YCSB_SCAN_MAX);
                self.scan(id, usize::try_from(rows)?)
            }
            Ycsb::F if percent < 50 => {
                self.read(id)?;
                self.write(id, false)
            }
            Ycsb::A | Ycsb::B | Ycsb::C | Ycsb::D | Ycsb::F => self.read(id),
        }
    }

    fn pick(&mut self, pick: Pick) -> u64 {
        match (pick, &self.driver.zipf) {
            (Pick::Zipf, Some(zipf)) => zipf.scrambled(&mut self.random),
            _ => self.random.below(self.driver.spec.rows),
        }
    }

    /// A row, the more likely the later it was inserted.
    fn latest(&mut self) -> u64 {
        let newest = self.driver.next_id.load(Ordering::Relaxed) - 1;
        let back = self.driver.zipf.as_ref().map_or(0, |zipf| zipf.rank(&mut self.random));
        newest.saturating_sub(back)
    }

    fn write(&mut self, id: u64, durable: bool) -> Result<()> {
        self.written += self.driver.spec.row_len();
        let key = row_key(id, self.driver.spec.rows);
        self.driver.store.put(&key, self.values.next(id), durable)
    }

    fn read(&mut self, id: u64) -> Result<()> {
        let spec = self.driver.spec;
        let mut right = false;
        let see = |value: &[u8]| right = is_value_of(value, id, spec.value_len);
        let found = self.driver.store.get(&row_key(id, spec.rows), &mut self.scratch, see)?;
        // A row that is being inserted by another thread may not be there yet.
        if (found && right) || id >= spec.rows {
            return Ok(());
        }
        Err(format!("row {id} is {}", if found { "wrong" } else { "missing" }).into())
    }

    fn scan(&mut self, id: u64, rows: usize) -> Result<()> {
        let spec = self.driver.spec;
        let start = row_key(id, spec.rows);
        let mut last = start;
        let (mut ordered, mut bytes) = (true, 0);
        let seen = self.driver.store.scan(&start, rows, |key, value| {
            ordered &= key >= last.as_slice() && key.len() == last.len();
            last[..key.len().min(data::KEY_LEN)].copy_from_slice(&key[..key.len().min(data::KEY_LEN)]);
            bytes += value.len();
        })?;
        std::hint::black_box(bytes);
        let at_least = rows.min(usize::try_from(spec.rows.saturating_sub(id))?);
        if ordered && seen >= at_least {
            return Ok(());
        }
        Err(format!("a scan of {rows} rows from row {id} saw {seen}, in order: {ordered}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserted_rows_fall_between_the_first_ones() {
        assert_eq!(row_key(3, 10), data::key(48));
        for id in 10..200 {
            let key = row_key(id, 10);
            assert!(key > data::key(0) && key < data::key(160));
            assert!((0..10).all(|first| key != row_key(first, 10)));
        }
    }
}
