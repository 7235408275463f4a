//! Carries out a compaction that was picked: read, merge, drop, write, install.
//!
//! A compaction holds no lock while it reads and writes: its inputs are marked busy, so nobody else touches them, and its
//! outputs are unknown to anybody until the edit that installs them. A large one is run in pieces, see `pieces`. When it fails, or its process dies, the outputs are
//! orphans and the inputs are as they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::ids::{FileNumber, Level, TreeId};
use crate::base::key::Trailer;
use crate::base::limits::LEVEL_COUNT;
use crate::error::{Error, Result};
use crate::format::range_del::{RangeTombstone, RangeTombstones};
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::lsm::Lsm;
use crate::lsm::compaction::cuts::{Cuts, large_trees};
use crate::lsm::compaction::narrow::{Narrowed, narrow, stays_from};
use crate::lsm::compaction::pieces::KeyRange;
use crate::lsm::install::ManifestClaim;
use crate::lsm::keeper::Keeper;
use crate::lsm::merge::{Direction, Merge, ReadContext, Run, Source};
use crate::lsm::output::Output;
use crate::lsm::rate_limit::Priority;
use crate::lsm::stats::Counter;
use crate::lsm::view::{FileEntry, View};
use crate::sst::iter::{ReadAhead, SstIter};

/// Entries between two looks at the rate limit and at whether the engine still wants the work.
const PACE_EVERY: u32 = 256;

/// A merge that was picked and whose inputs are marked busy.
#[derive(Clone)]
pub struct MergePlan {
    /// Input files with their levels.
    pub inputs: Vec<(Level, Arc<FileEntry>)>,
    /// Where the outputs go.
    pub output: Level,
    /// The version that was looked at; its deeper levels cannot change under the inputs' keys while those are busy.
    pub view: Arc<View>,
    /// Trees that share no file of the outputs with others, ascending.
    pub apart: Vec<TreeId>,
}

/// What a merge, or a part of it, came to.
#[derive(Default)]
pub struct Merged {
    /// What was written, in no particular order.
    pub files: Vec<Arc<FileMeta>>,
    /// Entries read.
    pub entries: u64,
}

/// Tells whether a level below the output has data for a key; keys are asked in ascending order.
struct Below {
    levels: Vec<(Vec<Arc<FileEntry>>, usize)>,
    /// Outputs that stay in L0 lie above older files of L0 whose place this does not look up.
    always: bool,
}

impl Below {
    fn new(plan: &MergePlan) -> Self {
        let deeper = (plan.output.index() + 1)..LEVEL_COUNT;
        let levels = deeper.map(|level| (plan.view.levels[level].clone(), 0)).collect();
        Self { levels, always: plan.output == Level(0) }
    }

    fn may_have(&mut self, key: &[u8]) -> bool {
        self.always
            || self.levels.iter_mut().any(|(files, at)| {
                while files.get(*at).is_some_and(|f| f.meta.end() <= (key, false)) {
                    *at += 1;
                }
                files.get(*at).is_some_and(|f| f.meta.smallest.as_slice() <= key)
            })
    }

    /// Whether any level below has data in a range.
    fn may_overlap(&self, start: &[u8], end: &[u8]) -> bool {
        self.always
            || self.levels.iter().any(|(files, _)| {
                let at = files.partition_point(|f| f.meta.end() <= (start, false));
                files.get(at).is_some_and(|f| f.meta.smallest.as_slice() < end)
            })
    }
}

impl Lsm {
    /// Runs a picked merge and installs its outputs.
    pub(crate) fn run_merge(&self, plan: &MergePlan, pieces_max: u64) -> Result<()> {
        let (plan, ranges) = self.narrowed(plan)?;
        let plan = Arc::new(plan);
        let Merged { files, entries } = self.merge_in_pieces(&plan, ranges, pieces_max)?;
        let there: u64 = plan.inputs.iter().map(|(_, f)| f.meta.entries).sum();
        if entries != there {
            self.remove_outputs(&files);
            let what = format!("a merge has read {entries} entries of files that should have {there}");
            return Err(Error::corruption(&self.dir, 0, what));
        }
        self.stats().add(Counter::Compactions, 1);
        self.stats().add(Counter::CompactionReadBytes, plan.inputs.iter().map(|(_, f)| f.meta.size).sum());
        self.stats().add(Counter::CompactionWriteBytes, files.iter().map(|f| f.size).sum());
        let edit = VersionEdit {
            deleted: plan.inputs.iter().map(|(level, f)| (*level, f.meta.number)).collect(),
            added: files.into_iter().map(|f| (plan.output, f)).collect(),
            ..VersionEdit::default()
        };
        let claim = self.claim_manifest()?;
        self.install(&claim, edit).map(drop)
    }

    /// The merge without the files of the output level that its other inputs have nothing for, and the keys that are left to merge. Trees
    /// that could fill a file that stays are kept apart.
    fn narrowed(&self, plan: &MergePlan) -> Result<(MergePlan, Vec<KeyRange>)> {
        let (mut base, above): (Vec<_>, Vec<_>) = plan.inputs.iter().partition(|(level, _)| *level == plan.output);
        base.sort_by(|(_, a), (_, b)| a.meta.smallest.cmp(&b.meta.smallest));
        let apart = large_trees(&self.stretches(plan)?, stays_from(self.options.target_file_bytes));
        let all = (MergePlan { apart, ..plan.clone() }, vec![KeyRange::default()]);
        // Files that are merged by themselves are to be written anew; those of L0 are not in key order.
        if above.is_empty() || base.is_empty() || plan.output == Level(0) {
            return Ok(all);
        }
        let mut sources = Vec::new();
        for (_, file) in above {
            sources.push((&file.meta, SstIter::new(Arc::clone(file.reader(&self.opener)?), ReadAhead::FillCache)));
        }
        let has = |range: &KeyRange| {
            for (meta, iter) in sources.iter_mut().filter(|(meta, _)| meta.overlaps_range(range.bounds())) {
                let (from, to) = (range.from.as_deref().unwrap_or_default(), range.to.as_deref());
                if meta.range_deletes > 0 && iter.reader().range_tombstones().overlaps(from, to) {
                    return Ok(true);
                }
                iter.seek(&self.cache, from, Trailer::MAX)?;
                if iter.valid() && to.is_none_or(|to| iter.key() < to) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let Narrowed { stays, ranges } =
            narrow(base.iter().map(|(_, f)| &*f.meta), self.options.target_file_bytes, has)?;
        let (mut plan, _) = all;
        plan.inputs.retain(|(level, f)| *level != plan.output || !stays.contains(&f.meta.number));
        Ok((plan, ranges))
    }

    /// Merges what the inputs have in `range`, for the readers there are now. Ends early, with an error, once `aborted` is set.
    pub(super) fn merge_range(&self, plan: &MergePlan, range: &KeyRange, aborted: &AtomicBool) -> Result<Merged> {
        let check_wanted = || {
            if aborted.load(Ordering::Relaxed) {
                return Err(Error::Closed("another piece of the same compaction has failed".into()));
            }
            self.check_host_interrupts()?;
            self.check_open()
        };
        check_wanted()?;
        // Made after the inputs were chosen: they hold nothing that is newer than what was visible before this.
        let mut keeper = Keeper::new(self)?;
        let mut below = Below::new(plan);
        let (sources, tombstones) = self.merge_inputs(plan, range)?;
        let covering = RangeTombstones::new(tombstones.clone());
        let needed = |t: &RangeTombstone| keeper.keeps_range_tombstone(t.seqno, !below.may_overlap(&t.start, &t.end));
        let kept = tombstones.into_iter().filter(needed).collect();
        let mut output = Output::new(self, Priority::Compaction, kept);
        let next_level = plan.view.levels.get(plan.output.index() + 1).map_or(&[][..], Vec::as_slice);
        let mut cuts = Cuts::new(self.options.target_file_bytes, next_level.iter().map(|f| &*f.meta), &plan.apart);
        let context = ReadContext { cache: &self.cache, opener: &self.opener };
        let mut merge = Merge::new(sources, Direction::Forward, context);
        merge.seek(range.from.as_deref().unwrap_or_default(), Trailer::MAX)?;
        let mut last_key: Vec<u8> = Vec::new();
        let (mut bottommost, mut since_pace, mut entries) = (false, 0, 0);
        while merge.valid() {
            let (key, trailer) = (merge.key(), merge.trailer());
            let new_key = key != last_key;
            if new_key {
                if range.to.as_deref().is_some_and(|to| key >= to) {
                    break;
                }
                last_key.clear();
                last_key.extend_from_slice(key);
                bottommost = !below.may_have(key);
                if cuts.before(key, output.current_bytes()) {
                    output.cut(key)?;
                }
            }
            if let Some(kept) = keeper.judge(new_key, (key, trailer, merge.value()), &covering, bottommost)? {
                output.add(key, kept)?;
                if merge.is_cached() {
                    output.note_cached();
                }
            }
            merge.advance()?;
            entries += 1;
            since_pace += 1;
            if since_pace == PACE_EVERY {
                since_pace = 0;
                check_wanted()?;
                output.pace();
                self.flush_meanwhile();
            }
        }
        keeper.finish()?;
        Ok(Merged { files: output.finish()?, entries })
    }

    /// Flushes a memtable that waits, when all background threads may be in compactions: writers wait for flushes.
    fn flush_meanwhile(&self) {
        if self.options.background_threads == 0 || self.memtable_list().len() < 2 {
            return;
        }
        if let Err(error) = self.flush_oldest() {
            tracing::warn!(error = &error as &dyn std::error::Error, "a flush failed; it will be tried again");
        }
    }

    /// The inputs as sources, and their range tombstones, as far as they have keys in `range`.
    fn merge_inputs(&self, plan: &MergePlan, range: &KeyRange) -> Result<(Vec<Source<'static>>, Vec<RangeTombstone>)> {
        let mut tombstones = Vec::new();
        let (mut tables, mut runs) = (Vec::new(), vec![Vec::new(); LEVEL_COUNT]);
        let bounds = range.bounds();
        for (level, file) in plan.inputs.iter().filter(|(_, f)| f.meta.overlaps_range(bounds)) {
            let reader = file.reader(&self.opener)?;
            tombstones.extend(reader.range_tombstones().list().iter().filter_map(|t| range.clip(t)));
            if level.0 == 0 {
                tables.push(Arc::clone(reader));
            } else {
                runs[level.index()].push(Arc::clone(file));
            }
        }
        runs.retain(|files: &Vec<Arc<FileEntry>>| !files.is_empty());
        let read_ahead = ReadAhead::of_merge(tables.len() + runs.len());
        let until: Option<Arc<[u8]>> = range.to.as_deref().map(Arc::from);
        let table = |reader| Source::Table(SstIter::new(reader, read_ahead).until(until.clone()));
        let tables = tables.into_iter().map(table);
        let runs = runs.into_iter().map(|mut files| {
            files.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest));
            Source::Run(Run::new(files, read_ahead).until(until.clone()))
        });
        let sources = tables.chain(runs).collect();
        Ok((sources, tombstones))
    }

    /// Gives a file to another level without rewriting it.
    pub(crate) fn run_move(&self, file: &Arc<FileEntry>, from: Level, to: Level) -> Result<()> {
        self.stats().add(Counter::FilesMoved, 1);
        let edit = VersionEdit {
            deleted: vec![(from, file.meta.number)],
            added: vec![(to, Arc::clone(&file.meta))],
            ..VersionEdit::default()
        };
        let claim = self.claim_manifest()?;
        self.install(&claim, edit).map(drop)
    }

    /// Drops files that hold nothing anybody can see. They were picked under `claim`, so none of them has become busy.
    pub(crate) fn run_drop(&self, claim: &ManifestClaim<'_>, files: Vec<(Level, FileNumber)>) -> Result<()> {
        self.stats().add(Counter::FilesDropped, files.len() as u64);
        self.install(claim, VersionEdit { deleted: files, ..VersionEdit::default() }).map(drop)
    }
}
