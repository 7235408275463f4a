//! Carries out a compaction that was picked: read, merge, drop, write, install.
//!
//! A compaction holds no lock while it reads and writes: its inputs are marked busy, so nobody else touches them, and its
//! outputs are unknown to anybody until the edit that installs them. When it fails, or its process dies, the outputs are
//! orphans and the inputs are as they were.

use std::sync::Arc;

use crate::base::ids::{FileNumber, Level};
use crate::base::key::Trailer;
use crate::base::limits::LEVEL_COUNT;
use crate::error::Result;
use crate::format::range_del::{RangeTombstone, RangeTombstones};
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::lsm::Lsm;
use crate::lsm::compaction::drop_rule::{DropRule, Verdict};
use crate::lsm::merge::{Direction, Merge, ReadContext, Run, Source};
use crate::lsm::output::Output;
use crate::lsm::rate_limit::Priority;
use crate::lsm::stats::Counter;
use crate::lsm::view::{FileEntry, View};
use crate::sst::iter::{ReadAhead, SstIter};

/// Entries between two looks at the rate limit and at whether the engine still wants the work.
const PACE_EVERY: u32 = 256;

/// A merge that was picked and whose inputs are marked busy.
pub struct MergePlan {
    /// Input files with their levels.
    pub inputs: Vec<(Level, Arc<FileEntry>)>,
    /// Where the outputs go.
    pub output: Level,
    /// The version that was looked at; its deeper levels cannot change under the inputs' keys while those are busy.
    pub view: Arc<View>,
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

/// Ends an output file where it would overlap too much of the next level, or is large enough.
struct Cuts {
    target_bytes: u64,
    /// Smallest keys of the files two levels down, with their sizes, ascending.
    grandparents: Vec<(Vec<u8>, u64)>,
    at: usize,
    overlapped: u64,
}

impl Cuts {
    fn new(lsm: &Lsm, plan: &MergePlan) -> Self {
        let below = plan.output.index() + 1;
        let grandparents = plan.view.levels.get(below).map_or(&[][..], Vec::as_slice);
        let grandparents = grandparents.iter().map(|f| (f.meta.smallest.clone(), f.meta.size)).collect();
        Self { target_bytes: lsm.options.target_file_bytes, grandparents, at: 0, overlapped: 0 }
    }

    /// Whether the file with `bytes` should end before `key`, the first entry of a new full key.
    fn before(&mut self, key: &[u8], bytes: u64) -> bool {
        let mut crossed = false;
        while self.grandparents.get(self.at).is_some_and(|(smallest, _)| smallest.as_slice() <= key) {
            self.overlapped += self.grandparents[self.at].1;
            self.at += 1;
            crossed = true;
        }
        // At a boundary of the next level a file may end early, so that later compactions meet fewer files.
        let cut = bytes >= self.target_bytes
            || (crossed && (bytes >= self.target_bytes / 2 || self.overlapped > 10 * self.target_bytes) && bytes > 0);
        if cut {
            self.overlapped = 0;
        }
        cut
    }
}

impl Lsm {
    /// Runs a picked merge and installs its outputs.
    pub(crate) fn run_merge(&self, plan: &MergePlan) -> Result<()> {
        let files = self.merge_files(plan)?;
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

    fn merge_files(&self, plan: &MergePlan) -> Result<Vec<Arc<FileMeta>>> {
        // Read after the inputs were chosen: they hold nothing that is newer than what was visible before this.
        let snapshots = self.live_snapshots();
        let mut below = Below::new(plan);
        let (sources, tombstones) = self.merge_inputs(plan)?;
        let covering = RangeTombstones::new(tombstones.clone());
        let mut rule = DropRule::new(snapshots);
        let needed = |t: &RangeTombstone| rule.keeps_range_tombstone(t.seqno, !below.may_overlap(&t.start, &t.end));
        let kept = tombstones.into_iter().filter(needed).collect();
        let mut output = Output::new(self, Priority::Compaction, kept);
        let mut cuts = Cuts::new(self, plan);
        let context = ReadContext { cache: &self.cache, opener: &self.opener };
        let mut merge = Merge::new(sources, Direction::Forward, context);
        merge.seek(&[], Trailer::MAX)?;
        let mut last_key: Vec<u8> = Vec::new();
        let (mut bottommost, mut since_pace) = (false, 0);
        while merge.valid() {
            let (key, trailer) = (merge.key(), merge.trailer());
            let new_key = key != last_key;
            if new_key {
                last_key.clear();
                last_key.extend_from_slice(key);
                bottommost = !below.may_have(key);
                if cuts.before(key, output.current_bytes()) {
                    output.cut(key)?;
                }
            }
            match rule.judge(new_key, trailer, |bound| covering.covering_seqno(key, bound), bottommost) {
                Verdict::Keep => output.add(key, trailer, merge.value())?,
                Verdict::KeepZeroSeqno => output.add(key, trailer.without_seqno(), merge.value())?,
                Verdict::Drop => {}
            }
            if merge.is_cached() {
                output.note_cached();
            }
            merge.advance()?;
            since_pace += 1;
            if since_pace == PACE_EVERY {
                since_pace = 0;
                self.check_open()?;
                output.pace();
            }
        }
        output.finish()
    }

    /// The inputs as sources, and their range tombstones.
    fn merge_inputs(&self, plan: &MergePlan) -> Result<(Vec<Source<'static>>, Vec<RangeTombstone>)> {
        let mut sources = Vec::new();
        let mut tombstones = Vec::new();
        let mut runs: Vec<Vec<Arc<FileEntry>>> = vec![Vec::new(); LEVEL_COUNT];
        for (level, file) in &plan.inputs {
            let reader = file.reader(&self.opener)?;
            tombstones.extend_from_slice(reader.range_tombstones().list());
            if level.0 == 0 {
                sources.push(Source::Table(SstIter::new(Arc::clone(reader), ReadAhead::Compaction)));
            } else {
                runs[level.index()].push(Arc::clone(file));
            }
        }
        for mut files in runs.into_iter().filter(|files| !files.is_empty()) {
            files.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest));
            sources.push(Source::Run(Run::new(files, ReadAhead::Compaction)));
        }
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

    #[expect(dead_code, reason = "the picker that asks for it is on its way")]
    /// Drops files that hold nothing anybody can see.
    pub(crate) fn run_drop(&self, files: &[(Level, FileNumber)]) -> Result<()> {
        self.stats().add(Counter::FilesDropped, files.len() as u64);
        let edit = VersionEdit { deleted: files.to_vec(), ..VersionEdit::default() };
        let claim = self.claim_manifest()?;
        self.install(&claim, edit).map(drop)
    }
}
