//! Running another program: its output goes to a log and to the progress bar, and to the screen when it fails.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::workspace::Workspace;

/// How a program ended.
pub(crate) struct Ending {
    /// Whether its exit code was zero.
    pub(crate) ok: bool,
    /// Everything it printed, both streams, in the order of arrival.
    pub(crate) lines: Vec<String>,
    /// The file that holds the same.
    pub(crate) log: PathBuf,
}

impl Ending {
    /// Shows the end of the output, where the reason of a failure stands, and names the log.
    pub(crate) fn show(&self, progress: &Progress) {
        const SHOWN: usize = 60;
        let from = self.lines.len().saturating_sub(SHOWN);
        for line in &self.lines[from..] {
            progress.line(&format!("    {line}"));
        }
        progress.line(&format!("    (all of it: {})", self.log.display()));
    }
}

/// Runs `command` to its end; `name` names its log.
///
/// # Errors
/// When it cannot be started, or its log not be written.
pub(crate) fn captured(workspace: &Workspace, progress: &Progress, name: &str, mut command: Command) -> Result<Ending> {
    let log = log_path(workspace, name)?;
    let mut log_file = File::create(&log).map_err(|e| Failure::file(&log, "create", &e))?;
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| Failure::new(format!("could not start {:?}: {e}", command.get_program())))?;

    let (sender, lines_in) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| forward(pipe, sender.clone())),
        child.stderr.take().map(|pipe| forward(pipe, sender)),
    ];
    let mut lines = Vec::new();
    for line in lines_in {
        writeln!(log_file, "{line}").map_err(|e| Failure::file(&log, "write", &e))?;
        if !line.trim().is_empty() {
            progress.note(&line);
        }
        lines.push(line);
    }
    for reader in readers.into_iter().flatten() {
        reader.join().map_err(|_| Failure::new("the reader of a program's output panicked"))?;
    }
    let status = child.wait().map_err(|e| Failure::new(format!("could not wait for {name}: {e}")))?;
    Ok(Ending { ok: status.success(), lines, log })
}

/// Sends each line of `pipe` until it ends.
fn forward(pipe: impl Read + Send + 'static, lines: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            if lines.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                return;
            }
        }
    })
}

fn log_path(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let dir = workspace.target_dir().join("xtask");
    fs::create_dir_all(&dir).map_err(|e| Failure::file(&dir, "create", &e))?;
    Ok(dir.join(format!("{}.log", name.replace([' ', '/', ':'], "-"))))
}

/// Runs `command` with the screen as its own, for programs that show their own progress and last line.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn inherited(mut command: Command) -> Result<bool> {
    let status = command.status();
    let status = status.map_err(|e| Failure::new(format!("could not start {:?}: {e}", command.get_program())))?;
    Ok(status.success())
}
