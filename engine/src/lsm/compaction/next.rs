//! Finds, claims and runs the next compaction: the link between the pure picker and the merge.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{FileNumber, Level};
use crate::base::limits::LEVEL_COUNT;
use crate::error::{Error, Result};
use crate::lsm::Lsm;
use crate::lsm::compaction::pick::{Choice, FileShape, Policy, Shape, pick, pick_manual};
use crate::lsm::compaction::run::MergePlan;
use crate::lsm::stall::StallInput;
use crate::lsm::view::{FileEntry, View};

/// Work that was picked; its inputs are marked busy until [`Lsm::finish_plan`].
enum Plan {
    Merge(MergePlan),
    Move { file: Arc<FileEntry>, from: Level, to: Level },
}

impl Lsm {
    fn policy(&self) -> Policy {
        let memtables = (self.options.memtable_bytes as u64) * 4;
        Policy {
            l0_trigger: 4,
            base_bytes: if self.options.base_level_bytes == 0 { memtables } else { self.options.base_level_bytes },
            multiplier: self.options.level_multiplier.into(),
            input_bytes_max: 25 * self.options.target_file_bytes,
        }
    }

    fn shape(&self, view: &View) -> Shape {
        let busy: HashMap<_, _> = self.busy().list().into_iter().collect();
        let file = |entry: &Arc<FileEntry>| FileShape {
            meta: Arc::clone(&entry.meta),
            busy: busy.contains_key(&entry.meta.number),
        };
        Shape {
            levels: std::array::from_fn(|level| view.levels[level].iter().map(file).collect()),
            l0_sublevels: view.version.sublevels().count(),
        }
    }

    /// Runs the most urgent compaction; whether there was one.
    pub(crate) fn compact_next(&self) -> Result<bool> {
        let plan = {
            let claim = self.claim_manifest()?;
            self.catch_up_claimed(&claim)?;
            self.busy().reap_dead();
            let view = self.local_view();
            let choice = pick(&self.shape(&view), &self.policy());
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
        let choice = pick(&self.shape(&view), &self.policy());
        if !self.has_space_for(&choice, &view) {
            return Err(self.no_space());
        }
        Ok(choice != Choice::Idle)
    }

    /// Merges everything to the last level.
    pub(crate) fn compact_all(&self) -> Result<()> {
        loop {
            self.check_open()?;
            self.look_at_disk();
            let seen = self.control().progress.current();
            let plan = {
                let claim = self.claim_manifest()?;
                self.catch_up_claimed(&claim)?;
                let view = self.local_view();
                if (0..LEVEL_COUNT - 1).all(|level| view.levels[level].is_empty()) {
                    return Ok(());
                }
                let choice = pick_manual(&self.shape(&view));
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
        let (numbers, output): (Vec<FileNumber>, _) = match &choice {
            Choice::Idle => return None,
            Choice::Move { file, to, .. } => (vec![*file], *to),
            Choice::Merge { inputs, output, .. } => (inputs.iter().map(|(_, number)| *number).collect(), *output),
        };
        let files: HashMap<_, _> = view.files().map(|(_, f)| (f.meta.number, Arc::clone(f))).collect();
        let needed: u64 = numbers.iter().map(|n| files[n].meta.size).sum();
        if !self.busy().mark(&numbers, output) {
            return None;
        }
        Some(match choice {
            Choice::Merge { inputs, output, reason } => {
                tracing::debug!(%reason, inputs = inputs.len(), bytes = needed, %output, "compaction");
                let inputs = inputs.into_iter().map(|(level, number)| (level, Arc::clone(&files[&number]))).collect();
                Plan::Merge(MergePlan { inputs, output, view })
            }
            Choice::Move { file, from, to, .. } => Plan::Move { file: Arc::clone(&files[&file]), from, to },
            Choice::Idle => return None,
        })
    }

    fn run_plan(&self, plan: &Plan) -> Result<()> {
        let (result, numbers) = match plan {
            Plan::Merge(plan) => (self.run_merge(plan), plan.inputs.iter().map(|(_, f)| f.meta.number).collect()),
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
            l0_sublevels: shape.l0_sublevels,
            debt_bytes: shape.debt(&self.policy()),
            immutable_memtables: self.memtable_list().len().saturating_sub(1),
            memtables: self.options.memtables,
        })
    }
}
