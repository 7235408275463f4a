//! `ssd-engine repair DIR`.

use std::path::PathBuf;

use ssd_engine::RepairReport;
use ssd_engine::db::repair::{LOST, LogOutcome};

use crate::cells::Cell;
use crate::report::{Report, Section};
use crate::{FINE, Failure, World, show};

/// What to repair.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The engine's directory. Nobody may have it open.
    dir: PathBuf,
    /// Say what would be done and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Rebuild the manifest even when it is sound and every file that it names can be opened. Files that were obsolete and
    /// not removed yet come back then, and with them rows that were deleted.
    #[arg(long)]
    force: bool,
    /// Report for machines.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(world: &mut World<'_>, arguments: &Arguments) -> Result<u8, Failure> {
    let options = world.options();
    let plan = ssd_engine::plan_repair(&arguments.dir, &options)?;
    if plan.was_sound && !arguments.force {
        let mut report = Report::default();
        report.note("the manifest is sound and every file that it names can be opened: nothing to repair");
        plan.damaged.iter().cloned().for_each(|problem| report.problem(problem));
        report.write(arguments.json, world.out)?;
        return Ok(FINE);
    }
    let done = if arguments.dry_run { plan } else { ssd_engine::repair(&arguments.dir, &options)? };
    let mut report = describe(&done);
    if arguments.dry_run {
        report.note("a dry run: nothing was changed");
    }
    report.write(arguments.json, world.out)?;
    Ok(FINE)
}

fn describe(done: &RepairReport) -> Report {
    let mut report = Report::default();
    let mut section = Section::new("repair");
    section.field("new manifest", done.manifest.as_str());
    match done.log {
        LogOutcome::Missing => section.field("log", "there is none"),
        LogOutcome::Kept { from, records } => {
            section.field("log", format!("{records} records will be replayed from {from}"));
        }
        LogOutcome::Aside => section.field("log", format!("damaged, moved to {LOST}")),
    }
    report.add(section);
    let mut files = Section::table("files", &["level", "file", "bytes"]);
    for (level, number, bytes) in &done.files {
        files.row([Cell::from(level.to_string()), number.to_string().into(), Cell::Size(*bytes)]);
    }
    report.add(files);
    let mut trees = Section::table("trees", &["id", "name", "name lost"]);
    for (id, name) in &done.trees {
        trees.row([Cell::from(id.0), show::bytes(name).into(), Cell::Flag(done.nameless.contains(id))]);
    }
    report.add(trees);
    let mut lost = Section::table("moved to lost", &["file", "why"]);
    for file in &done.lost {
        lost.row([Cell::from(file.name.as_str()), file.why.as_str().into()]);
    }
    report.add(lost);
    if !done.damaged.is_empty() {
        report.note("these files are kept although parts of them are damaged; reads of those parts will fail");
        done.damaged.iter().cloned().for_each(|problem| report.problem(problem));
    }
    report
}
