//! Doing one step of transactions on one store, and measuring it.
//!
//! Every row has a balance, and no step changes their sum: it is checked after each, so a store that loses an update fails
//! instead of winning.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Outcome, Stop, Txn, TxnStore};
use crate::Result;
use crate::data::{Values, is_value_of, key};
use crate::drive::{WARM_UP, repeat};
use crate::measure::{self, Latencies, Usage};
use crate::random::{Random, Zipf, mix};
use crate::spec::{Measured, Pick, Spec, TxnStep};

/// Rows of each transaction of the load.
const LOAD_ROWS: u64 = 1000;

/// Operations of each transaction of a mix.
const MIX_OPERATIONS: usize = 4;

/// What each row has at first.
const BALANCE: u64 = 1000;

/// Where the balance of a row lies in its value, behind the id.
const BALANCE_AT: std::ops::Range<usize> = 8..16;

/// Runs `step` of `spec` on its store.
///
/// # Errors
/// Whatever the store, or the system, reports; a row that is missing or wrong; a sum that is wrong.
pub fn run<S: TxnStore>(spec: &Spec, step: TxnStep) -> Result<Measured> {
    std::fs::create_dir_all(&spec.dir)?;
    let store = S::open(&spec.dir, &spec.settings)?;
    let zipf = (step != TxnStep::Load).then(|| Zipf::new(spec.rows));
    let driver = Driver { spec, step, store: &store, zipf, conflicts: AtomicU64::new(0) };
    let mut out = if step == TxnStep::Load { driver.load()? } else { driver.timed()? };
    out.space_bytes = measure::space_bytes(&spec.dir)?;
    out.live_bytes = spec.rows * spec.row_len();
    out.rss_max_bytes = measure::rss_max_bytes();
    Ok(out)
}

/// One run: what its threads share.
struct Driver<'a, S> {
    spec: &'a Spec,
    step: TxnStep,
    store: &'a S,
    zipf: Option<Zipf>,
    /// Transactions that had to be run again.
    conflicts: AtomicU64,
}

impl<S: TxnStore> Driver<'_, S> {
    fn load(&self) -> Result<Measured> {
        let mut values = Values::new(self.spec.value_len, self.spec.seed);
        let (usage, start) = (Usage::now(), Instant::now());
        let mut latencies = Latencies::start()?;
        for first in (0..self.spec.rows).step_by(usize::try_from(LOAD_ROWS)?) {
            let mut txn = self.store.begin(false)?;
            for id in first..(first + LOAD_ROWS).min(self.spec.rows) {
                txn.put(&key(id), with_balance(values.next(id), BALANCE).as_slice()).map_err(failure)?;
            }
            txn.commit().map_err(failure)?;
            latencies.lap();
        }
        let mut out = Measured { seconds: start.elapsed().as_secs_f64(), ..Measured::default() };
        Usage::now().since(&usage, &mut out);
        latencies.report(&mut out);
        out.user_bytes = self.spec.rows * self.spec.row_len();
        Ok(out)
    }

    fn timed(&self) -> Result<Measured> {
        self.check_sum()?;
        let mut workers: Vec<_> = (0..self.spec.threads).map(|i| Worker::new(self, i)).collect();
        repeat(&mut workers, self.spec.seconds * WARM_UP, Worker::transaction)?;
        self.conflicts.store(0, Ordering::Relaxed);
        let written_before: u64 = workers.iter().map(|w| w.written).sum();
        let (usage, start) = (Usage::now(), Instant::now());
        let latencies = repeat(&mut workers, self.spec.seconds, Worker::transaction)?;
        let mut out = Measured { seconds: start.elapsed().as_secs_f64(), ..Measured::default() };
        Usage::now().since(&usage, &mut out);
        latencies.report(&mut out);
        out.conflicts = self.conflicts.load(Ordering::Relaxed);
        out.user_bytes = workers.iter().map(|w| w.written).sum::<u64>() - written_before;
        self.check_sum()?;
        Ok(out)
    }

    /// Reads every row, which also warms the caches.
    fn check_sum(&self) -> Result<()> {
        let mut sum = 0;
        for first in (0..self.spec.rows).step_by(usize::try_from(LOAD_ROWS)?) {
            let mut txn = self.store.begin(false)?;
            for id in first..(first + LOAD_ROWS).min(self.spec.rows) {
                let value = txn.get(&key(id)).map_err(failure)?;
                sum += balance(&self.checked(id, value)?);
            }
            txn.commit().map_err(failure)?;
        }
        if sum == self.spec.rows * BALANCE {
            return Ok(());
        }
        Err(format!("the balances sum up to {sum} instead of {}", self.spec.rows * BALANCE).into())
    }

    fn checked(&self, id: u64, value: Option<Vec<u8>>) -> Result<Vec<u8>> {
        let value = value.ok_or_else(|| format!("row {id} is missing"))?;
        if is_value_of(&value, id, self.spec.value_len) {
            return Ok(value);
        }
        Err(format!("row {id} is wrong").into())
    }
}

/// One thread of a run.
struct Worker<'d, 's, S> {
    driver: &'d Driver<'s, S>,
    random: Random,
    values: Values,
    /// Bytes of keys and values written.
    written: u64,
}

impl<'d, 's, S: TxnStore> Worker<'d, 's, S> {
    fn new(driver: &'d Driver<'s, S>, index: usize) -> Self {
        let seed = mix(driver.spec.seed.wrapping_add(1 + index as u64));
        Self { driver, random: Random::new(seed), values: Values::new(driver.spec.value_len, seed), written: 0 }
    }

    /// One transaction, run until it goes through.
    fn transaction(&mut self) -> Result<()> {
        // What it does is drawn once: a repetition does the same again.
        let (ids, writes) = self.draw();
        loop {
            let outcome = match self.driver.step {
                TxnStep::Bank { durable, .. } => self.transfer(&ids, durable),
                TxnStep::Mix { durable, .. } => self.mix(&ids, writes, durable),
                TxnStep::Load => return Err("a load has no timed operation".into()),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(Stop::Conflict) => {
                    self.driver.conflicts.fetch_add(1, Ordering::Relaxed);
                }
                Err(Stop::Failure(error)) => return Err(error),
            }
        }
    }

    /// Rows in order, so that no two transactions wait for each other; and as bits which of them are written.
    fn draw(&mut self) -> ([u64; MIX_OPERATIONS], u64) {
        let (pick, write_percent) = match self.driver.step {
            TxnStep::Bank { pick, .. } => (pick, 100),
            TxnStep::Mix { pick, write_percent, .. } => (pick, write_percent),
            TxnStep::Load => (Pick::Uniform, 0),
        };
        let mut ids = [0; MIX_OPERATIONS];
        loop {
            ids.fill_with(|| match (pick, &self.driver.zipf) {
                (Pick::Zipf, Some(zipf)) => zipf.scrambled(&mut self.random),
                _ => self.random.below(self.driver.spec.rows),
            });
            ids.sort_unstable();
            if ids.windows(2).all(|pair| pair[0] < pair[1]) {
                break;
            }
        }
        let writes = (0..MIX_OPERATIONS).filter(|_| self.random.below(100) < write_percent).fold(0, |w, i| w | 1 << i);
        (ids, writes)
    }

    /// Moves money from one account to another.
    fn transfer(&mut self, ids: &[u64], durable: bool) -> Outcome<()> {
        let (from, to) = (ids[0], ids[1]);
        let mut txn = self.driver.store.begin(durable)?;
        let rich = self.locked(&mut txn, from)?;
        let poor = self.locked(&mut txn, to)?;
        let amount = (self.random.below(10) + 1).min(balance(&rich));
        self.put(&mut txn, from, balance(&rich) - amount)?;
        self.put(&mut txn, to, balance(&poor) + amount)?;
        txn.commit()
    }

    /// Reads rows, and writes some of them again.
    fn mix(&mut self, ids: &[u64], writes: u64, durable: bool) -> Outcome<()> {
        let mut txn = self.driver.store.begin(durable)?;
        for (i, &id) in ids.iter().enumerate() {
            if writes & 1 << i == 0 {
                let value = txn.get(&key(id))?;
                self.driver.checked(id, value)?;
            } else {
                let balance = balance(&self.locked(&mut txn, id)?);
                self.put(&mut txn, id, balance)?;
            }
        }
        txn.commit()
    }

    fn locked(&self, txn: &mut S::Txn<'_>, id: u64) -> Outcome<Vec<u8>> {
        let value = txn.get_for_update(&key(id))?;
        self.driver.checked(id, value).map_err(Stop::Failure)
    }

    fn put(&mut self, txn: &mut S::Txn<'_>, id: u64, balance: u64) -> Outcome<()> {
        self.written += self.driver.spec.row_len();
        txn.put(&key(id), with_balance(self.values.next(id), balance).as_slice())
    }
}

fn with_balance(value: &[u8], balance: u64) -> Vec<u8> {
    let mut value = value.to_vec();
    value[BALANCE_AT].copy_from_slice(&balance.to_le_bytes());
    value
}

fn balance(value: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| value[BALANCE_AT.start + i]))
}

fn failure(stop: Stop) -> Box<dyn std::error::Error + Send + Sync> {
    match stop {
        Stop::Conflict => "a conflict without anybody else".into(),
        Stop::Failure(error) => error,
    }
}
