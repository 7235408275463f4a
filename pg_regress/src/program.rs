//! Running another program to its end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{fs, thread};

use crate::failure::{Failure, Result};

/// Lines of a program's output that a failure shows.
const SHOWN: usize = 15;

/// Runs a program and returns what it printed, whether it succeeded or not.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|e| not_started(command, &e))
}

/// Runs a program and returns its standard output.
///
/// # Errors
/// When it cannot be started, or ends with another code than zero; says what it was to do.
pub fn checked(command: &mut Command, what: &str) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(Failure::new(format!("could not {what}: {:?} {}\n{}", command.get_program(), output.status, last_lines(&said))))
}

/// Runs a program, its output in a log and each line handed to `seen`; `false` when its code is not zero.
///
/// # Errors
/// When it cannot be started, or its log not be written.
pub fn followed(command: &mut Command, log: &Path, mut seen: impl FnMut(&str)) -> Result<bool> {
    let mut file = fs::File::create(log).map_err(|e| Failure::file(log, "create", &e))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| not_started(command, &e))?;
    // Standard error is read beside, so that a full pipe does not stop the program.
    let errors = child.stderr.take().map(|pipe| {
        thread::spawn(move || BufReader::new(pipe).split(b'\n').map_while(std::result::Result::ok).collect::<Vec<_>>())
    });
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')) {
        let line = line.map_err(|e| Failure::file(log, "read the output for", &e))?;
        let line = String::from_utf8_lossy(&line);
        writeln!(file, "{line}").map_err(|e| Failure::file(log, "write", &e))?;
        seen(&line);
    }
    for line in errors.and_then(|reader| reader.join().ok()).into_iter().flatten() {
        let line = String::from_utf8_lossy(&line);
        writeln!(file, "{line}").map_err(|e| Failure::file(log, "write", &e))?;
        seen(&line);
    }
    let status = child.wait().map_err(|e| Failure::file(log, "wait for the writer of", &e))?;
    Ok(status.success())
}

/// A program that sends a signal, as in `-KILL`, to processes: the shell, since `kill` as a program is part of a package that not every
/// machine has.
pub fn kill<P: AsRef<OsStr>>(signal: &str, pids: &[P]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "kill \"$@\"", "sh", signal]).args(pids);
    command
}

/// The end of a text, where the reason of a failure stands.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// Whether a program by this name is on the PATH.
pub fn is_installed(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn not_started(command: &Command, source: &std::io::Error) -> Failure {
    Failure::new(format!("could not start {:?}: {source}", command.get_program()))
}
