//! Compaction without a disk: what a stream of writes costs with given options, in seconds instead of hours.
//!
//! Rows are numbers, files are sorted lists of them, and a merge is the union of lists; everything that decides (picker,
//! marks, cuts, levels) is what the engine itself uses. Writes go through a memtable, flushes install files in L0, and
//! compactions start whenever the picker finds one and a slot is free. They progress as fast as `compaction_speed` says, so
//! that L0 grows when that is too slow.
//!
//! Not modelled: compression, filters and indexes (some percent of a file), deletes, snapshots.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level, SeqNo};
use crate::base::limits::LEVEL_COUNT;
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::lsm::compaction::choice::Choice;
use crate::lsm::compaction::cuts::Cuts;
use crate::lsm::compaction::narrow::{Narrowed, narrow};
use crate::lsm::compaction::pick::pick;
use crate::lsm::compaction::pieces::KeyRange;
use crate::lsm::compaction::shape::Shape;
use crate::lsm::compaction::targets::Policy;
use crate::lsm::version::Version;
use crate::options::Options;

/// Which rows are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// Every row is as likely as any other.
    Uniform,
    /// Few rows get most writes: the row of rank r about r to the power of minus this, which is between 0 and 1.
    Zipf(f64),
    /// One after the other, over and over.
    Sequential,
}

/// What to simulate.
#[derive(Clone)]
pub struct SimulateOptions {
    /// Bytes of all rows together. They are in the last level at the start, when `loaded`.
    pub data_bytes: u64,
    /// Bytes of a row, key and value. Real rows are smaller; larger ones only make the picture coarser.
    pub row_bytes: u64,
    /// Bytes to write.
    pub write_bytes: u64,
    /// Bytes written before counting starts, so that the levels have their steady sizes.
    pub warm_bytes: u64,
    /// Which rows.
    pub pattern: Pattern,
    /// All rows exist at the start.
    pub loaded: bool,
    /// Size of a memtable, of files and levels.
    pub engine: Options,
    /// Compactions that run at once.
    pub compactions: usize,
    /// Bytes that all running compactions together read in the time in which one byte is flushed; `None`: they are done
    /// before the next flush.
    pub compaction_speed: Option<f64>,
    /// Start of the pseudo-random sequence.
    pub seed: u64,
}

impl Default for SimulateOptions {
    /// 25 GB of rows, all overwritten once by chance, with the engine's default options.
    fn default() -> Self {
        Self {
            data_bytes: 25 << 30,
            row_bytes: 16 << 10,
            write_bytes: 25 << 30,
            warm_bytes: 0,
            pattern: Pattern::Uniform,
            loaded: true,
            engine: Options::default(),
            compactions: 2,
            compaction_speed: None,
            seed: 1,
        }
    }
}

/// How far a simulation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulateProgress {
    /// Bytes written so far.
    pub written_bytes: u64,
    /// Bytes there are to write.
    pub total_bytes: u64,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulateReport {
    /// Bytes of rows written.
    pub user_bytes: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Bytes written by flushes.
    pub flush_bytes: u64,
    /// Bytes written by compactions, by output level.
    pub compaction_bytes: [u64; LEVEL_COUNT],
    /// Merges that ran.
    pub merges: u64,
    /// Files that were moved to another level as they are.
    pub moves: u64,
    /// Most sublevels that L0 had.
    pub l0_depth_max: usize,
    /// Most bytes of all files, per byte of rows.
    pub space_amplification_max: f64,
    /// Bytes per level at the end.
    pub level_bytes: [u64; LEVEL_COUNT],
}

impl SimulateReport {
    /// Bytes written to the device, log included, per byte of rows written.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        let device = self.log_bytes + self.flush_bytes + self.compaction_bytes.iter().sum::<u64>();
        if self.user_bytes == 0 { 0.0 } else { device as f64 / self.user_bytes as f64 }
    }
}

/// Runs a simulation, telling `progress` how far it is now and then.
pub fn simulate(options: &SimulateOptions, progress: &mut dyn FnMut(SimulateProgress)) -> SimulateReport {
    let mut world = World::new(options);
    let total_bytes = options.warm_bytes + options.write_bytes;
    let (mut written, mut counting) = (0, false);
    while written < total_bytes {
        if !counting && written >= options.warm_bytes {
            counting = true;
            world.report = SimulateReport::default();
        }
        written += world.write_memtable();
        progress(SimulateProgress { written_bytes: written, total_bytes });
    }
    world.report.level_bytes = std::array::from_fn(|level| world.version.level_bytes(Level(level as u8)));
    world.report
}

/// A compaction under way.
struct Running {
    choice: Choice,
    left_bytes: f64,
}

struct World<'o> {
    options: &'o SimulateOptions,
    policy: Policy,
    rows: u32,
    version: Version,
    contents: HashMap<FileNumber, Vec<u32>>,
    running: Vec<Running>,
    draws: Draws,
    seqno: u64,
    next_file: u64,
    report: SimulateReport,
}

impl<'o> World<'o> {
    fn new(options: &'o SimulateOptions) -> Self {
        let rows = u32::try_from(options.data_bytes / options.row_bytes.max(1)).unwrap_or(u32::MAX).max(1);
        let mut world = Self {
            options,
            policy: Policy::new(&options.engine),
            rows,
            version: Version::empty(),
            contents: HashMap::new(),
            running: Vec::new(),
            draws: Draws { state: options.seed.max(1), next: 0 },
            seqno: 1,
            next_file: 1,
            report: SimulateReport::default(),
        };
        if options.loaded {
            let per_file = (options.engine.target_file_bytes / options.row_bytes.max(1)).max(1) as usize;
            let all: Vec<u32> = (0..rows).collect();
            let last = Level(LEVEL_COUNT as u8 - 1);
            let added = all.chunks(per_file).map(|rows| (last, world.file(rows.to_vec(), (0, 0)))).collect();
            world.install(VersionEdit { added, ..VersionEdit::default() });
        }
        world
    }

    fn file(&mut self, rows: Vec<u32>, seqnos: (u64, u64)) -> Arc<FileMeta> {
        let number = FileNumber(self.next_file);
        self.next_file += 1;
        let key = |row: Option<&u32>| row.map_or_else(Vec::new, |row| row.to_be_bytes().to_vec());
        let bytes = rows.len() as u64 * self.options.row_bytes;
        let file = FileMeta {
            number,
            size: bytes,
            smallest: key(rows.first()),
            largest: key(rows.last()),
            largest_exclusive: false,
            smallest_seqno: SeqNo(seqnos.0),
            largest_seqno: SeqNo(seqnos.1),
            entries: rows.len() as u64,
            deletes: 0,
            range_deletes: 0,
            raw_bytes: bytes,
            min_txn: 0,
            max_txn: 0,
            created_unix: 0,
        };
        self.contents.insert(number, rows);
        Arc::new(file)
    }

    fn install(&mut self, edit: VersionEdit) {
        self.version = self.version.apply(&edit).expect("the picker keeps levels disjoint");
        let live = f64::from(self.rows) * self.options.row_bytes as f64;
        let space = self.version.total_bytes() as f64 / live;
        self.report.space_amplification_max = self.report.space_amplification_max.max(space);
        self.report.l0_depth_max = self.report.l0_depth_max.max(self.version.sublevels().count());
    }

    /// Fills a memtable and flushes it; bytes of rows written.
    fn write_memtable(&mut self) -> u64 {
        let count = (self.options.engine.memtable_bytes as u64 / self.options.row_bytes.max(1)).max(1);
        let mut rows: Vec<u32> = (0..count).map(|_| self.draws.row(self.options.pattern, self.rows)).collect();
        rows.sort_unstable();
        rows.dedup();
        let bytes = count * self.options.row_bytes;
        self.report.user_bytes += bytes;
        self.report.log_bytes += bytes;
        let seqnos = (self.seqno, self.seqno + count - 1);
        self.seqno += count;
        let file = self.file(rows, seqnos);
        self.report.flush_bytes += file.size;
        let flushed = file.size;
        self.install(VersionEdit { added: vec![(Level(0), file)], ..VersionEdit::default() });
        self.compact(flushed);
        bytes
    }

    /// Lets compactions run for the time of a flush of `flushed` bytes.
    fn compact(&mut self, flushed: u64) {
        let mut budget = self.options.compaction_speed.map_or(f64::INFINITY, |speed| speed * flushed as f64);
        loop {
            while self.running.len() < self.options.compactions.max(1) && self.start() {}
            let Some(least) = self.running.iter().map(|job| job.left_bytes).reduce(f64::min) else { return };
            // All advance at the same pace until the first is done or the time is up.
            let step = least.min(budget / self.running.len() as f64);
            budget -= step * self.running.len() as f64;
            for job in &mut self.running {
                job.left_bytes -= step;
            }
            let Some(done) = self.running.iter().position(|job| job.left_bytes <= 0.0) else { return };
            let job = self.running.swap_remove(done);
            self.finish(&job.choice);
        }
    }

    fn start(&mut self) -> bool {
        let levels = std::array::from_fn(|level| self.version.level(Level(level as u8)).to_vec());
        let marks = self.running.iter().zip(0..).flat_map(|(job, name)| {
            let output = job.choice.output().unwrap_or_default();
            job.choice.files().into_iter().map(move |(_, file)| (name, file, output))
        });
        let shape = Shape::new(levels, self.version.sublevels().clone(), marks);
        let choice = pick(&shape, &self.policy);
        match choice {
            Choice::Idle => return false,
            Choice::Merge { .. } => {
                let files = choice.files();
                let read = self.version.files().filter(|(level, f)| files.contains(&(*level, f.number)));
                let left_bytes = read.map(|(_, f)| f.size as f64).sum();
                self.running.push(Running { choice, left_bytes });
            }
            Choice::Move { .. } | Choice::Drop { .. } => self.finish(&choice),
        }
        true
    }

    /// The merge of `choice` as the engine would run it: without the files that stay, in ranges of rows.
    fn narrowed(&self, choice: &Choice) -> Narrowed {
        let files = choice.files();
        let inputs = self.version.files().filter(|(level, f)| files.contains(&(*level, f.number)));
        let (base, above): (Vec<_>, Vec<_>) = inputs.partition(|(level, _)| Some(*level) == choice.output());
        if above.is_empty() || choice.output() == Some(Level(0)) {
            return Narrowed { stays: Vec::new(), ranges: vec![KeyRange::default()] };
        }
        let has = |range: &KeyRange| {
            Ok(above.iter().any(|(_, f)| {
                let rows = &self.contents[&f.number];
                let at =
                    rows.partition_point(|row| range.from.as_deref().is_some_and(|from| &row.to_be_bytes()[..] < from));
                rows.get(at).is_some_and(|row| range.to.as_deref().is_none_or(|to| &row.to_be_bytes()[..] < to))
            }))
        };
        narrow(base.iter().map(|(_, f)| &***f), self.options.engine.target_file_bytes, has).expect("nothing fails here")
    }

    fn finish(&mut self, choice: &Choice) {
        let narrowed = self.narrowed(choice);
        let mut deleted = choice.files();
        deleted.retain(|(_, file)| !narrowed.stays.contains(file));
        let is_input = |(level, f): &(Level, &Arc<FileMeta>)| deleted.contains(&(*level, f.number));
        let inputs: Vec<_> = self.version.files().filter(is_input).map(|(_, f)| Arc::clone(f)).collect();
        let added = match choice {
            Choice::Idle | Choice::Drop { .. } => Vec::new(),
            Choice::Move { to, .. } => {
                self.report.moves += 1;
                inputs.into_iter().map(|file| (*to, file)).collect()
            }
            Choice::Merge { output, .. } => {
                self.report.merges += 1;
                let files = self.merge(&inputs, *output, &narrowed.ranges);
                self.report.compaction_bytes[output.index()] += files.iter().map(|f| f.size).sum::<u64>();
                files.into_iter().map(|file| (*output, file)).collect()
            }
        };
        self.install(VersionEdit { deleted, added, ..VersionEdit::default() });
    }

    fn merge(&mut self, inputs: &[Arc<FileMeta>], output: Level, ranges: &[KeyRange]) -> Vec<Arc<FileMeta>> {
        let mut rows: Vec<u32> = Vec::new();
        for file in inputs {
            rows.extend(self.contents.remove(&file.number).unwrap_or_default());
        }
        // A stable sort finds the sorted stretches and merges them.
        rows.sort();
        rows.dedup();
        let oldest = inputs.iter().map(|f| f.smallest_seqno.0).min().unwrap_or(0);
        let newest = inputs.iter().map(|f| f.largest_seqno.0).max().unwrap_or(0);
        let below = if output.index() + 1 < LEVEL_COUNT { self.version.level(Level(output.0 + 1)) } else { &[] };
        let (mut files, mut from) = (Vec::new(), 0);
        for range in ranges {
            let mut cuts = Cuts::new(self.options.engine.target_file_bytes, below.iter().map(|f| &**f), &[]);
            let end = |row: &u32| range.to.as_deref().is_none_or(|to| &row.to_be_bytes()[..] < to);
            let to = from + rows[from..].partition_point(end);
            for (at, row) in rows.iter().enumerate().take(to).skip(from) {
                if cuts.before(&row.to_be_bytes(), (at - from) as u64 * self.options.row_bytes) {
                    files.push(std::mem::replace(&mut from, at)..at);
                }
            }
            files.push(std::mem::replace(&mut from, to)..to);
        }
        assert_eq!(from, rows.len(), "the ranges have all rows");
        files.retain(|rows| !rows.is_empty());
        files.into_iter().map(|range| self.file(rows[range].to_vec(), (oldest, newest))).collect()
    }
}

/// Draws rows; repeats from its seed.
struct Draws {
    state: u64,
    next: u32,
}

impl Draws {
    /// A number from 0 to 1 (xorshift*, good enough to pick rows).
    fn unit(&mut self) -> f64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn row(&mut self, pattern: Pattern, rows: u32) -> u32 {
        match pattern {
            Pattern::Uniform => (self.unit() * f64::from(rows)) as u32,
            Pattern::Zipf(theta) => {
                // The inverse of the distribution's integral gives the rank; a multiplication spreads ranks over the keys.
                let power = 1.0 - theta.clamp(0.0, 0.999);
                let whole = f64::from(rows).powf(power) - 1.0;
                let rank = (1.0 + self.unit() * whole).powf(1.0 / power) as u64 - 1;
                (rank.wrapping_mul(0x9E37_79B9_7F4A_7C15) % u64::from(rows)) as u32
            }
            Pattern::Sequential => {
                let row = self.next % rows;
                self.next = self.next.wrapping_add(1);
                row
            }
        }
    }
}

#[cfg(test)]
mod tests;
