//! Crashes at any moment: acknowledged records survive what they were acknowledged for, and nothing else shows up.

use proptest::prelude::*;

use super::*;
use crate::env::fault::FaultKind;
use crate::env::memory::Crash;

#[derive(Clone, Debug)]
enum Step {
    Append {
        len: usize,
        count: u64,
    },
    Flush,
    WriteOut,
    Truncate {
        part: u8,
    },
    Close,
    Crash {
        power: bool,
    },
    /// The process or machine dies in the middle of the n-th file operation from now on, whichever step that is in.
    CrashAt {
        operations: u64,
        power: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![6 => 0usize..300, 2 => Just(216usize), 1 => 300usize..9000, 1 => 60_000usize..140_000];
    prop_oneof![
        20 => (len, 0u64..4).prop_map(|(len, count)| Step::Append { len, count }),
        6 => Just(Step::Flush),
        3 => Just(Step::WriteOut),
        2 => any::<u8>().prop_map(|part| Step::Truncate { part }),
        1 => Just(Step::Close),
        3 => any::<bool>().prop_map(|power| Step::Crash { power }),
        2 => (1u64..40, any::<bool>()).prop_map(|(operations, power)| Step::CrashAt { operations, power }),
    ]
}

/// A log and what it must hold.
struct Model {
    env: Arc<MemoryEnv>,
    place: LogPlace,
    log: FileLog,
    /// All records of this history, in order.
    entries: Vec<Entry>,
    /// A record whose append was under way when the process died: it may have got into the log.
    attempt: Option<Entry>,
    /// How many of them are known to be durable.
    durable: usize,
    /// The record that replay starts from.
    from: usize,
    /// Tells the records of one life from those of the next, so that a record of an earlier life is noticed.
    life: u64,
    power_next: bool,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (env, mut place) = world(seed);
        place.options.compress = seed % 2 == 1;
        place.options.archive_dir = seed.is_multiple_of(3).then(|| "/archive".into());
        let log = create(&place);
        let entries = Vec::new();
        Self { env, place, log, entries, attempt: None, durable: 0, from: 0, life: 0, power_next: false }
    }

    fn from(&self) -> Lsn {
        match self.entries.get(self.from) {
            Some(entry) => entry.0,
            None => self.log.position(),
        }
    }

    fn step(&mut self, step: &Step) {
        let result = match *step {
            Step::Append { len, count } => self.append(len, count),
            Step::Flush => self.log.flush(self.log.position()).map(|()| self.durable = self.entries.len()),
            Step::WriteOut => self.log.write_out().map(drop),
            Step::Truncate { part } => {
                let from = self.from + (self.entries.len() - self.from) * usize::from(part) / 256;
                let lsn = self.entries.get(from).map_or(self.log.position(), |entry| entry.0);
                // The durable position moves first, and only then is the log told: as a manifest edit does it.
                self.log.flush(lsn).and_then(|()| {
                    (self.from, self.durable) = (from, self.durable.max(from));
                    self.log.truncate_below(lsn)
                })
            }
            Step::Close => self.log.close().map(|()| {
                self.durable = self.entries.len();
                self.crash(Crash::Process);
            }),
            Step::Crash { power } => {
                self.crash(if power { Crash::Power } else { Crash::Process });
                Ok(())
            }
            Step::CrashAt { operations, power } => {
                self.env.faults().fail_at(operations, FaultKind::Crash);
                self.power_next = power;
                Ok(())
            }
        };
        if let Err(error) = result {
            assert!(self.env.faults().is_crashed(), "{error}: {:?}", self.env.faults());
            self.crash(if self.power_next { Crash::Power } else { Crash::Process });
        }
    }

    fn append(&mut self, len: usize, count: u64) -> Result<()> {
        let payload = payload(self.life, len);
        let (at, first) = (self.log.position(), self.log.next_seqno());
        let entry = (at, first, count, payload);
        match self.log.append(&entry.3, count) {
            Ok(_) => {
                self.entries.push(entry);
                Ok(())
            }
            Err(error) => {
                self.attempt = Some(entry);
                Err(error)
            }
        }
    }

    fn crash(&mut self, how: Crash) {
        let dying = self.env.faults().is_crashed();
        let position = self.from();
        self.env.crash(how);
        self.life += 1;
        // A crash during recovery, too, one time in two.
        if self.life.is_multiple_of(2) {
            self.env.faults().fail_at(self.life * 7 % 50 + 1, FaultKind::Crash);
            let lost = replay(&self.place, position).and_then(|(_, recovered)| self.open(&recovered));
            if lost.is_err() {
                assert!(self.env.faults().is_crashed(), "{:?}", lost.err());
            }
            drop(lost);
            self.env.crash(how);
        }
        let (found, recovered) = replay(&self.place, position).unwrap();
        let mut all = self.entries[self.from..].to_vec();
        let least = if how == Crash::Power { self.durable - self.from } else { all.len() };
        if dying {
            all.extend(self.attempt.clone());
        }
        assert!(found.len() >= least, "{} of {least} found: {:?}", found.len(), self.env.faults());
        assert!(found == all[..found.len()], "other records than were appended");
        self.attempt = None;
        self.entries.truncate(self.from);
        self.entries.extend(found);
        self.durable = self.entries.len();
        self.log = self.open(&recovered).unwrap();
    }

    fn open(&self, recovered: &Recovered) -> Result<FileLog> {
        open(&self.place, recovered, recovered.last_seqno.max(self.entries_seqno()).plus(1))
    }

    fn entries_seqno(&self) -> SeqNo {
        SeqNo(self.entries.last().map_or(0, |entry| entry.1.0 + entry.2))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_records_survive(seed: u64, steps in proptest::collection::vec(step(), 1..80)) {
        let mut model = Model::new(seed);
        for step in &steps {
            model.step(step);
        }
        model.crash(Crash::Power);
    }
}

#[test]
fn the_death_of_the_process_loses_nothing() {
    let (env, place) = world(40);
    let log = create(&place);
    let mut entries: Vec<_> = (0..100).map(|tag| append(&log, tag, 333, 1)).collect();
    env.crash(Crash::Process);
    let (log, found) = reopen(&place, Lsn(0));
    assert_eq!(found, entries);
    assert_eq!(log.durable(), log.position(), "what was replayed is made durable");
    entries.push(append(&log, 100, 10, 1));
    log.flush(log.position()).unwrap();
    env.crash(Crash::Power);
    assert_eq!(reopen(&place, Lsn(0)).1, entries);
}

#[test]
fn what_recovery_found_is_durable_wherever_it_was() {
    for seed in 0..20 {
        let (env, place) = world(seed);
        let log = create(&place);
        // Written but not synced: in segments, in the ring, and a record that is in both.
        let entries: Vec<_> = [60_000, 62_801, 100].into_iter().map(|len| append(&log, 7, len, 1)).collect();
        env.crash(Crash::Process);
        assert!(reopen(&place, Lsn(0)).1 == entries);
        env.crash(Crash::Power);
        assert!(reopen(&place, Lsn(0)).1 == entries, "seed {seed}");
    }
}

#[test]
fn a_larger_ring_takes_over_a_smaller_one() {
    let (env, mut place) = world(41);
    let mut entries = Vec::new();
    let mut log = create(&place);
    for ring_bytes in [256 << 10, 64 << 10, 128 << 10] {
        for tag in 0..50 {
            entries.push(append(&log, tag, 2000, 1));
        }
        env.crash(Crash::Process);
        place.options.ring_bytes = ring_bytes;
        let (next, found) = reopen(&place, Lsn(0));
        assert_eq!(found, entries);
        log = next;
    }
}

#[test]
fn lost_records_of_an_earlier_life_stay_lost() {
    for seed in 0..200 {
        let (env, place) = world(seed);
        let log = create(&place);
        let mut entries: Vec<_> = (0..20).map(|tag| append(&log, tag, 216, 1)).collect();
        log.flush(log.position()).unwrap();
        (0..100).for_each(|tag| drop(append(&log, 1000 + tag, 216, 1)));
        log.write_out().unwrap();
        env.crash(Crash::Power);
        let (log, found) = reopen(&place, Lsn(0));
        assert_eq!(found[..20], entries);
        entries = found;
        let found_len = entries.len();
        // Up to the end of a block, so that what an earlier life left in the next one would start just where a record
        // is expected: within a block the zeros behind a flushed record hide it.
        while entries.len() == found_len || !log.position().0.is_multiple_of(4096) {
            entries.push(append(&log, 2000, 216, 1));
            log.flush(log.position()).unwrap();
        }
        env.crash(Crash::Power);
        assert!(reopen(&place, Lsn(0)).1 == entries, "seed {seed}");
    }
}
