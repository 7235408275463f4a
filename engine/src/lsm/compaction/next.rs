//! Finds, claims and runs the next compaction: the link between the pure picker and the merge.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{FileNumber, Level};
use crate::base::limits::LEVEL_COUNT;
use crate::error::{Error, Result};
use crate::lsm::Lsm;
use crate::lsm::compaction::choice::Choice;
use crate::lsm::compaction::pick::{pick, pick_manual, pick_rewrite};
use crate::lsm::compaction::run::MergePlan;
use crate::lsm::compaction::shape::{Deleted, Shape};
use crate::lsm::compaction::targets::Policy;
use crate::lsm::hosted::Job;
use crate::lsm::stall::StallInput;
use crate::lsm::view::{FileEntry, View};

/// Range tombstones that the picker is shown at most: it looks at each of them for each file.
const DELETED_MAX: usize = 1024;

/// Work that was picked; its inputs are marked busy until [`Lsm::finish_plan`].
enum Plan {
    Merge(MergePlan),
    Move { file: Arc<FileEntry>, from: Level, to: Level },
}

impl Lsm {
    fn policy(&self) -> Policy {
        Policy::new(&self.options)
    }

    fn shape(&self, view: &View) -> Shape {
        let levels = std::array::from_fn(|level| view.levels[level].iter().map(|f| Arc::clone(&f.meta)).collect());
        Shape::new(levels, view.version.sublevels().clone(), self.busy().list())
    }

    /// The shape with what is deleted for every reader.
    fn shape_with_deletes(&self, view: &View) -> Result<Shape> {
        let mut shape = self.shape(view);
        // Nobody will read at less than the oldest of these, see `live_snapshots`.
        shape.seen_by_all = self.live_snapshots().first().copied().unwrap_or_default();
        if view.range_delete_files.is_empty() {
            return Ok(shape);
        }
        for (level, file) in view.files().filter(|(_, f)| f.meta.range_deletes > 0) {
            let list = file.reader(&self.opener)?.range_tombstones().list();
            let seen = list.iter().filter(|range| range.seqno <= shape.seen_by_all);
            let room = DELETED_MAX.saturating_sub(shape.deleted.len());
            shape.deleted.extend(seen.take(room).map(|range| Deleted {
                level,
                file: file.meta.number,
                range: range.clone(),
            }));
        }
        shape.deleted.sort_by(|a, b| a.range.start.cmp(&b.range.start));
        Ok(shape)
    }

    /// Runs the most urgent compaction; whether there was one.
    pub(crate) fn compact_next(&self) -> Result<bool> {
        let plan = {
            let claim = self.claim_manifest()?;
            self.catch_up_claimed(&claim)?;
            self.busy().reap_dead();
            let view = self.local_view();
            let choice = pick(&self.shape_with_deletes(&view)?, &self.policy());
            if let Choice::Drop { files, reason } = choice {
                tracing::debug!(%reason, files = files.len(), "files dropped");
                return self.run_drop(&claim, files).map(|()| true);
            }
            if !self.has_space_for(&choice, &view) {
                return Ok(false);
            }
            self.start_plan(choice, view)
        };
        plan.map_or(Ok(false), |plan| self.run_plan(&plan).map(|()| true))
    }

    /// Whether a flush or compaction is under way or due.
    ///
    /// # Errors
    /// I/O: a compaction is due, nothing is under way, and there is no space for it.
    pub(crate) fn has_work(&self) -> Result<bool> {
        let view = self.view_full()?;
        if self.memtable_list().len() > 1 || !self.busy().list().is_empty() {
            return Ok(true);
        }
        let _pin = self.pin_reader();
        let choice = pick(&self.shape_with_deletes(&view)?, &self.policy());
        if !self.has_space_for(&choice, &view) {
            return Err(self.no_space());
        }
        Ok(choice != Choice::Idle)
    }

    /// Merges everything to the last level, and rewrites what was there before and may hold garbage.
    pub(crate) fn compact_all(&self) -> Result<()> {
        let made_before = FileNumber(self.control().next_file.load(Ordering::Relaxed));
        loop {
            self.check_open()?;
            self.look_at_disk();
            let seen = self.control().progress.current();
            let plan = {
                let claim = self.claim_manifest()?;
                self.catch_up_claimed(&claim)?;
                let view = self.local_view();
                let choice = if (0..LEVEL_COUNT - 1).all(|level| view.levels[level].is_empty()) {
                    let Some(choice) = pick_rewrite(&self.shape(&view), made_before) else { return Ok(()) };
                    choice
                } else {
                    pick_manual(&self.shape(&view))
                };
                // What is under way may free what this one lacks.
                match self.has_space_for(&choice, &view) {
                    true => self.start_plan(choice, view),
                    false if self.busy().list().is_empty() => return Err(self.no_space()),
                    false => None,
                }
            };
            match plan {
                Some(plan) => self.run_plan(&plan)?,
                None => self.await_progress(seen)?,
            }
        }
    }

    /// Whether the disk can hold what `choice` will write, beside the reserve.
    fn has_space_for(&self, choice: &Choice, view: &View) -> bool {
        let Choice::Merge { inputs, .. } = choice else { return true };
        let numbers: Vec<_> = inputs.iter().map(|(_, number)| *number).collect();
        let needed: u64 =
            view.files().map(|(_, f)| &f.meta).filter(|m| numbers.contains(&m.number)).map(|m| m.size).sum();
        let free = self.control().disk_free.load(Ordering::Relaxed);
        let fits = free == u64::MAX || free.saturating_sub(self.options.disk_reserve_bytes) >= needed;
        if !fits {
            tracing::debug!(needed, free, "no space for a compaction");
        }
        fits
    }

    /// What somebody is told who waits for a compaction that the disk cannot hold.
    fn no_space(&self) -> Error {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        Error::io(&self.dir, "compact: free more space under", source)
    }

    /// Marks the inputs of `choice` busy. `None` when there is nothing to do or too much is under way.
    fn start_plan(&self, choice: Choice, view: Arc<View>) -> Option<Plan> {
        let output = choice.output()?;
        let numbers: Vec<FileNumber> = choice.files().into_iter().map(|(_, number)| number).collect();
        let files: HashMap<_, _> = view.files().map(|(_, f)| (f.meta.number, Arc::clone(f))).collect();
        let needed: u64 = numbers.iter().map(|n| files[n].meta.size).sum();
        if !self.busy().mark(&numbers, output) {
            return None;
        }
        Some(match choice {
            Choice::Merge { inputs, output, reason } => {
                tracing::debug!(%reason, inputs = inputs.len(), bytes = needed, %output, "compaction");
                let inputs = inputs.into_iter().map(|(level, number)| (level, Arc::clone(&files[&number]))).collect();
                Plan::Merge(MergePlan { inputs, output, view, apart: Vec::new() })
            }
            Choice::Move { file, from, to, .. } => Plan::Move { file: Arc::clone(&files[&file]), from, to },
            Choice::Idle | Choice::Drop { .. } => return None,
        })
    }

    fn run_plan(&self, plan: &Plan) -> Result<()> {
        let (result, numbers) = match plan {
            Plan::Merge(plan) => {
                let bytes = plan.inputs.iter().map(|(_, f)| f.meta.size).sum();
                let job = Job::Merge { files: plan.inputs.len(), bytes, output: plan.output };
                let merge = || self.run_merge(plan, self.options.background_threads as u64);
                (self.working(job, merge), plan.inputs.iter().map(|(_, f)| f.meta.number).collect())
            }
            Plan::Move { file, from, to } => (self.run_move(file, *from, *to), vec![file.meta.number]),
        };
        let numbers: Vec<FileNumber> = numbers;
        self.busy().clear(&numbers);
        self.control().progress.notify();
        self.control().work.notify();
        result
    }

    /// What the stall decision looks at.
    pub(crate) fn stall_input(&self) -> Result<StallInput> {
        let view = self.view_full()?;
        let shape = self.shape(&view);
        Ok(StallInput {
            l0_sublevels: shape.sublevels.count(),
            debt_bytes: shape.debt(&self.policy()),
            immutable_memtables: self.memtable_list().len().saturating_sub(1),
            memtables: self.options.memtables,
        })
    }
}

#[cfg(test)]
mod tests;
