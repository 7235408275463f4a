//! `ssd-engine verify DIR`.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use ssd_engine::VerifyEvent;

use crate::cells::Cell;
use crate::report::{Report, Section};
use crate::{FINE, Failure, PROBLEMS, World};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The engine's directory.
    dir: PathBuf,
    /// Report for machines.
    #[arg(long)]
    json: bool,
}

/// A bar over bytes; invisible where the output is no terminal.
pub(crate) fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{spinner} {bytes} of {total_bytes} ({bytes_per_sec}, {eta}) {wide_bar}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Runs the subcommand.
pub(crate) fn run(world: &mut World<'_>, arguments: &Arguments) -> Result<u8, Failure> {
    let options = world.options();
    let bar = bar();
    let mut report = Report::default();
    let written = RefCell::new(Ok::<(), io::Error>(()));
    let mut say = |line: String| {
        let outcome = bar.suspend(|| writeln!(world.out, "{line}"));
        if outcome.is_err() {
            *written.borrow_mut() = outcome;
        }
    };
    let verified = ssd_engine::verify(&arguments.dir, &options, &mut |event| match event {
        VerifyEvent::Start { bytes } => bar.set_length(bytes),
        VerifyEvent::Checked { bytes } => bar.inc(bytes),
        VerifyEvent::Problem(problem) if arguments.json => report.problem(problem.clone()),
        VerifyEvent::Problem(problem) => say(problem.to_string()),
        VerifyEvent::Note(text) if arguments.json => report.note(text),
        VerifyEvent::Note(text) => say(format!("note: {text}")),
    });
    bar.finish_and_clear();
    let verified = verified?;
    written.into_inner()?;
    if arguments.json {
        let mut section = Section::new("checked");
        section.field("files", verified.files);
        section.field("bytes", Cell::Size(verified.bytes));
        section.field("log records", verified.log_records);
        section.field("in use", Cell::Flag(verified.in_use_by.is_some()));
        report.add(section);
        report.write(true, world.out)?;
    } else {
        let verdict = match verified.problems {
            0 => "ok".to_owned(),
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        let (files, bytes, records) = (verified.files, verified.bytes, verified.log_records);
        writeln!(world.out, "{verdict}: {files} SSTs with {bytes} bytes, {records} log records")?;
    }
    Ok(if verified.problems == 0 { FINE } else { PROBLEMS })
}
