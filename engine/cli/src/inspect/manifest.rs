//! Shows a manifest: its edits one by one, and the version that results.

use std::sync::Arc;

use ssd_engine::Error;
use ssd_engine::base::ids::Level;
use ssd_engine::env::File;
use ssd_engine::format::version_edit::record::{FileHeader, HEADER_LEN, Outcome, RecordReader};
use ssd_engine::format::version_edit::{FileMeta, TreeEdit, VersionEdit};
use ssd_engine::lsm::check::check;
use ssd_engine::lsm::version::builder::VersionBuilder;

use crate::cells::Cell;
use crate::report::{Report, Section};
use crate::{show, stats};

use super::{Arguments, read_all};

/// Adds what the manifest says.
pub(super) fn show(file: &Arc<dyn File>, arguments: &Arguments, report: &mut Report) -> Result<(), Error> {
    let bytes = read_all(&**file)?;
    let corrupt = |offset, what: String| Error::corruption(file.path(), offset, what);
    let header = FileHeader::decode(&bytes).map_err(|error| corrupt(0, error.to_string()))?;
    let mut head = Section::new("manifest");
    head.field("number", header.number.0);
    head.field("bytes", Cell::Size(bytes.len() as u64));
    head.field("snapshot ends", header.snapshot_end);
    let records = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut reader = RecordReader::new(records, HEADER_LEN as u64, header.number, Some(0), header.snapshot_end);
    let mut edits = Section::table("edits", &["offset", "edit", "item", "what"]);
    let mut builder = VersionBuilder::default();
    let (ending, outcome) = loop {
        match reader.next() {
            Outcome::Record { offset, index, payload } => {
                let applied = VersionEdit::decode(payload).map_err(|error| error.to_string()).and_then(|edit| {
                    items(&edit, &mut |item, what| {
                        let cells = || vec![Cell::from(offset), index.into(), item.into(), what.into()];
                        edits.row_within(arguments.limit, cells);
                    });
                    builder.apply(&edit)
                });
                if let Err(why) = applied {
                    break ("an edit that cannot be applied", Err(corrupt(offset, why)));
                }
            }
            Outcome::CleanEnd => break ("clean", Ok(())),
            Outcome::TornTail { offset } => {
                report.note(format!("the last write, at offset {offset}, was torn by a crash and does not count"));
                break ("torn", Ok(()));
            }
            Outcome::Corrupt { offset, why } => break ("damaged", Err(corrupt(offset, why))),
        }
    };
    head.field("edits", reader.index().unwrap_or(0));
    head.field("ending", ending);
    report.add(head);
    if !arguments.summary {
        report.add(edits);
    }
    if arguments.summary && outcome.is_ok() {
        let version = builder.finish().map_err(|why| corrupt(reader.offset(), why))?;
        stats::describe(&version, true, report);
        for what in check(&version) {
            report.take(Err(corrupt(reader.offset(), what)))?;
        }
    }
    outcome
}

/// Calls `say` with each item of an edit: its name, and what it says.
fn items(edit: &VersionEdit, say: &mut dyn FnMut(&'static str, String)) {
    if let Some(identity) = edit.identity {
        let (uuid, format, created) = (show::hex(&identity.uuid), identity.format, identity.created_unix);
        say("identity", format!("uuid {uuid}, format {format}, created {created}"));
    }
    if let Some(lsn) = edit.durable {
        say("replay from", lsn.to_string());
    }
    let numbers = [
        ("version", edit.version),
        ("next file", edit.next_file),
        ("last seqno", edit.last_seqno.map(|seqno| seqno.0)),
        ("next tree", edit.next_tree),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            say(name, number.to_string());
        }
    }
    for tree in &edit.trees {
        match tree {
            TreeEdit::Created { id, name, .. } => say("create tree", format!("{} \"{}\"", id.0, show::bytes(name))),
            TreeEdit::Dropped { id } => say("drop tree", id.0.to_string()),
        }
    }
    for (level, number) in &edit.deleted {
        say("delete file", format!("{level} {number}"));
    }
    for (level, file) in &edit.added {
        say("add file", added(*level, file));
    }
    for (level, key) in &edit.cursors {
        say("cursor", format!("{level} {}", if key.is_empty() { "start".to_owned() } else { show::key(key) }));
    }
}

fn added(level: Level, file: &FileMeta) -> String {
    let FileMeta { number, size, entries, smallest_seqno: from, largest_seqno: to, .. } = file;
    let (smallest, largest) = (show::key(&file.smallest), show::key(&file.largest));
    let end = if file.largest_exclusive { " (exclusive)" } else { "" };
    format!("{level} {number}: {size} bytes, {entries} entries, seqnos {from}-{to}, {smallest} to {largest}{end}")
}
