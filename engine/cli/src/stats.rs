//! `ssd-engine stats DIR`: what the manifest says. Also shows a version for `inspect MANIFEST --summary`.

use std::path::PathBuf;

use ssd_engine::base::ids::Level;
use ssd_engine::base::limits::LEVEL_COUNT;
use ssd_engine::db::open::LOCK;
use ssd_engine::lsm::version::Version;
use ssd_engine::lsm::version::builder::load;

use crate::cells::Cell;
use crate::report::{Report, Section};
use crate::{FINE, Failure, World, show};

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The engine's directory.
    dir: PathBuf,
    /// List the files of each level.
    #[arg(long)]
    files: bool,
    /// Report for machines.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(world: &mut World<'_>, arguments: &Arguments) -> Result<u8, Failure> {
    let mut report = Report::default();
    if let Some(holder) = world.env.lock_holder(&arguments.dir.join(LOCK))? {
        report.note(format!("the directory is in use by {holder}; this is how it was a moment ago"));
    }
    let (version, loaded) = load(world.env, &arguments.dir)?;
    if let Some(offset) = loaded.torn {
        report.note(format!("the manifest's last edit, at offset {offset}, was torn by a crash and does not count"));
    }
    describe(&version, arguments.files, &mut report);
    report.write(arguments.json, world.out)?;
    Ok(FINE)
}

/// Adds the sections that show `version`.
pub(crate) fn describe(version: &Version, with_files: bool, report: &mut Report) {
    let mut head = Section::new("version");
    head.field("number", version.number);
    if let Some(identity) = version.identity {
        head.field("uuid", show::hex(&identity.uuid));
        head.field("format", identity.format);
        head.field("created", identity.created_unix);
    }
    head.field("replay from", version.durable);
    head.field("last seqno", version.last_seqno);
    head.field("next file", version.next_file);
    head.field("next tree", version.next_tree);
    head.field("files", version.file_count());
    head.field("bytes", Cell::Size(version.total_bytes()));
    head.field("sorted runs", version.read_amplification());
    report.add(head);
    report.add(levels(version));
    let mut trees = Section::table("trees", &["id", "name"]);
    for (id, tree) in version.trees.iter() {
        trees.row([Cell::from(id.0), show::bytes(&tree.name).into()]);
    }
    report.add(trees);
    if with_files {
        report.add(files(version));
    }
}

fn levels(version: &Version) -> Section {
    let mut section = Section::table("levels", &["level", "files", "bytes", "entries", "deletes", "range deletes"]);
    for level in (0..LEVEL_COUNT as u8).map(Level) {
        let files = version.level(level);
        let sum = |of: fn(&ssd_engine::format::version_edit::FileMeta) -> u64| files.iter().map(|f| of(f)).sum::<u64>();
        section.row([
            Cell::from(level.to_string()),
            files.len().into(),
            Cell::Size(version.level_bytes(level)),
            sum(|f| f.entries).into(),
            sum(|f| f.deletes).into(),
            sum(|f| f.range_deletes).into(),
        ]);
    }
    section
}

fn files(version: &Version) -> Section {
    const COLUMNS: &[&str] = &["level", "file", "bytes", "entries", "deletes", "seqnos", "smallest", "largest"];
    let mut section = Section::table("files", COLUMNS);
    for (level, file) in version.files() {
        section.row([
            Cell::from(level.to_string()),
            file.number.to_string().into(),
            Cell::Size(file.size),
            file.entries.into(),
            file.deletes.into(),
            format!("{}-{}", file.smallest_seqno, file.largest_seqno).into(),
            Cell::Key(file.smallest.clone()),
            Cell::Key(file.largest.clone()),
        ]);
    }
    section
}
