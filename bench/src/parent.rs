//! The parent process: walks the plan and starts a child for each step and store, in turns.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;
use crate::cgroup::MemoryCgroup;
use crate::plan::{DataSet, Planned};
use crate::spec::{Measured, Spec};

/// What to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The plan.
    pub sets: Vec<DataSet>,
    /// Names of the stores.
    pub stores: Vec<String>,
    /// How often everything is repeated.
    pub repetitions: usize,
    /// Where the stores' directories go; emptied before and after.
    pub dir: PathBuf,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Run {
    /// The step's name.
    pub workload: String,
    /// The store's name.
    pub store: String,
    /// Which repetition, from 0.
    pub repetition: usize,
    /// What was measured.
    pub measured: Measured,
}

/// Everything that came out.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The measurements.
    pub runs: Vec<Run>,
    /// What went wrong, in words.
    pub failures: Vec<String>,
    /// Whether memory was capped where the plan asks for it; why not otherwise.
    pub uncapped: Option<String>,
}

/// How long one child may take.
const CHILD_TIME_MAX: Duration = Duration::from_secs(900);

/// Runs the job.
///
/// # Errors
/// When directories cannot be made or removed; what goes wrong in a child is part of the results.
pub fn run(job: &Job) -> Result<Results> {
    let mut results = Results::default();
    let steps: usize = job.sets.iter().map(|set| set.steps.len()).sum();
    let bar = ProgressBar::new((steps * job.stores.len() * job.repetitions) as u64);
    let style = ProgressStyle::with_template("{spinner} [{pos}/{len}] {elapsed}, {eta} to go: {wide_msg}")?;
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    clear(&job.dir)?;
    for repetition in 0..job.repetitions {
        for set in &job.sets {
            run_set(job, set, repetition, &bar, &mut results)?;
            clear(&job.dir)?;
        }
    }
    fs::remove_dir_all(&job.dir)?;
    bar.finish_and_clear();
    Ok(results)
}

/// Leaves `dir` existing and empty.
fn clear(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::create_dir_all(dir)?)
}

fn run_set(job: &Job, set: &DataSet, repetition: usize, bar: &ProgressBar, results: &mut Results) -> Result<()> {
    // A store that failed has no rows for the steps that follow.
    let mut failed = BTreeSet::new();
    for step in &set.steps {
        let mut shown = Vec::new();
        for turn in 0..job.stores.len() {
            // Each repetition starts with another store, so that none always runs on a freshly trimmed device.
            let store = &job.stores[(turn + repetition) % job.stores.len()];
            bar.set_message(format!("{} {store}", step.workload));
            if failed.contains(store) {
                bar.inc(1);
                continue;
            }
            match run_step(job, set, step, store, repetition, results) {
                Ok(measured) => {
                    shown.push(format!("{store} {:.0}/s", measured.ops_per_second()));
                    if !step.silent {
                        let (workload, store) = (step.workload.clone(), store.clone());
                        results.runs.push(Run { workload, store, repetition, measured });
                    }
                }
                Err(error) => {
                    failed.insert(store.clone());
                    bar.suspend(|| crate::report::tell(&format!("{} {store}: FAILED: {error}", step.workload)));
                    results.failures.push(format!("{} {store}: {error}", step.workload));
                }
            }
            bar.inc(1);
        }
        bar.suspend(|| crate::report::tell(&format!("{:<36} {}", step.workload, shown.join(", "))));
    }
    Ok(())
}

fn run_step(
    job: &Job,
    set: &DataSet,
    step: &Planned,
    store: &str,
    repetition: usize,
    results: &mut Results,
) -> Result<Measured> {
    let dir = job.dir.join(if step.alone { format!("{store}-alone") } else { store.to_owned() });
    if step.alone && dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let cgroup = match set.memory_max.map(|max| MemoryCgroup::new(store, max)).transpose() {
        Ok(cgroup) => cgroup,
        Err(error) => {
            results.uncapped = Some(error.to_string());
            None
        }
    };
    let spec = Spec {
        store: store.to_owned(),
        dir: dir.clone(),
        step: step.step,
        rows: set.rows,
        value_len: set.value_len,
        threads: step.threads,
        seconds: step.seconds,
        warm: step.warm,
        settings: set.settings,
        cgroup: cgroup.as_ref().map(|c| c.path().to_owned()),
        seed: 1 + repetition as u64,
    };
    let measured = run_child(&spec);
    if step.alone {
        fs::remove_dir_all(&dir)?;
    }
    measured
}

fn run_child(spec: &Spec) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").arg(serde_json::to_string(spec)?);
    // The child ends itself when its standard input closes; see child.rs.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    let out = wait(&mut child, &out)?;
    let status = child.wait()?;
    if status.success() {
        return Ok(serde_json::from_str(out.trim())?);
    }
    let message = err.recv().unwrap_or_default();
    Err(format!("{status}: {}", message.trim().lines().last().unwrap_or("")).into())
}

/// Waits for the end of the child's output; ends the child when it takes too long.
fn wait(child: &mut Child, out: &mpsc::Receiver<String>) -> Result<String> {
    out.recv_timeout(CHILD_TIME_MAX).map_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
        format!("took more than {} s", CHILD_TIME_MAX.as_secs()).into()
    })
}

/// Reads a pipe to its end on a thread.
fn reader(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_string(&mut text);
        }
        let _ = sender.send(text);
    });
    receiver
}
