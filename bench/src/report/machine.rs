//! What a result says of the machine it was made on.

/// Processors, memory and kernel, as far as the system tells.
pub(super) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} × {cpu}, {memory} of memory, {} {}", std::env::consts::OS, kernel.trim())
}

/// A warning when others keep this machine busy; `None` when it is quiet, or does not tell.
#[must_use]
pub fn busy_machine() -> Option<String> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = load.split_whitespace().next()?.parse().ok()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let is_busy = load > 0.25 * cores as f64;
    is_busy
        .then(|| format!("warning: the machine is busy (load {load} on {cores} processors): the results will be noise"))
}
