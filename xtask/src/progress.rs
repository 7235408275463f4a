//! Showing how far long work has come: a bar over the steps of a verb, and one line for each step that is done.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The bar of one verb. Where the output is no terminal only the lines of finished steps appear.
pub(crate) struct Progress {
    bar: ProgressBar,
    step_start: Instant,
}

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

impl Progress {
    /// A bar over `steps` steps.
    pub(crate) fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{spinner} [{pos}/{len}] {elapsed} {prefix}: {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(TICK);
        Self { bar, step_start: Instant::now() }
    }

    /// Starts the next step.
    pub(crate) fn start(&mut self, name: &str) {
        self.step_start = Instant::now();
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
    }

    /// What the step is doing right now.
    pub(crate) fn note(&self, text: &str) {
        self.bar.set_message(text.trim().to_owned());
    }

    /// Ends the step with a line that says how it went.
    pub(crate) fn done(&mut self, name: &str, verdict: &str) {
        let seconds = self.step_start.elapsed().as_secs_f64();
        self.line(&format!("{name:<28} {verdict} ({seconds:.1} s)"));
        self.bar.inc(1);
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
